"""G1, G2, G3, G7, G9, G21 and G23: what befalls ranks."""
import os
import signal
import subprocess
import sys
import time
import urllib.request

import phases
import processes
from trial import RANKS, STEPS, row

SECTION = 2.0  # seconds: --section-timeout where ranks hang
LONG = 60  # steps, where a fault takes its time


def kill_ranks(trial, count, number=signal.SIGKILL, **cause):
    """Some ranks at one moment of any phase; the job starts them again once,
    names one of them, and ends with the bits of the reference."""
    phases.draw(trial)
    job = trial.launch()
    phases.reach(job, trial.phase, trial.rng, STEPS)
    there = job.ranks()
    victims = trial.rng.sample(sorted(there), min(count, len(there)))
    job.signal_ranks(victims, number)
    job.wait_for_end()
    restarts = len(job.result().get("restarts", []))
    # Near the end they may have left by themselves before.
    trial.hit = bool(victims) and restarts > 0
    least = 0 if trial.phase == "end" else 1
    trial.check(job, steps=STEPS, restarts=(least, 1), victims=victims,
                cause={"signal": int(number), "hung": False, **cause})
    if trial.phase != "end" and "first" in trial.timers:
        expect_in_time(trial)


def expect_in_time(trial):
    """Peers within 2 s, as G1 has it. How soon it is noticed, and gone on from,
    is of a machine's load: the table says it."""
    trial.require(trial.timers.get("stop", 0) <= 2,
                  f"ranks lived on for {trial.timers.get('stop')} s")


@row("G1", "SIGKILL of one rank")
def one_is_killed(trial):
    kill_ranks(trial, 1)


@row("G2", "SIGKILL of several ranks at once")
def several_are_killed(trial):
    count = trial.choose(range(2, RANKS + 1))
    kill_ranks(trial, count)


# A rank that leaves by itself: `catena-train` in a shell that ends before it.
LEAVES = """#!/bin/sh
# Its child is the rank; what befalls this process befalls it.
if [ "$1" != train ] || [ ! -e {mark}-$CATENA_RANK ]; then
  exec {trainer} "$@"
fi
{trainer} "$@" &
while [ ! -e {mark}-go ]; do sleep 0.01; done
kill -KILL $!
wait $!
rm -f {mark}-$CATENA_RANK
{how}
"""
ENDINGS = {
    "exits 0": ("exit 0", {"code": 0, "signal": 0}),
    "exits 3": ("exit 3", {"code": 3, "signal": 0}),
    "aborts": ("kill -ABRT $$", {"signal": int(signal.SIGABRT)}),
    "segfaults": ("kill -SEGV $$", {"signal": int(signal.SIGSEGV)}),
    "is killed as out of memory": (
        "kill -KILL $$", {"signal": int(signal.SIGKILL)}),
}


@row("G3", "a rank leaves by itself")
def leaves_by_itself(trial):
    how, cause = ENDINGS[trial.choose(ENDINGS)]
    victim = trial.rng.randrange(RANKS)
    mark = trial.folder / "mark"
    program = trial.folder / "catena-train"
    program.write_text(LEAVES.format(
        mark=mark, how=how, trainer=trial.site.build / "catena-train"))
    program.chmod(0o755)
    (trial.folder / f"mark-{victim}").touch()
    job = trial.launch(environment={"CATENA_TRAIN": str(program)})
    trial.phase = "step"
    phases.reach(job, "step", trial.rng, STEPS)
    job.inject((trial.folder / "mark-go").touch)
    job.wait_for_end()
    # Peers may see its child gone a moment before the shell is.
    trial.check(job, steps=STEPS, restarts=(1, 1), victims=[victim],
                cause=cause)


HELD_UP = "libheld_up.so"  # tests/support/held_up.cc
HANGS = {"is stopped": signal.SIGSTOP, "sleeps": signal.SIGRTMIN,
         "keeps its core busy": signal.SIGRTMIN + 1}


def require_stack(trial, job, victim):
    """The rank wrote it itself, so before it was ended, and into the part of
    its log that is of the first generation."""
    said = job.rank_log(victim).partition("-- generation 2")[0]
    stack = said.partition("-- stack, as asked for by SIGUSR2")[2]
    for word in (HELD_UP, "-- section "):
        trial.require(word in stack, f"no {word} in the stack of rank "
                      f"{victim}: {stack[-300:] or 'there is none'}")


