"""When in the life of a job a fault comes."""
import time

import checkpoints
from job import Disturbed

NAMES = ("start", "meeting", "step", "saving", "published", "end")


def draw(trial, but=()):
    """The trial's phase: in six trials, each of them; the seed says in what
    order. A step for those that a fault cannot come in."""
    order = list(NAMES)
    trial.rng.seeded(f"phases/{trial.number // len(NAMES)}").shuffle(order)
    drawn = order[trial.number % len(NAMES)]
    trial.phase = "step" if drawn in but else drawn
    trial.drawn = True


def reach(job, phase, rng, steps, every=10):
    """Waits for a random moment of the phase."""
    marks = range(every, steps - every + 1, every)
    if phase == "start":  # some ranks are there, or all
        job.wait_for_ranks(rng.randint(1, 4))
        time.sleep(rng.uniform(0, 0.05))
    elif phase == "meeting":  # all are there, and no step is taken
        job.wait_for_ranks(4)
        time.sleep(rng.uniform(0, 0.3))
    elif phase == "step":
        job.wait_for_step(rng.randint(1, steps - 5))
        time.sleep(rng.uniform(0, 0.03))
    elif phase == "saving":  # files of a checkpoint are being written
        job.wait_for_step(rng.choice(marks) - 1)
        job.wait("a checkpoint to be written",
                 lambda: checkpoints.being_written(job.run) is not None,
                 glance=0.0005)
        time.sleep(rng.uniform(0, 0.015))
    elif phase == "published":  # it has just got its name
        mark = rng.choice(marks)
        job.wait(f"a checkpoint of step {mark}",
                 lambda: mark in checkpoints.steps(job.run), glance=0.0005)
        time.sleep(rng.uniform(0, 0.003))
    elif phase == "end":  # the last step is taken
        job.wait(f"step {steps}",
                 lambda: job.metrics.last >= steps - 1, glance=0.002)
        time.sleep(rng.uniform(0, 0.1))
    else:
        raise Disturbed(f"no phase {phase}")
