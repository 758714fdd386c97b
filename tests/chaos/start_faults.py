"""G15, G17 and G20: clocks, starts, and what is handed to ranks."""
import dataclasses
import os
import re
import shutil
import socket
import struct
import time

import held_hosts
import invariants
import processes
from trial import RANKS, STEPS, row

# --- wall clocks ------------------------------------------------------------

HOUR = 3600
JUMPS = {"an hour back": -HOUR, "an hour ahead": HOUR,
         "ten years ahead": 10 * 365 * 24 * HOUR, "stands still": None}
CLOCK = "libmoved_clock.so"  # tests/support/moved_clock.cc


def set_clock(file, ahead, frozen):
    with open(file, "r+b") as out:
        out.write(struct.pack("=qq", ahead, frozen))


@row("G15", "the wall clock jumps, of the launcher and its ranks")
def clock_jumps(trial):
    jump = JUMPS[trial.choose(JUMPS)]
    library = trial.site.library("chaos", CLOCK)
    file = trial.folder / "clock"
    file.write_bytes(struct.pack("=qq", 0, 0))
    job = trial.launch("--section-timeout", "5", environment={
        "LD_PRELOAD": str(library), "CATENA_CLOCK": str(file)})
    if trial.rng.random() < 0.25:
        trial.phase = "start"
        job.wait_for_ranks(1)
    else:
        trial.phase = "step"
        job.wait_for_step(trial.rng.randint(1, STEPS - 10))
    if jump is None:
        set_clock(file, time.time_ns(), 1)
    else:
        set_clock(file, jump * 10**9, 0)
    job.wait_for_end()
    trial.check(job, steps=STEPS)
    took = job.end - job.begin
    said = job.result().get("seconds", 0)
    trial.require(took - 3 < said < took + 1,
                  f"job.json says {said} s, and it took {took:.1f} s")
    trial.require("has come no further" not in job.said(),
                  "a false suspicion")


# --- starts -----------------------------------------------------------------

def refused(trial, job, code, words, state="FAILED"):
    """Within 60 s, with a line that says these words; nothing is left."""
    job.wait_for_end(60)
    said = processes.read(job.words).decode(errors="replace")
    for word in words:
        trial.require(word in said, f"no {word!r} in: {said[-500:]}")
    if job.result():
        trial.check(job, state=state, code=code, trained=False)
    else:  # no job came to be
        trial.require(job.exit_code() == code,
                      f"code {job.exit_code()}, not {code}: {said[-500:]}")
        expected = invariants.Expected(trained=False)
        for invariant in (invariants.none_alive, invariants.nothing_left):
            trial.failures += invariant(job, expected, None)


def port_taken(trial):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        job = trial.launch("--dashboard-port", str(port))
        refused(trial, job, 74, ["127.0.0.1", str(port), "in use"])


def no_program(trial):
    job = trial.launch(environment={"CATENA_TRAIN": "/nowhere/catena-train"})
    refused(trial, job, 127, ["/nowhere/catena-train"])


def not_executable(trial):
    program = trial.folder / "catena-train"
    program.write_bytes(b"\x7fELF, and no more of it")
    program.chmod(0o755)
    job = trial.launch(environment={"CATENA_TRAIN": str(program)})
    # Found before any rank is started; a rank's own start would be 126.
    refused(trial, job, 127, [str(program)])


# A rank of its own kind: another file, or one that comes late or never.
OTHER = """#!/bin/sh
if [ "$1" = train ] && [ "$CATENA_RANK" = {rank} ]; then
  {before}
  exec {other} "$@"
fi
exec {trainer} "$@"
"""


def one_rank_is_another(trial, before="", other=None):
    """Environment in which one rank is; the rank."""
    rank = trial.rng.randrange(RANKS)
    trainer = trial.site.build / "catena-train"
    program = trial.folder / "catena-train"
    program.write_text(OTHER.format(rank=rank, before=before, trainer=trainer,
                                    other=other or trainer))
    program.chmod(0o755)
    return {"CATENA_TRAIN": str(program)}, rank


def other_version(trial):
    """The same program but for a byte behind its end."""
    folder = trial.folder / "other"
    folder.mkdir()
    other = folder / "catena-train"
    shutil.copyfile(trial.site.build / "catena-train", other)
    with open(other, "ab") as file:
        file.write(b"\0")
    other.chmod(0o755)
    environment, _ = one_rank_is_another(trial, other=other)
    job = trial.launch(environment=environment)
    refused(trial, job, 78, ["program"])
    other.unlink()


def comes_late(trial):
    seconds = round(trial.rng.uniform(0, 3), 2)
    environment, _ = one_rank_is_another(trial, f"sleep {seconds}")
    job = trial.launch("--start-timeout", "60", environment=environment)
    job.wait_for_end()
    trial.check(job, steps=STEPS)


def comes_too_late(trial):
    environment, _ = one_rank_is_another(trial, "exec sleep 60")
    job = trial.launch("--start-timeout", "8", "--max-restarts", "0",
                       environment=environment)
    refused(trial, job, 69, ["ranks have not met", "--start-timeout"])


