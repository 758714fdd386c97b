"""G5 and G8: what befalls agents that are processes of their own."""
import os
import signal
import time

import phases
import processes
from trial import LONGEST, STEPS, Skipped, row

LONG = 80  # steps
LEASE = 2.0  # seconds: --lease


def require_agents(trial):
    if not trial.site.agents:
        raise Skipped("it needs agents of their own, and there are --agents 0")


@row("G5", "SIGKILL of an agent")
def agent_is_killed(trial):
    require_agents(trial)
    phases.draw(trial)
    job = trial.launch()
    phases.reach(job, trial.phase, trial.rng, STEPS)
    there = job.agent_processes()
    trial.hit = bool(there)
    if not there:  # all have ended by themselves
        job.wait_for_end()
        return trial.check(job, steps=STEPS)
    agent = trial.rng.choice(there)
    orphans = processes.children(agent)
    job.inject(lambda: os.kill(agent, signal.SIGKILL))
    job.wait("the end of its ranks", lambda: not any(
        map(processes.alive, orphans)), glance=0.005)
    trial.require(time.monotonic() - job.injected <= 2,
                  "its ranks lived on for more than 2 s")
    job.wait_for_end()
    # Near the end its ranks may have told of theirs before.
    least = 0 if trial.phase == "end" else 1
    trial.check(job, steps=STEPS, restarts=(least, 1))


@row("G8", "SIGSTOP of an agent or the launcher, for less or more than the "
           "lease")
def is_held_up(trial):
    require_agents(trial)
    kind = trial.choose(("an agent, shortly", "the launcher, shortly",
                         "an agent, for long", "the launcher, for long",
                         "all agents, for good"))
    if kind == "all agents, for good":
        return agents_are_stopped_for_good(trial)
    job = trial.launch(steps=LONG)
    trial.phase = "step"
    phases.reach(job, "step", trial.rng, STEPS)
    victim = (trial.rng.choice(job.agent_processes())
              if kind.startswith("an agent") else job.launcher)
    seconds = LEASE / 2 if kind.endswith("shortly") else 3 * LEASE
    job.inject(lambda: os.kill(victim, signal.SIGSTOP))
    job.linger(seconds)
    if processes.alive(victim):  # one for long is ended, and another started
        os.kill(victim, signal.SIGCONT)
    job.wait_for_end()
    restarts = (0, 0) if kind.endswith("shortly") else (0, 1)
    trial.check(job, steps=LONG, restarts=restarts)


def agents_are_stopped_for_good(trial):
    """Their ranks miss nobody, and end as their own leases do."""
    job = trial.launch(steps=LONGEST)
    trial.phase = "step"
    phases.reach(job, "step", trial.rng, STEPS)
    agents = job.agent_processes()
    ranks = [rank for agent in agents for rank in processes.children(agent)]

    def stop():
        for agent in agents:
            os.kill(agent, signal.SIGSTOP)

    job.inject(stop)
    job.wait("the end of their ranks", lambda: not any(
        map(processes.alive, ranks)), glance=0.005)
    trial.require(time.monotonic() - job.injected <= 2 * LEASE,
                  f"their ranks lived on for more than {2 * LEASE} s")
    job.wait_for_end()
    trial.check(job, steps=LONGEST, restarts=(1, 1))