@row("G7", "a rank hangs: it is stopped, sleeps, or keeps its core busy")
def one_hangs(trial):
    kind = trial.choose(HANGS)
    library = trial.site.library("training", HELD_UP)
    # One that is not stopped heeds no SIGTERM: its grace period is waited for.
    job = trial.launch(command=trial.site.command(
        trial.run, LONG, flags=("--section-timeout", str(SECTION)), grace=1),
        environment={"LD_PRELOAD": str(library)})
    trial.phase = "step"
    phases.reach(job, "step", trial.rng, LONG - 20)
    victim = trial.rng.randrange(RANKS)
    job.signal_ranks([victim], HANGS[kind])
    job.wait_for_end()
    trial.check(job, steps=LONG, restarts=(1, 1), victims=[victim],
                cause={"hung": True})
    warned = job.noticed(f"rank {victim} has come no further")
    noticed = job.noticed("it hangs, and is ended")
    trial.facts.update({"warned of": warned, "declared hung": noticed})
    # Warned of after the section's time, hung after as long again.
    trial.require(warned is not None and noticed is not None
                  and warned < noticed <= 2 * SECTION + 1,
                  f"it was warned of after {warned} s, and declared hung "
                  f"after {noticed} s")
    causes = job.result().get("restarts") or [{}]
    trial.require(causes[0].get("section") in ("step", "checkpoint"),
                  f"the section is {causes[0].get('section')}")
    if kind != "is stopped":
        require_stack(trial, job, victim)


def slow_down(job, process, factor, seconds, period=0.06):
    """Lets it run for a factor-th of the time."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until and processes.alive(process):
            os.kill(process, signal.SIGSTOP)
            time.sleep(period * (factor - 1) / factor)
            os.kill(process, signal.SIGCONT)
            time.sleep(period / factor)
            job.poll()
    except ProcessLookupError:
        pass


def stragglers(job):
    """Scores by rank, as /metrics says them."""
    address = job.result().get("dashboard")
    with urllib.request.urlopen(f"{address}metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("catena_straggler_score_ratio{"):
            name, _, value = line.rpartition(" ")
            found[int(name.split('rank="')[1].split('"')[0])] = float(value)
    return found


@row("G9", "one rank is slow")
def one_is_slow(trial):
    factor = trial.choose((2, 5, 20))
    trial.kind = f"{factor} times"
    job = trial.launch("--section-timeout", "5", steps=LONG)
    trial.phase = "step"
    job.wait_for_step(trial.rng.randint(3, 20))
    victim = trial.rng.randrange(RANKS)
    process = job.ranks()[victim]
    job.inject(lambda: None)
    named = looks = 0
    for _ in range(4):
        slow_down(job, process, factor, 0.6)
        if job.metrics.last >= LONG - 5 or job.end:
            break
        scores = stragglers(job)
        looks += 1
        named += bool(scores) and max(scores, key=scores.get) == victim
    job.wait_for_end()
    trial.check(job, steps=LONG)
    trial.facts.update(named=named, looks=looks)


@row("G21", "a rank that always fails at one step")
def fails_again_and_again(trial):
    begin = trial.rng.choice((10, 20))
    step = begin + trial.rng.randint(1, 4)
    victim = trial.rng.randrange(RANKS)
    job = trial.launch("--max-restarts", "50")
    done = set()
    trial.phase = "step"
    until = time.monotonic() + 120
    while job.end is None and time.monotonic() < until:
        job.poll()
        newest = job.generation()
        if newest and newest.furthest >= step and newest.number not in done \
                and victim in job.ranks():
            done.add(newest.number)
            job.signal_ranks([victim], signal.SIGKILL)
        time.sleep(0.005)
    job.wait_for_end(5)
    # The first generation saved; the three after it did not.
    trial.check(job, state="FAILED", code=93, restarts=(3, 3), budget=50,
                victims=[victim], cause={"signal": 9})


@row("G23", "no fault, all cores busy")
def nothing_happens(trial):
    cores = len(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(cores * trial.choose((1, 2)))]
    trial.kind = f"{len(busy)} loops on {cores} cores"
    try:
        job = trial.launch("--section-timeout", "5")
        trial.phase = "whole run"
        job.wait_for_end()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    trial.check(job, steps=STEPS)
    for words in ("has come no further", "it hangs"):
        trial.require(words not in job.said(), f"a false suspicion: {words}")
