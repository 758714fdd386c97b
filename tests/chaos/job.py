"""One `catena launch`, started, and watched from outside."""
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import checkpoints
import processes

TAG = "CATENA_CHAOS"
GRACE = 5.0  # seconds: --grace-period
LIMIT = 300  # seconds: longer than any sound job here takes
GLANCE = 0.01  # seconds
ENDS = ("SUCCEEDED", "FAILED", "PREEMPTED", "CANCELLED")


class Disturbed(Exception):
    """The job did not come as far as a fault needs it."""


class Follower:
    """The growing RUN/metrics.jsonl, which a new generation cuts."""

    def __init__(self, path):
        self.path, self.offset, self.inode = path, 0, None
        self.rest, self.losses = b"", []
        self.read()

    def read(self):
        """Steps that were written since, in the same file."""
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                cut = self.inode is not None and (
                    status.st_ino != self.inode
                    or status.st_size < self.offset)
                if cut:
                    self.offset, self.rest, self.losses = 0, b"", []
                self.inode = status.st_ino
                file.seek(self.offset)
                text = file.read()
        except OSError:
            return []
        self.offset += len(text)
        *lines, self.rest = (self.rest + text).split(b"\n")
        found = [loss for loss in map(self.loss, lines) if loss]
        self.losses += found
        return [] if cut else [step for step, _, _ in found]

    @staticmethod
    def loss(line):
        try:
            record = json.loads(line)
        except ValueError:
            return None
        loss = record.get("catena_loss", {}).get("train")
        if loss is None:
            return None
        return record["catena_step"], loss, record["catena_tokens"]

    @property
    def last(self):
        return self.losses[-1][0] if self.losses else 0


class Generation:
    """What was seen of one start of all ranks. Times are monotonic."""

    def __init__(self, number, begin, saved):
        self.number, self.begin, self.saved = number, begin, saved
        self.ranks = {}  # process by rank
        self.first_step = None  # when it had taken one
        self.furthest = 0
        self.gone = None  # when its last process was


