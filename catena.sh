#!/usr/bin/env bash
# Installs what is missing, builds, tests and runs Catena; ./catena.sh help.
# Asks nothing and reads no standard input.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec < /dev/null

jobs=$(nproc)
stage="starting"

# An object is found in the cache wherever the sources lie.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

say() { printf 'catena.sh: %s\n' "$*"; }

die() {
  printf 'catena.sh: %s\n' "$*" >&2
  trap - EXIT
  exit 1
}

# Names what is being done now; a failure is reported with that name.
begin() {
  stage=$1
  say "$1"
}

report_failure() {
  local code=$?
  [[ $code -eq 0 ]] || printf 'catena.sh: failed while: %s\n' "$stage" >&2
}
trap report_failure EXIT

usage() {
  cat << 'END'
usage: ./catena.sh COMMAND

  quickstart  install what is missing, build, and train a small model
              (configs/quickstart.toml) on the bundled text: a few minutes
  build       install what is missing and build build/catena and
              build/catena-train
  package     a tarball in build-package/ that runs where it is unpacked, on
              Linux with a processor of x86-64-v3 or what CATENA_ARCH names
  test        install what is missing, build, and run every test, with
              sanitizers, fuzzers and planted bugs: up to an hour on 2 cores
  chaos       inject faults into jobs of four ranks by two agents, and check
              what must hold after each: [--trials N] [--only G1,G7] [--seed S]
              [--resume] [--agents N] [--prove] [--list]; see
              docs/results/reliability.md
  bench [N]   install PyTorch (2.5 GB to fetch, 6 GB in build/bench-venv),
              measure speed beside it in N rounds (3; about 40 minutes), and
              print the tables of docs/results/cpu.md; goes on where it stopped
  check       source format, and docs/configuration.md against the program
  help        this text
END
}

usage_error() {
  usage >&2
  trap - EXIT
  say "$*" >&2
  exit 64
}

# --- packages ---------------------------------------------------------------

# packages build|test|...: the names in that section of deploy/packages.txt.
packages() {
  awk -v section="[$1]" '
    /^#/ { if (index($2, "[") == 1) inside = $2 == section; next }
    NF && inside { print $1 }' deploy/packages.txt
}

missing_packages() {
  local name
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null) \
      == installed ]] || printf '%s\n' "$name"
  done
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  elif command -v sudo > /dev/null; then
    sudo "$@"
  else
    die "needs root for \"$*\": run it as root, or install sudo"
  fi
}

