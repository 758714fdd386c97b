"""What one trial has at hand: a folder, chance, the programs, and the state
that a job must end with."""
import contextlib
import dataclasses
import pathlib
import random

import checkpoints
import invariants
from job import GRACE, Follower, Job

RANKS = 4
STEPS = 40
EVERY = 10  # checkpoint.every of job.toml
LONGEST = 200  # steps of the reference
SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
ROWS = {}


class Skipped(Exception):
    """The machine, or the program, lacks what a row needs; says what."""


@dataclasses.dataclass
class Row:
    name: str
    what: str
    function: callable


def row(name, what):
    """Enters a function of a Trial as the fault of a row."""
    def enter(function):
        ROWS[name] = Row(name, what, function)
        return function
    return enter


class Chance(random.Random):
    """Numbers of a trial: the same for the same seed, row and number."""

    def __init__(self, seed, row_name, number):
        super().__init__(f"{seed}/{row_name}/{number}")
        self.origin = f"{seed}/{row_name}"

    def seeded(self, text):
        """Others, the same for all trials of the row."""
        return random.Random(f"{self.origin}/{text}")

    def kind(self, kinds, number):
        """In as many trials as there are kinds, each of them."""
        order = list(kinds)
        self.seeded(f"kinds/{number // len(order)}").shuffle(order)
        return order[number % len(order)]


class Reference:
    """A run that nobody disturbs: losses by step, a hash by checkpoint."""

    def __init__(self, site):
        self.folder = site.work / f"reference-{site.agents}"
        self.run = self.folder / "run"
        if max(checkpoints.steps(self.run), default=0) < LONGEST:
            self.make(site)
        metrics = Follower(self.run / "metrics.jsonl")
        self.losses = {step: (loss, tokens)
                       for step, loss, tokens in metrics.losses}
        self.hashes = {step: checkpoints.state_hash(
            checkpoints.folder(self.run, step))
            for step in checkpoints.steps(self.run)}

    def make(self, site):
        job = Job(site.command(self.run, LONGEST,
                               {"checkpoint.keep_last": LONGEST}),
                  self.folder, self.run, {}, SOURCE, {}, site.agents)
        job.wait_for_end(600)
        if job.exit_code() != 0:
            raise SystemExit("the reference run failed: " + job.last_words())


@dataclasses.dataclass
class Site:
    """The programs, and where trials are held."""
    build: pathlib.Path
    work: pathlib.Path
    agents: int = 2
    reference: Reference = None

    def library(self, folder, name):
        """One for LD_PRELOAD, of tests/support."""
        path = self.build / "tests" / folder / name
        if not path.exists():
            raise Skipped(f"{path} is not built: ninja "
                          + path.stem.removeprefix("lib"))
        return path

    def command(self, run, steps, settings=None, flags=(), grace=GRACE):
        """`catena launch` of the job, in the profile of tests."""
        words = [self.build / "catena", "launch", "-n", str(RANKS),
                 SOURCE / "tests" / "chaos" / "job.toml",
                 "--grace-period", str(grace)]
        if self.agents:
            words += ["--agents", str(self.agents), "--lease", "2"]
        for key, value in {"run.folder": run, "train.steps": steps,
                           "data.cache": self.work / "cache",
                           **(settings or {})}.items():
            words += ["--set", f"{key}={value}"]
        return [*words, *flags]


class Trial:
    """`failures` is empty where all held that must."""

    def __init__(self, site, row_name, number, seed, folder):
        self.site, self.row, self.number = site, row_name, number
        self.seed, self.folder = seed, pathlib.Path(folder)
        self.rng = Chance(seed, row_name, number)
        self.run = self.folder / "run"
        self.kind, self.phase, self.hit = "", "", True
        self.drawn = False  # its phase, by chance
        self.failures, self.timers, self.facts = [], {}, {}
        self.damaged = {}  # as Job has it
        self.jobs = []
        self.cleanup = contextlib.ExitStack()  # when they have ended

    def choose(self, kinds):
        self.kind = self.rng.kind(kinds, self.number)
        return self.kind

    def launch(self, *flags, steps=STEPS, settings=None, environment=None,
               before=(), command=None, network=None, agents=None):
        """A launcher in the trial's run. `before`: a program that starts it;
        `network`: the machines that its ranks run on, if not this one;
        `agents`: how many a command has that is not the site's."""
        if agents is None:
            agents = 0 if network else self.site.agents
        job = Job([*before, *(command or self.site.command(
            self.run, steps, settings, flags))], self.folder, self.run,
            environment or {}, SOURCE, self.damaged, agents, network)
        if self.jobs:
            before = self.jobs[-1]
            job.reached_before = before.reached()
            job.repeatable = before.repeatable
            job.ids |= before.ids
        self.jobs.append(job)
        return job

    def check(self, job, **expected):
        """All invariants, and what is said of how it must have ended."""
        self.failures += invariants.check(
            job, invariants.Expected(**expected), self.site.reference)
        for name, value in invariants.timers(job).items():
            if value is not None:
                self.timers.setdefault(name, round(value, 4))

    def require(self, good, text):
        if not good:
            self.failures.append(text)
        return good

    def resume(self, **more):
        """Goes on with the run as a user would, to its end; the bits are
        those of the reference."""
        newest = max(checkpoints.steps(self.run), default=0)
        steps = max(STEPS, (newest + 2 * EVERY - 1) // EVERY * EVERY)
        job = self.launch("--resume", steps=steps, **more)
        job.wait_for_end()
        self.check(job, steps=steps)
        return job
