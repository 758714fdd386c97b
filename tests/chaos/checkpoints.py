"""Checkpoints of a run, as they lie on the disk."""
import hashlib
import pathlib
import re


def folder(run, step):
    return pathlib.Path(run) / "checkpoints" / f"step-{step:06d}"


def inode(run, step):
    """Of its folder, whatever name it takes; nothing where it is gone."""
    try:
        return folder(run, step).stat().st_ino
    except OSError:
        return None


def steps(run):
    """Of those that have their name and a manifest."""
    found = set()
    for path in (pathlib.Path(run) / "checkpoints").glob("step-*"):
        name = re.fullmatch(r"step-(\d+)", path.name)
        if name and (path / "MANIFEST.json").exists():
            found.add(int(name.group(1)))
    return found


def unfinished(run):
    """Folders that have a temporary name."""
    return [path for path in (pathlib.Path(run) / "checkpoints").glob("*")
            if not re.fullmatch(r"(abandoned-)?step-\d+", path.name)]


def being_written(run):
    """The step of an unfinished one; nothing where there is none."""
    found = [re.search(r"step-(\d+)", path.name) for path in unfinished(run)]
    found = [int(name.group(1)) for name in found if name]
    return max(found, default=None)


def shards(path):
    """The files of tensors."""
    return sorted(pathlib.Path(path).glob("*.safetensors"))


def state_hash(path):
    """Of weights and moments: every byte of every tensor's file."""
    total = hashlib.blake2b()
    for shard in shards(path):
        total.update(shard.name.encode())
        total.update(hashlib.blake2b(shard.read_bytes()).digest())
    return total.hexdigest()[:32]