# On systems without Debian's packages: names the tools that must be there.
check_tools() {
  local tool absent=()
  for tool in c++ cmake ninja pkg-config; do
    command -v "$tool" > /dev/null || absent+=("$tool")
  done
  [[ ${#absent[@]} -eq 0 ]] \
    || die "missing tools: ${absent[*]}. This system has no apt-get: install" \
      "them and the libraries that deploy/packages.txt names, then run again"
}

# install SECTION...: installs what is missing of these sections.
install() {
  local section wanted=() missing=()
  if ! command -v apt-get > /dev/null || ! command -v dpkg-query > /dev/null
  then
    check_tools
    return
  fi
  for section in "$@"; do
    mapfile -t -O "${#wanted[@]}" wanted < <(packages "$section")
  done
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  [[ ${#missing[@]} -gt 0 ]] || return 0
  begin "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -o DPkg::Lock::Timeout=300 -qq update
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -o DPkg::Lock::Timeout=300 -qq -y install \
    --no-install-recommends "${missing[@]}" \
    || die "apt-get could not install all of: ${missing[*]}." \
      "The names are those of Debian 12; on another release install their" \
      "like by hand and run again"
}

# --- build ------------------------------------------------------------------

# configure FOLDER OPTION...: quiet unless it fails.
configure() {
  local folder=$1
  shift
  mkdir -p "$folder"
  if ! cmake -S . -B "$folder" -G Ninja "$@" > "$folder/configure.log" 2>&1
  then
    cat "$folder/configure.log" >&2
    die "cmake could not configure $folder; its words are above"
  fi
}

summary() {
  local cuda=no
  grep -q 'CUDA backend from .*loader' build/configure.log && cuda=yes
  say "built build/catena and build/catena-train (CUDA: $cuda)"
}

# A daemon that a package brings would serve the network from then on, where an
# init system runs: there the tests that need it are skipped.
install_for_tests() {
  if [[ -d /run/systemd/system ]]; then
    install build test
  else
    install build test services
  fi
}

# install_if_possible SECTION: what no test fails without.
install_if_possible() {
  (install "$1") || say "going on without what [$1] of deploy/packages.txt" \
    "names: the tests that need it are skipped"
}

# What looks at the dashboard and at /metrics.
install_for_pages() {
  install_if_possible browser
  # As with [services].
  [[ -d /run/systemd/system ]] || install_if_possible prometheus
}

build() {
  install build
  begin "building in build/"
  # A tree that was configured for the tests stays so.
  if [[ -e build/CMakeCache.txt ]]; then
    configure build
  else
    configure build -DCMAKE_BUILD_TYPE=Release -DCATENA_TESTS=OFF
  fi
  ninja -C build -j "$jobs" catena catena-train
  summary
}

quickstart() {
  build
  begin "training configs/quickstart.toml"
  trap - EXIT
  exec build/catena train configs/quickstart.toml
}

# Without MPI: its plug-ins lie where that machine has them.
package() {
  install build
  begin "building in build-package/"
  configure build-package -DCMAKE_BUILD_TYPE=Release -DCATENA_TESTS=OFF \
    -DCATENA_MPI=OFF -DCATENA_ARCH="${CATENA_ARCH:-x86-64-v3}"
  ninja -C build-package -j "$jobs" all
  begin "packing"
  cpack --config build-package/CPackConfig.cmake -B build-package \
    > build-package/cpack.log || { cat build-package/cpack.log >&2; exit 1; }
  ls -sh build-package/*.tar.gz
}

# --- tests ------------------------------------------------------------------

# Some kernels spread addresses wider than the sanitizers of this compiler
# understand; without that spreading they work everywhere.
with_plain_addresses() {
  if setarch "$(uname -m)" -R true 2> /dev/null; then
    setarch "$(uname -m)" -R "$@"
  else
    "$@"
  fi
}

# sanitize NAME SANITIZERS LABELS...: builds the tests of these labels in
# build-NAME and runs them.
sanitize() {
  local folder=build-$1 sanitizers=$2 label targets=()
  shift 2
  begin "testing with sanitizers: $sanitizers (tests: $*)"
  configure "$folder" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DCATENA_SANITIZE="$sanitizers" \
    -DCATENA_TESTS=ON -DCATENA_CUDA=OFF
  for label in "$@"; do
    targets+=("tests_$label")
  done
  with_plain_addresses ninja -C "$folder" -j "$jobs" "${targets[@]}"
  with_plain_addresses ctest --test-dir "$folder" -j "$jobs" \
    --output-on-failure --no-tests=error -L "^($(IFS='|' && echo "$*"))$"
}

fuzz() {
  begin "fuzzing: 10 s each"
  configure build-fuzz -DCMAKE_CXX_COMPILER=clang++ \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
    -DCATENA_FUZZ=ON -DCATENA_FUZZ_SECONDS=10 -DCATENA_TESTS=ON \
    -DCATENA_CUDA=OFF
  ninja -C build-fuzz -j "$jobs" fuzz
  with_plain_addresses ctest --test-dir build-fuzz -j "$jobs" \
    --output-on-failure --no-tests=error -L '^fuzz$'
}

# Known bugs, of which the tests must notice each.
plant_bugs() {
  begin "planting bugs in build/planted/"
  tests/planted/run build
}

sources() {
  git -c safe.directory='*' ls-files '*.cc' '*.h' '*.cu' '*.cuh'
}

check_format() {
  local files=()
  begin "checking the format of the sources"
  mapfile -t files < <(sources)
  [[ ${#files[@]} -gt 0 ]] || die "git lists no sources to check"
  clang-format --dry-run --Werror "${files[@]}" \
    || die "clang-format -i mends the files named above"
}

check_documentation() {
  begin "checking docs/configuration.md"
  build/catena config markdown > build/configuration.md
  diff -u docs/configuration.md build/configuration.md \
    || die "docs/configuration.md is not what the program says: run" \
      "\"build/catena config markdown > docs/configuration.md\""
}

check() {
  check_format
  check_documentation
}

# The tests of the plain build. What failed is said again at the end, where it
# is found among thousands that passed.
run_suite() {
  local log=build/Testing/Temporary number name
  begin "running the tests"
  ctest --test-dir build -j "$jobs" --output-on-failure --no-tests=error \
    -LE '^fuzz$' && return
  while IFS=: read -r number name; do
    say "what $name printed last:"
    awk -v head="^$number/[0-9]+ Testing: " '
      $0 ~ head { on = 1 } /^<end of output>/ { on = 0 } on' \
      "$log/LastTest.log" | tail -n 40 | cut -c 1-2000
  done < "$log/LastTestsFailed.log"
  printf '\nThe following tests FAILED:\n'
  sed 's/^\([0-9]*\):\(.*\)/\t\1 - \2 (Failed)/' "$log/LastTestsFailed.log"
  return 8
}

run_tests() {
  install_for_tests
  install_for_pages
  begin "building with tests in build/"
  configure build -DCMAKE_BUILD_TYPE=Release -DCATENA_TESTS=ON
  ninja -C build -j "$jobs" all benches
  summary
  check
  sanitize asan address,undefined unit threads
  sanitize tsan thread threads
  fuzz
  plant_bugs
  # Last, so that the output ends with the test runner's own summary.
  run_suite
}

# Everything that is started here is looked at from outside, by Python.
chaos() {
  install_for_tests
  begin "building with tests in build/"
  configure build -DCMAKE_BUILD_TYPE=Release -DCATENA_TESTS=ON
  ninja -C build -j "$jobs" catena catena-train troubled_disk moved_clock \
    held_up
  begin "injecting faults; results are in build/chaos/results.jsonl"
  trap - EXIT
  exec tests/chaos/run build "$@"
}

# The newest PyTorch, for comparison, in a folder of its own. Where it cannot
# be installed the rest is measured without it.
newest_pytorch() {
  local folder=build/bench-venv python=/usr/bin/python3
  [[ -x $folder/bin/python ]] && "$folder/bin/python" -c 'import torch' \
    2> /dev/null && return
  [[ -x $python ]] || python=python3
  begin "installing the newest PyTorch in $folder (2.5 GB to fetch)"
  rm -rf "$folder"
  if ! "$python" -m venv "$folder" \
    || ! "$folder/bin/pip" install --quiet --disable-pip-version-check \
      torch numpy setuptools
  then
    say "the newest PyTorch could not be installed: measuring without it"
  fi
}

bench() {
  local rounds=$1
  [[ $rounds =~ ^[1-9][0-9]?$ ]] \
    || usage_error "bench takes a number of rounds, not $rounds"
  install build bench
  build
  ninja -C build -j "$jobs" catena-bench-step catena-bench-machine
  newest_pytorch
  begin "measuring; what is measured already stands in build/bench.jsonl"
  bench/run build/bench.jsonl --rounds "$rounds"
  begin "making tables in build/bench.md"
  bench/table build/bench.jsonl > build/bench.md
  cat build/bench.md
}

case ${1:-help} in
  quickstart) quickstart ;;
  build) build ;;
  package) package ;;
  test) run_tests ;;
  chaos) chaos "${@:2}" ;;
  bench) bench "${2:-3}" ;;
  check)
    install_for_tests
    build
    check
    ;;
  help | -h | --help) usage ;;
  *) usage_error "unknown command $1" ;;
esac
