"""What the kernel says of processes: /proc, read without help."""
import os


def read(path):
    """A file's bytes; nothing where it, or its process, is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def environment(process):
    """Of a process, as it began; empty for one that has ended."""
    pairs = (entry.partition(b"=") for entry in
             read(f"/proc/{process}/environ").split(b"\0") if entry)
    return {name.decode(errors="replace"): value.decode(errors="replace")
            for name, _, value in pairs}


def state(process):
    """R, S, T, Z, ...; nothing for one that is gone."""
    text = read(f"/proc/{process}/stat").rpartition(b")")[2].split()
    return text[0].decode() if text else ""


def program(process):
    """The name of the file that it runs."""
    try:
        return os.path.basename(os.readlink(f"/proc/{process}/exe"))
    except OSError:
        return ""


def alive(process):
    return state(process) not in ("", "Z", "X")


def all_processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def tagged(name, value):
    """Those that live and have NAME=VALUE in the environment they began with:
    whoever began them, and whatever they call themselves."""
    wanted = f"{name}={value}".encode()
    return [process for process in all_processes()
            if wanted in read(f"/proc/{process}/environ").split(b"\0")
            and alive(process)]


def children(process):
    """Of all of its threads."""
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return []
    found = []
    for thread in threads:
        found += map(int, read(
            f"/proc/{process}/task/{thread}/children").split())
    return found


def descendants(process, depth=3):
    found = []
    for child in children(process):
        found.append(child)
        if depth > 1:
            found += descendants(child, depth - 1)
    return found


def resident_bytes(process):
    words = read(f"/proc/{process}/statm").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if words else 0


def descriptors(process):
    try:
        return os.listdir(f"/proc/{process}/fd")
    except OSError:
        return []


def sockets(process):
    """Inodes of the sockets that it has open."""
    found = set()
    for number in descriptors(process):
        try:
            link = os.readlink(f"/proc/{process}/fd/{number}")
        except OSError:
            continue
        if link.startswith("socket:["):
            found.add(int(link[8:-1]))
    return found


def listening(where=("self",)):
    """Inode and port of every TCP socket that listens in the networks of these
    processes."""
    found = {}
    for path in (f"/proc/{process}/net/{name}" for process in where
                 for name in ("tcp", "tcp6")):
        for line in read(path).splitlines()[1:]:
            words = line.split()
            if words[3] == b"0A":
                found[int(words[9])] = int(words[1].rpartition(b":")[2], 16)
    return found
