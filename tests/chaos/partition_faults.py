"""G10 and G11: links between machines are cut, and healed."""
import dataclasses
import re
import time

import checkpoints
import machines
import phases
from trial import STEPS, Skipped, row

LONG = 200  # steps: so that jobs outlive a lease
LEASE = 2.0  # seconds
FLAP = 1.0  # seconds, of a lease of
FLAP_LEASE = 3.0  # seconds: TCP tries again 1.4 s after what it lost
TIMEOUT = 5.0  # seconds: parallel.timeout
SLACK = 2.0  # seconds: what a busy machine needs
SIDES = ({0, 1}, {2, 3})  # ranks of host1 and host2


def launch(trial, lease, settings=None):
    """A job on two machines, and these."""
    try:
        network = machines.Network(trial.folder)
    except machines.Impossible as reason:
        raise Skipped(str(reason)) from reason
    trial.cleanup.callback(network.close)
    site = dataclasses.replace(trial.site, agents=0)
    command = site.command(trial.run, LONG, settings, (
        "--hosts", "host1,host2", "--address", machines.LAUNCHER,
        "--lease", str(lease)))
    job = trial.launch(command=command, before=network.launcher.enter,
                       environment=network.ssh(), network=network)
    return job, network


def await_end(job, generation, seconds):
    """Of its ranks, on both machines, within so long after the cut."""
    left = job.injected + seconds - time.monotonic()
    job.wait(f"end of all ranks {seconds} s after the cut",
             lambda: generation.gone is not None, limit=left)
    # Steps that were taken while it was being written are not repeated.
    job.saving = checkpoints.being_written(job.run)


def flaps(trial):
    """Shorter than the lease: nobody notices."""
    phases.draw(trial, but=("end",))
    number = trial.rng.randint(1, 2)
    job, network = launch(trial, FLAP_LEASE)
    how = trial.rng.choice(machines.CONTROL_CUTS)
    trial.facts["cut"] = how
    cut = network.control_cut(how, number)
    phases.reach(job, trial.phase, trial.rng, STEPS)
    job.inject(lambda: None)
    for _ in range(trial.rng.randint(1, 3)):
        if job.end is None:
            cut.make()
            job.linger(FLAP)
            cut.heal()
            job.linger(FLAP)
    job.wait_for_end()
    trial.check(job, steps=LONG)
    trial.require("is gone" not in job.said(), "an agent was given up")


LENGTHS = ("a moment longer than the lease", "until all ranks have ended",
           "until it is given up")


@row("G10", "the link between an agent and the launcher is cut")
def agent_is_cut_off(trial):
    kind = trial.choose((*machines.CONTROL_CUTS, "flaps of 1 s"))
    if kind == "flaps of 1 s":
        return flaps(trial)
    phases.draw(trial, but=("end",))
    number = trial.rng.randint(1, 2)
    length = trial.rng.choice(LENGTHS)
    job, network = launch(trial, LEASE)
    phases.reach(job, trial.phase, trial.rng, STEPS)
    generation = job.generation()
    cut = network.control_cut(kind, number)
    job.inject(cut.make)
    if length == LENGTHS[0]:
        job.linger(1.3 * LEASE)
        cut.heal()
    await_end(job, generation, 2 * LEASE + SLACK)
    if length == LENGTHS[1]:
        cut.heal()
    elif length == LENGTHS[2]:
        job.wait("another agent", lambda: "is started again" in job.said())
        job.linger(trial.rng.uniform(0, 2))
        cut.heal()
    job.wait_for_end()
    trial.check(job, steps=LONG, restarts=(1, 1),
                cause={"rank": -1, "host": f"host{number}", "code": 70})
    trial.facts["cut"] = length


def check_pair(trial, job):
    """The first cause is of a rank that missed one of the other side."""
    first = (job.result().get("restarts") or [{}])[0]
    named = set(map(int, re.findall(r"rank (\d+)", first.get("text", "")
                                    + first.get("last_words", ""))))
    named.add(first.get("rank", -1))
    trial.facts["named"] = sorted(named)
    trial.require(all(named & side for side in SIDES),
                  f"ranks {sorted(named)} are named, and the link is between "
                  f"{SIDES[0]} and {SIDES[1]}: {first.get('text')}")


@row("G11", "the link between ranks is cut, those to the launcher are not")
def ranks_are_parted(trial):
    kind = trial.choose(machines.PEER_CUTS)
    phases.draw(trial, but=("end", "start"))
    job, network = launch(trial, LEASE, {"parallel.timeout": TIMEOUT})
    phases.reach(job, trial.phase, trial.rng, STEPS)
    generation = job.generation()
    cut = network.peer_cut(kind, trial.rng.randint(1, 2))
    job.inject(cut.make)
    # Those that wait for a root of an exchange have a quarter more.
    await_end(job, generation, 1.25 * TIMEOUT + SLACK)
    job.linger(trial.rng.uniform(0, 2))
    cut.heal()
    job.wait_for_end()
    trial.check(job, steps=LONG, restarts=(1, 2))
    check_pair(trial, job)
    trial.require("is gone" not in job.said(), "an agent was given up")