def launch_on_hosts(trial, hosts, seconds):
    """With a preflight, for which agents are waited for, or without."""
    preflight = trial.rng.choice(((), ("--no-preflight",)))
    return hosts.launch(trial, "--start-timeout", seconds, *preflight,
                        steps=STEPS)


def agent_comes_late(trial):
    hosts = held_hosts.Hosts(trial.folder)
    job = launch_on_hosts(trial, hosts, "60")
    late = trial.rng.choice(held_hosts.NAMES)
    for name in held_hosts.NAMES:
        if name != late:
            hosts.let(name)
    job.linger(trial.rng.uniform(0, 2))
    hosts.let(late)
    job.wait_for_end()
    trial.check(job, steps=STEPS)


def agent_comes_too_late(trial):
    """One line names it, and the time that it had."""
    hosts = held_hosts.Hosts(trial.folder)
    job = launch_on_hosts(trial, hosts, "3")
    hosts.let("host1")
    refused(trial, job, 69, ["1 of 2 agents", "host2", "--start-timeout"])


def unknown_host(trial):
    name = f"nowhere-{trial.rng.randrange(10**6)}.invalid"
    job = trial.launch(command=dataclasses.replace(
        trial.site, agents=0).command(trial.run, STEPS, flags=(
            "--hosts", name)))
    refused(trial, job, 64, [name, "--address"])


def another_launcher(trial):
    """Works on the run already, and is not disturbed."""
    first = trial.launch(steps=2 * STEPS)
    first.wait_for_step(5)
    second = trial.launch("--resume", steps=2 * STEPS)
    second.wait_for_end(60)
    said = processes.read(second.words).decode(errors="replace")
    trial.require(second.exit_code() == 64 and "another" in said,
                  f"the second one: {second.exit_code()}, {said[-300:]}")
    first.wait_for_end()
    trial.check(first, steps=2 * STEPS)


STARTS = {"port taken": port_taken, "no program": no_program,
          "program not executable": not_executable,
          "another version": other_version, "a rank comes late": comes_late,
          "a rank comes too late": comes_too_late,
          "another launcher is there": another_launcher,
          "an agent comes late": agent_comes_late,
          "an agent comes too late": agent_comes_too_late,
          "a host that nobody knows": unknown_host}


@row("G17", "starts that cannot go well, or slowly")
def start_goes_wrong(trial):
    trial.phase = "start"
    STARTS[trial.choose(STARTS)](trial)


# --- what is handed to ranks ------------------------------------------------

# Stands in for catena-train, and keeps what it was given.
KEEPS = """#!/bin/sh
if [ "$1" = begin ]; then
  mkdir -p {run}
  echo '{{"run": "{run}", "transport": "auto", "does_not_fit": ""}}'
  exit 0
fi
cat /proc/$$/environ > {folder}/environment-${{CATENA_RANK:-0}}
cat /proc/$$/cmdline > {folder}/arguments-${{CATENA_RANK:-0}}
echo joined > /proc/self/fd/$CATENA_CONTROL_FD
echo done > /proc/self/fd/$CATENA_CONTROL_FD
"""
STRINGS = 500  # of each kind in a trial


def random_bytes(rng, most=255):
    """Any but zero, which ends a string."""
    return bytes(rng.randint(1, 255) for _ in range(rng.randint(1, most)))


@row("G20", f"{2 * STRINGS} random strings as environment and arguments")
def strings_are_handed_down(trial):
    trial.phase = "start"
    program = trial.folder / "catena-train"
    program.write_text(KEEPS.format(run=trial.run, folder=trial.folder))
    program.chmod(0o755)
    variables = {f"CHAOS_{i}".encode(): random_bytes(trial.rng)
                 for i in range(STRINGS)}
    settings = [f"key{i}=".encode() + random_bytes(trial.rng)
                for i in range(STRINGS)]
    config = trial.folder / "x.toml"
    config.write_text("")
    words = [trial.site.build / "catena", "launch", "-n", str(RANKS), config]
    for setting in settings:
        words += ["--set", setting]
    job = trial.launch(command=words, environment={
        "CATENA_TRAIN": str(program),
        **{os.fsdecode(name): os.fsdecode(value)
           for name, value in variables.items()}})
    job.wait_for_end()
    trial.check(job, trained=False)
    wanted = {name + b"=" + value for name, value in variables.items()}
    for rank in range(RANKS):
        got = processes.read(trial.folder / f"environment-{rank}").split(b"\0")
        missing = wanted - set(got)
        trial.require(not missing, f"rank {rank} lacks {len(missing)} "
                      f"variables, such as {next(iter(missing), b'')[:80]}")
        got = processes.read(trial.folder / f"arguments-{rank}").split(b"\0")
        handed = [word for word in got if re.match(rb"key\d+=", word)]
        trial.require(handed == settings,
                      f"rank {rank} got other arguments")
