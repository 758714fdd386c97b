"""G4, G6 and G16: what befalls the launcher."""
import os
import pty
import signal
import time

import phases
from trial import STEPS, row

LONG = 100000  # steps: without an end
LEFT = 2.0  # seconds in which ranks are gone: the kernel kills them


def expect_killed(trial, job, told):
    """Nobody is left, and the run can be gone on with."""
    trial.check(job, killed=True, told=told, left=LEFT)
    trial.resume()


@row("G4", "SIGKILL of the launcher")
def launcher_is_killed(trial):
    # One that runs meets a pipe without a reader, and dies of that, too.
    kind = trial.choose(("alone", "with a rank stopped"))
    phases.draw(trial)
    at_end = trial.phase == "end"
    job = trial.launch(steps=STEPS if at_end else LONG)
    phases.reach(job, trial.phase, trial.rng, STEPS)
    there = list(job.ranks().values())
    if kind == "with a rank stopped" and there:
        os.kill(trial.rng.choice(there), signal.SIGSTOP)
    job.inject(lambda: job.process.poll() is None
               and os.kill(job.launcher, signal.SIGKILL))
    job.wait_for_end()
    trial.hit = job.exit_code() == 128 + signal.SIGKILL
    if trial.hit:
        expect_killed(trial, job, told=at_end)
    else:  # it was quicker
        trial.check(job, steps=STEPS)


@row("G6", "SIGKILL of the launcher while it ends its ranks, or with an agent")
def killed_in_teardown(trial):
    kinds = ["asked to stop", "after a failure"]
    if trial.site.agents:
        kinds.append("with an agent")
    kind = trial.choose(kinds)
    job = trial.launch(steps=LONG)
    trial.phase = "step"
    phases.reach(job, "step", trial.rng, STEPS)
    if kind == "with an agent":
        agent = trial.rng.choice(job.agent_processes())
        job.inject(lambda: [os.kill(process, signal.SIGKILL)
                            for process in (agent, job.launcher)])
    else:
        if kind == "asked to stop":
            os.kill(job.launcher, signal.SIGTERM)
        else:
            os.kill(trial.rng.choice(list(job.ranks().values())),
                    signal.SIGSEGV)
        job.linger(trial.rng.uniform(0, 0.25))
        job.inject(lambda: job.process.poll() is None
                   and os.kill(job.launcher, signal.SIGKILL))
    job.wait_for_end()
    trial.hit = job.exit_code() == 128 + signal.SIGKILL
    if trial.hit:
        trial.check(job, killed=True, told=kind == "asked to stop", left=LEFT,
                    restarts=(0, 1))
    else:  # it was quicker
        trial.check(job, state="PREEMPTED", code=75)
    trial.resume()


def stop_once(trial, job, number):
    job.inject(lambda: os.kill(job.launcher, number))
    job.wait_for_end()
    trial.check(job, state="PREEMPTED", code=75)
    trial.resume()


def stop_twice(trial, job):
    """At once, and what was saved is gone on from."""
    def twice():
        os.kill(job.launcher, signal.SIGINT)
        time.sleep(trial.rng.uniform(0.002, 0.02))
        if job.process.poll() is None:
            os.kill(job.launcher, signal.SIGINT)

    job.inject(twice)
    job.wait_for_end()
    if job.exit_code() == 75:  # saved before the second one came
        trial.hit = False
        trial.check(job, state="PREEMPTED", code=75)
    else:
        trial.check(job, state="CANCELLED", code=130, left=2)
    trial.resume()


def save(trial, job):
    """And go on."""
    job.inject(lambda: os.kill(job.launcher, signal.SIGUSR1))
    asked = job.metrics.last
    job.wait_for_end()
    trial.check(job, steps=STEPS)
    trial.require(any(asked <= step < asked + 10 for step in job.saved),
                  f"asked at step {asked}, saved at {sorted(job.saved)}")


def close_terminal(trial):
    """The launcher is the first process of a terminal that goes away."""
    master, slave = pty.openpty()
    try:
        # setsid -c takes standard input as the terminal.
        job = trial.launch(steps=LONG, before=(
            "sh", "-c", f"exec setsid -c -w \"$@\" < {os.ttyname(slave)}",
            "sh"))
        os.close(slave)
        job.find_launcher()
        phases.reach(job, "step", trial.rng, STEPS)
        job.inject(lambda: os.close(master))
    except BaseException:
        os.close(master)
        raise
    job.wait_for_end()
    trial.check(job, state="PREEMPTED", code=75)
    trial.resume()


def kill_shell(trial):
    """Nobody tells the launcher: it goes on."""
    job = trial.launch(before=("sh", "-c", "\"$@\" & wait", "sh"))
    job.detached = True
    job.find_launcher()
    phases.reach(job, "step", trial.rng, STEPS)
    job.inject(lambda: os.kill(job.process.pid, signal.SIGKILL))
    job.wait_for_end()
    trial.check(job, steps=STEPS)


SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT,
           "SIGHUP": signal.SIGHUP}
KINDS = (*SIGNALS, "SIGINT twice", "SIGUSR1", "terminal closed",
         "parent shell killed")


@row("G16", "signals to the launcher")
def is_signalled(trial):
    kind = trial.choose(KINDS)
    trial.phase = "step"
    if kind == "terminal closed":
        return close_terminal(trial)
    if kind == "parent shell killed":
        return kill_shell(trial)
    job = trial.launch(steps=STEPS if kind == "SIGUSR1" else LONG)
    phases.reach(job, "step", trial.rng, STEPS - 15)
    if kind == "SIGUSR1":
        return save(trial, job)
    if kind == "SIGINT twice":
        return stop_twice(trial, job)
    return stop_once(trial, job, SIGNALS[kind])