class Job:
    """A launcher and its ranks. `folder` is the trial's, `run` the run's."""

    def __init__(self, command, folder, run, environment, cwd, damaged,
                 agents=0, network=None):
        self.folder, self.run = pathlib.Path(folder), pathlib.Path(run)
        self.agents = agents  # 0: the launcher itself is the only one
        self.network = network  # machines.Network; none: this machine
        self.damaged = damaged  # inode of its folder by step; the trial's
        self.problems = []  # what was seen that must not be
        self.generations = {}
        self.known = {}  # rank and generation by process
        self.saved = set()  # steps of checkpoints that were ever there
        self.reached_before = 0  # step that a launcher before this one reached
        self.repeatable = 11  # steps that may be: checkpoint.every + 1
        self.detached = False  # what began the launcher may end before it
        self.inodes = {}  # port by inode of sockets that listened
        self.ids = set()
        self.injected = self.injected_wall = None
        self.saving = None  # step of the checkpoint that was under way
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.log_offset = self.size(self.run / "launcher.log")
        self.journal_offset = processes.read(
            self.run / "journal.jsonl").rfind(b"\n") + 1
        self.rank_offset = self.size(self.run / "logs" / "rank-0.log")
        self.metrics = Follower(self.run / "metrics.jsonl")
        self.ever_saved = bool(self.valid_steps())
        self.tag = f"{os.getpid()}-{time.monotonic_ns()}"
        number = len(list(self.folder.glob("launcher-*.err")))
        self.words = self.folder / f"launcher-{number}.err"
        self.begin = time.monotonic()
        with open(self.words, "wb") as error, \
                open(self.folder / f"launcher-{number}.out", "wb") as output:
            self.process = subprocess.Popen(
                [os.fspath(word) if not isinstance(word, bytes) else word
                 for word in command], cwd=cwd, stdin=subprocess.DEVNULL,
                stdout=output, stderr=error, start_new_session=True,
                env={**os.environ, "TMPDIR": str(self.temporary),
                     **environment, TAG: self.tag})
        self.launcher = self.process.pid
        self.end = self.empty = None

    @staticmethod
    def size(path):
        return path.stat().st_size if path.exists() else 0

    # --- what there is ------------------------------------------------------

    def valid_steps(self):
        return {step for step in checkpoints.steps(self.run)
                if step not in self.damaged
                or self.damaged[step] != checkpoints.inode(self.run, step)}

    def generation(self):
        return self.generations.get(max(self.generations, default=0))

    def offspring(self):
        if self.network:
            return [found for host in self.network.hosts
                    for found in processes.descendants(host.process.pid, 2)]
        return processes.descendants(self.launcher, 2 if self.agents else 1)

    def listening(self):
        return processes.listening(
            self.network.processes if self.network else ("self",))

    def agent_processes(self):
        return processes.children(self.launcher) if self.agents else []

    def ranks(self):
        """Processes of the newest generation that live, by rank."""
        newest = self.generation()
        return {rank: process for rank, process in newest.ranks.items()
                if processes.alive(process)} if newest else {}

    def said(self):
        """What this launcher wrote to its log."""
        text = processes.read(self.run / "launcher.log")
        return text[self.log_offset:].decode(errors="replace")

    def rank_log(self, rank=0):
        """What it wrote; of rank 0, in generations of this launcher."""
        text = processes.read(self.run / "logs" / f"rank-{rank}.log")
        begin = self.rank_offset if rank == 0 else 0
        return text[begin:].decode(errors="replace")

    def result(self):
        try:
            return json.loads(processes.read(self.run / "job.json"))
        except ValueError:
            return {}

    def journal(self):
        """Of this launcher: throws where a line is not whole."""
        text = processes.read(self.run / "journal.jsonl")[self.journal_offset:]
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if line["job"] == lines[0]["job"]]

    def exit_code(self):
        """As a shell says it."""
        if self.detached:
            return self.result().get("exit_code")
        code = self.process.returncode
        return code if code is None or code >= 0 else 128 - code

    # --- watching -----------------------------------------------------------

    def poll(self):
        """A glance at all of it, some milliseconds' worth."""
        now = time.monotonic()
        self.look_at_ranks(now)
        newest = self.generation()
        for step in self.metrics.read():
            if newest:
                newest.furthest = max(newest.furthest, step)
                newest.first_step = newest.first_step or now
        valid = self.valid_steps()
        self.saved |= valid
        if valid:
            self.ever_saved = True
        elif self.ever_saved:
            self.problem("V8: there was a checkpoint, and now none is valid")
        if self.end is None and self.over():
            self.end = now

    def over(self):
        """Whether the launcher, and what began it, have ended."""
        over = self.process.poll() is not None
        return over and (self.launcher == self.process.pid
                         or not processes.alive(self.launcher))

    def problem(self, text):
        if text not in self.problems:
            self.problems.append(text)

    def look_at_ranks(self, now):
        for process in self.offspring():
            if process not in self.known:
                self.meet(process, now)
        living = set()
        for number, generation in self.generations.items():
            if generation.gone:
                continue
            if any(map(processes.alive, generation.ranks.values())):
                living.add(number)
            else:
                generation.gone = now
        if len(living) > 1:
            self.problem("V5: ranks of generations "
                         f"{sorted(living)} lived at the same time")

    def meet(self, process, now):
        words = processes.environment(process)
        # Between fork and exec it has the launcher's, or the agent's.
        if "CATENA_GENERATION" not in words or words.get(TAG) != self.tag:
            return
        number = int(words["CATENA_GENERATION"])
        rank = int(words.get("CATENA_RANK", 0))
        self.known[process] = (rank, number)
        self.ids.add(words["CATENA_JOB_ID"])
        if number not in self.generations:
            self.generations[number] = Generation(number, now,
                                                  self.valid_steps())
        # What a rank forks has its environment.
        self.generations[number].ranks.setdefault(rank, process)
        self.generations[number].gone = None

    def wait(self, what, happened, limit=LIMIT, glance=GLANCE):
        """Until it has happened; throws where the launcher ends before, or
        it takes too long."""
        until = time.monotonic() + limit
        while True:
            self.poll()
            if happened():
                return
            if self.end is not None:
                raise Disturbed(f"the launcher ended before {what}: "
                                + self.last_words())
            if time.monotonic() > until:
                raise Disturbed(f"in {limit} s no {what}")
            time.sleep(glance)

    def find_launcher(self):
        """Of a job that another program begins."""
        def found():
            for process in processes.descendants(self.process.pid):
                if processes.program(process) == "catena":
                    self.launcher = process
            return self.launcher != self.process.pid
        self.wait("launcher", found)

    def wait_for_step(self, step):
        self.wait(f"step {step}", lambda: self.metrics.last >= step)

    def wait_for_ranks(self, count):
        self.wait(f"{count} ranks", lambda: len(self.ranks()) >= count,
                  glance=0.002)

    def wait_for_end(self, limit=LIMIT):
        """Of the launcher. Returns whether it came; else all is killed."""
        until = time.monotonic() + limit
        while self.end is None:
            if time.monotonic() > until:
                self.problem(f"V3: the launcher did not end within {limit} s; "
                             + self.last_words())
                self.kill()
                return False
            self.poll()
            time.sleep(GLANCE)
        return True

    def linger(self, seconds):
        """Watches on for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.end is None:
            self.poll()
            time.sleep(GLANCE)

    def last_words(self):
        words = processes.read(self.words).decode(errors="replace")
        return " | ".join(words.strip().splitlines()[-3:])

    # --- disturbing ---------------------------------------------------------

    def note_ports(self):
        mine = set()
        for process in [self.launcher, *self.offspring()]:
            mine |= processes.sockets(process)
        for inode, port in self.listening().items():
            if inode in mine:
                self.inodes[inode] = port

    def inject(self, action):
        """Does it, and notes when and what was under way."""
        self.note_ports()
        self.poll()
        self.injected, self.injected_wall = time.monotonic(), time.time()
        action()
        self.saving = checkpoints.being_written(self.run)

    def signal_ranks(self, ranks, number):
        there = self.ranks()
        self.inject(lambda: [os.kill(there[rank], number) for rank in ranks
                             if rank in there])

    def kill(self):
        """Whatever is left of it, at once."""
        for _ in range(100):
            left = processes.tagged(TAG, self.tag)
            for process in left:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if self.process.poll() is not None and not left:
                break
            time.sleep(0.02)
        if self.end is None:
            self.end = time.monotonic()

    def reached(self):
        """The furthest step, without those that were taken while a checkpoint
        was being written which the fault prevented."""
        newest = self.generation()
        furthest = newest.furthest if newest else 0
        return furthest if self.saving is None else min(furthest, self.saving)

    # --- timers -------------------------------------------------------------

    def noticed(self, pattern):
        """Seconds from the fault to the launcher's line about it."""
        for line in self.said().splitlines():
            found = re.match(r"(\d+-\S+T\S+) \w+ ", line)
            if not found or not re.search(pattern, line):
                continue
            at = datetime.datetime.fromisoformat(found.group(1)).timestamp()
            if at > self.injected_wall - 0.005:
                return max(at - self.injected_wall, 0.0)
        return None

    def since_fault(self, moment):
        if moment is None or self.injected is None:
            return None
        return moment - self.injected
