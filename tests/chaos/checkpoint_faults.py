"""G12, G13 and G14: what befalls checkpoints and the disk they are on."""
import contextlib
import ctypes
import os
import shutil
import signal
import time

import checkpoints
import processes
from job import Job
from trial import EVERY, RANKS, SOURCE, STEPS, Skipped, row

TROUBLE = "libtroubled_disk.so"  # tests/support/troubled_disk.cc


def troubled(trial):
    """Environment in which the disk of checkpoints is what the file says that
    comes first; that file."""
    library = trial.site.library("training", TROUBLE)
    file = trial.folder / "trouble"
    return {"LD_PRELOAD": str(library), "CATENA_TROUBLE": str(file)}, file


def make_trouble(file, text):
    """Whole at once: whoever reads it sees all of it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


# --- killed while one is written --------------------------------------------

CALLS = {"at a write": "write kill", "at an fsync": "fsync kill",
         "at the rename": "renameat2 kill"}


@row("G12", "a rank is killed while a checkpoint is written")
def killed_while_saving(trial):
    kind = trial.choose((*CALLS, "at any moment"))
    mark = trial.rng.choice(range(EVERY, STEPS - EVERY + 1, EVERY))
    environment, file = troubled(trial)
    if kind == "at any moment":
        environment = {}
    job = trial.launch(environment=environment)
    job.wait_for_step(mark - trial.rng.randint(1, 3))
    first = dict(job.ranks())

    def dies():
        return not all(map(processes.alive, first.values()))

    if kind == "at any moment":
        job.wait("a checkpoint to be written", lambda: (
            checkpoints.being_written(job.run) is not None), glance=0.0005)
        time.sleep(trial.rng.uniform(0, 0.02))
        victim = trial.rng.randrange(RANKS)
        job.signal_ranks([victim], signal.SIGKILL)
        victims = [victim]
    else:
        job.inject(lambda: make_trouble(file, CALLS[kind]))
        job.wait("a rank to be killed", dies, glance=0.0005)
        job.injected, job.injected_wall = time.monotonic(), time.time()
        file.unlink(missing_ok=True)
        job.saving = checkpoints.being_written(job.run)
        victims = range(RANKS)
    trial.phase = "saving"
    job.wait_for_end()
    trial.check(job, steps=STEPS, restarts=(1, 1), victims=victims,
                cause={"signal": 9})


# --- damaged between two generations ----------------------------------------

def truncate(trial, path, _):
    size = path.stat().st_size
    os.truncate(path, trial.rng.randrange(size))


def flip_bit(trial, path, _):
    at = trial.rng.randrange(path.stat().st_size)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << trial.rng.randrange(8))]))


def zero_page(trial, path, _):
    """Of which not all was zero."""
    content = path.read_bytes()
    pages = [at for at in range(0, len(content), 4096)
             if any(content[at:at + 4096])]
    at = trial.rng.choice(pages)
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes(len(content[at:at + 4096])))


def drop(_, path, __):
    path.unlink()


def of_another_step(_, path, older):
    shutil.copyfile(older / path.name, path)


def manifest_of_another_step(_, path, older):
    shutil.copyfile(older / "MANIFEST.json", path.parent / "MANIFEST.json")


def of_another_job(trial, path, _):
    """Same names and shapes, other values: its seed is another one."""
    shutil.copyfile(foreign(trial.site) / path.name, path)


def foreign(site):
    """A checkpoint of another job; made once."""
    run = site.work / f"foreign-{site.agents}" / "run"
    if not checkpoints.steps(run):
        job = Job(site.command(run, EVERY, {"train.seed": 1}), run.parent, run,
                  {}, SOURCE, {}, site.agents)
        job.wait_for_end()
        if job.exit_code() != 0:
            raise Skipped("the other job failed: " + job.last_words())
    return checkpoints.folder(run, EVERY)


DAMAGES = {"truncated": truncate, "a bit flipped": flip_bit,
           "a page of zeros": zero_page, "a file missing": drop,
           "a shard of another step": of_another_step,
           "the manifest of another step": manifest_of_another_step,
           "a shard of another job": of_another_job}


@row("G13", "the newest checkpoint is damaged, then a rank killed")
def checkpoint_is_damaged(trial):
    kind = trial.choose(DAMAGES)
    if kind == "a shard of another job":
        foreign(trial.site)
    mark = trial.rng.choice(range(2 * EVERY, STEPS - EVERY + 1, EVERY))
    job = trial.launch()
    job.wait(f"a checkpoint of step {mark}",
             lambda: mark in checkpoints.steps(job.run), glance=0.002)
    folder = checkpoints.folder(job.run, mark)
    shards = checkpoints.shards(folder)
    files = shards if kind.startswith("a shard") else [
        path for path in folder.iterdir() if path.is_file()]
    path = trial.rng.choice(sorted(files))
    victim = trial.rng.randrange(RANKS)

    def damage_and_kill():
        trial.damaged[mark] = checkpoints.inode(job.run, mark)
        DAMAGES[kind](trial, path,
                      checkpoints.folder(job.run, mark - EVERY))
        os.kill(job.ranks()[victim], signal.SIGKILL)

    job.repeatable = 2 * EVERY + 1
    job.inject(damage_and_kill)
    trial.phase = "step"
    trial.facts["file"] = path.name
    job.wait_for_end()
    trial.check(job, steps=STEPS, restarts=(1, 1), victims=[victim],
                cause={"signal": 9})
    second = job.generations.get(2)
    trial.hit = second is not None and max(second.saved, default=0) < mark
    if trial.hit:
        trial.require("It is passed over" in job.rank_log(),
                      "no warning of the damaged checkpoint")


# --- a disk in trouble ------------------------------------------------------

NEW_MOUNTS, PRIVATE, RECURSIVE, REMOUNT, BIND, READ_ONLY, DETACH = (
    0x20000, 1 << 18, 1 << 14, 32, 1 << 12, 1, 2)
libc = ctypes.CDLL(None, use_errno=True)
private = []


def require_zero(result, what):
    if result != 0:
        raise Skipped(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind, flags, options=""):
    require_zero(libc.mount(source.encode(), os.fsencode(target),
                            kind.encode(), flags, options.encode()),
                 "mounts of a process of its own")


def keep_mounts_private():
    if not private:
        require_zero(libc.unshare(NEW_MOUNTS),
                     "mounts of a process of its own")
        mount("none", "/", "", RECURSIVE | PRIVATE)
        private.append(True)


@contextlib.contextmanager
def mounted(target):
    """What was mounted there is gone at the end."""
    try:
        yield
    finally:
        libc.umount2(os.fsencode(target), DETACH)


def failures_to_save(job):
    return [line for line in processes.read(
        job.run / "metrics.jsonl").splitlines()
        if b'"checkpoint_failed"' in line]


def saving_fails_and_recovers(trial, job, begin, end):
    """Training goes on, says so, and saves again when it can."""
    first = max(job.saved)
    job.inject(begin)
    job.wait("a checkpoint that fails", lambda: failures_to_save(job))
    failed_at = job.metrics.last
    job.wait_for_step(failed_at + trial.rng.randint(2, 8))
    trial.require(max(job.valid_steps()) <= failed_at,
                  "one was saved all the same")
    trial.require(first in job.saved, "the last good one is gone")
    end()
    job.wait("a checkpoint after it", lambda: (
        max(job.valid_steps()) > failed_at))
    job.wait_for_end()


@contextlib.contextmanager
def small_disk(trial):
    """Room for one checkpoint and the logs; there is more in the end."""
    keep_mounts_private()
    size = sum(path.stat().st_size for path in checkpoints.folder(
        trial.site.reference.run, EVERY).iterdir())
    disk = trial.folder / "disk"
    disk.mkdir()
    mount("chaos", disk, "tmpfs", 0, f"size={size + size * 4 // 5}")
    with mounted(disk):
        trial.run = disk / "run"
        try:
            yield (lambda: None), lambda: mount(
                "chaos", disk, "tmpfs", REMOUNT, f"size={20 * size}")
        finally:
            shutil.copytree(trial.run, trial.folder / "run",
                            dirs_exist_ok=True)


@contextlib.contextmanager
def read_only(trial):
    keep_mounts_private()
    folder = trial.run / "checkpoints"

    def begin():
        mount(str(folder), folder, "", BIND)
        mount("", folder, "", REMOUNT | BIND | READ_ONLY)

    # Ranks have this process's mounts, and see it at once.
    with mounted(folder):
        yield begin, lambda: libc.umount2(os.fsencode(folder), DETACH)


ERRORS = {"quota exceeded": "write 122", "fsync fails with EIO": "fsync 5",
          "write fails with EIO": "write 5",
          "rename fails with EIO": "renameat2 5"}


@row("G14", "a disk in trouble while checkpoints are written")
def disk_in_trouble(trial):
    kind = trial.choose((*ERRORS, "full", "read-only", "very slow"))
    trial.phase = "saving"
    environment, file = troubled(trial)
    with contextlib.ExitStack() as stack:
        begin, end = lambda: make_trouble(file, ERRORS[kind]), file.unlink
        if kind == "full":
            begin, end = stack.enter_context(small_disk(trial))
        if kind == "read-only":
            begin, end = stack.enter_context(read_only(trial))
        if kind == "very slow":
            begin, end = lambda: make_trouble(file, "fsync wait"), file.unlink
        # Before a start it is said that such a disk is too small.
        flags = ["--no-preflight"] if kind == "full" else []
        job = trial.launch(*flags, environment=environment, steps=2 * STEPS)
        job.wait("a checkpoint", lambda: job.saved)
        if kind == "very slow":
            slow(trial, job, begin, end)
        else:
            saving_fails_and_recovers(trial, job, begin, end)
            trial.require(
                job.result().get("restarts") == [] and failures_to_save(job),
                "the failure is not in the metrics")
        trial.check(job, steps=2 * STEPS)


def slow(trial, job, begin, end):
    """Steps go on while nothing is saved."""
    before = job.metrics.last
    job.inject(begin)
    job.wait_for_step(before + 3 * EVERY)
    trial.require(max(job.valid_steps()) < before + 2 * EVERY,
                  "the disk was not slow")
    end()
    job.wait_for_end()
