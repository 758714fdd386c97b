# shellcheck shell=bash
# Sourced by tests that need several machines: hosts on this one, each a network
# namespace with an address and a name of its own, that reach each other through
# this one:
#
#   this machine 10.77.1.1 --- 10.77.1.2 host1
#                10.77.2.1 --- 10.77.2.2 host2
#
# `hosts` are these two, unless it is set after this is read: host3, and so on.
# `$undone`, set before, says what was not done where that cannot be. `$folder`
# goes away at the end, and with it all that runs on the hosts or in the
# background; its logs are shown where something fails.

hosts=(host1 host2)
starting=yes

# 77, with the reason: this machine lacks something.
skip() {
  printf 'SKIPPED: %s: %s\n' "$undone" "$*"
  exit 77
}
fail() {
  find "$folder" -maxdepth 2 -name '*.log' -o -maxdepth 2 -name '*.out' \
    | xargs -r tail -v -n 20 >&2
  [[ -z $starting ]] || skip "$*"
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}
# until_true SECONDS WHAT COMMAND...
until_true() {
  local begin=$SECONDS seconds=$1 what=$2
  shift 2
  until "$@"; do
    [[ $((SECONDS - begin)) -lt $seconds ]] || fail "waited $seconds s for $what"
    sleep 0.1
  done
}
# need PACKAGES PROGRAM...
need() {
  local packages=$1 program
  shift
  for program in "$@"; do
    command -v "$program" > /dev/null || skip "no $program (Debian: $packages)"
  done
}

# stand_apart ARGUMENT...: begins the script again with these, in namespaces of
# its own, which go away with it.
stand_apart() {
  local apart=(unshare --net --mount --propagation private)
  need "iproute2 util-linux" ip unshare nsenter
  [[ $(id -u) -eq 0 ]] || skip "hosts are made as root only"
  if [[ -z ${CATENA_TEST_APART:-} ]]; then
    "${apart[@]}" true 2> /dev/null \
      || skip "this machine allows no network namespaces"
    CATENA_TEST_APART=yes exec "${apart[@]}" "$0" "$@"
  fi
  unset CATENA_TEST_APART
  mount -t tmpfs tmpfs /run || skip "no file system can be mounted"
  folder=$(mktemp -d)
  trap end_all EXIT
}

end_all() {
  local host
  exec 2> /dev/null
  for host in "${hosts[@]}"; do
    ip netns pids "$host" | xargs -r kill -9
  done
  jobs -pr | xargs -r kill -9
  wait
  rm -rf "$folder"
}

make_hosts() {
  cp /etc/hosts "$folder/hosts"
  (
    ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward
    for host in "${hosts[@]}"; do
      i=${host#host}
      ip netns add "$host" \
        && ip link add "to-$host" type veth peer name eth0 netns "$host" \
        && ip addr add "10.77.$i.1/24" dev "to-$host" \
        && ip link set "to-$host" up \
        && ip -n "$host" addr add "10.77.$i.2/24" dev eth0 \
        && ip -n "$host" link set lo up && ip -n "$host" link set eth0 up \
        && ip -n "$host" route add default via "10.77.$i.1" \
        && on "$host" true || exit 1
      echo "10.77.$i.2 $host" >> "$folder/hosts"
    done
  ) > "$folder/network.log" 2>&1 || fail "no hosts can be made here"
  mount --bind "$folder/hosts" /etc/hosts || fail "/etc/hosts cannot be replaced"
}

# on HOST COMMAND...: there, and by that name. It becomes the command.
on() {
  local host=$1
  shift
  # shellcheck disable=SC2016
  # Not `ip netns exec`, whose /sys has no cgroups, which slurmd wants.
  nsenter --net="/run/netns/$host" unshare --uts \
    sh -c 'hostname "$1" && shift && exec "$@"' sh "$host" "$@"
}

# processes HOST NAME: those there of this program.
processes() {
  local process
  for process in $(ip netns pids "$1"); do
    [[ $(cat "/proc/$process/comm" 2> /dev/null) != "$2" ]] || echo "$process"
  done
}
none_of() { [[ -z $(processes "$1" "$2") ]]; }

# A real sshd on each host, which has mounts of its own, and an `ssh` that gets
# there without being asked.
serve_ssh() {
  local host key
  mkdir -p /run/sshd && mkdir -m 700 "$folder/bin"
  for key in host user; do
    ssh-keygen -q -t ed25519 -N '' -f "$folder/$key-key"
  done
  cp "$folder/user-key.pub" "$folder/authorized"
  # What a user's shell does at its start is none of ours.
  [[ ! -e ~/.bashrc ]] || mount --bind /dev/null ~/.bashrc
  cat > "$folder/sshd.conf" << END
HostKey $folder/host-key
AuthorizedKeysFile $folder/authorized
PasswordAuthentication no
PermitRootLogin yes
PidFile none
StrictModes no
UsePAM no
END
  for host in "${hosts[@]}"; do
    echo "$host,10.77.${host#host}.2 $(cut -d ' ' -f 1,2 "$folder/host-key.pub")" \
      >> "$folder/known"
    on "$host" unshare --mount "$(command -v sshd)" -D -e -f "$folder/sshd.conf" \
      -o "ListenAddress=10.77.${host#host}.2" > "$folder/sshd-$host.log" 2>&1 &
    disown
  done
  cat > "$folder/bin/ssh" << END
#!/bin/sh
exec $(command -v ssh) -F none -i $folder/user-key -o StrictHostKeyChecking=yes \\
  -o UserKnownHostsFile=$folder/known "\$@"
END
  chmod +x "$folder/bin/ssh"
  PATH=$folder/bin:$PATH
  for host in "${hosts[@]}"; do
    until_true 60 "sshd of $host" reached "$host"
  done
}
# there HOST COMMAND...: with the mounts of its sshd.
there() {
  local host=$1
  shift
  nsenter --mount --target "$(processes "$host" sshd | head -n 1)" "$@"
}
reached() { ssh -o BatchMode=yes "$1" true 2> "$folder/reached.log"; }

# losses RUN: by step. Steps that are taken again have the same.
losses() {
  grep '"train":' "$1/metrics.jsonl" \
    | grep -o '"catena_step":[0-9]*\|"train":[0-9.]*' | paste - - | sort -Vu
}
# at_step RUN STEP
at_step() { grep -qs "\"catena_step\":$2," "$1/metrics.jsonl"; }
# The step of the newest checkpoint of a run.
saved_step() {
  local name
  name=$(find "$1/checkpoints" -maxdepth 1 -name 'step-??????' -printf '%f\n' | sort | tail -n 1)
  echo "$((10#${name#step-}))"
}
