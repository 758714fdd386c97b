"""G18: strangers at every port that the job's processes listen at."""
import os
import signal
import socket
import statistics
import threading
import time

import processes
from trial import row

CONNECTIONS = 1000  # of one kind in a trial
LONG = 100000  # steps: until it is told to end
IDLE = 200  # at a time, of those that stay
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(197)
NCCL_HELLO = bytes.fromhex("4e43434c0000000100000000deadbeef") * 4
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
KINDS = {
    "random bytes": lambda rng: rng.randbytes(rng.randint(1, 4096)),
    "an HTTP request": lambda rng: REQUEST,
    "a request cut short": lambda rng: REQUEST[:rng.randrange(len(REQUEST))],
    "a TLS hello": lambda rng: TLS_HELLO,
    "an NCCL hello": lambda rng: NCCL_HELLO,
    "a length of 2 GiB": lambda rng: (
        b"\x7f\xff\xff\xff" if rng.random() < 0.5 else
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2147483648"
        b"\r\n\r\n") + rng.randbytes(64),
    "slow drip": None,
    "idle connections": None,
}


def knock(port, content):
    """One connection; what it is answered is read and dropped."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as stranger:
            stranger.settimeout(0.05)
            stranger.sendall(content)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(65536):
                pass
    except OSError:
        pass  # turned away


def hold(ports, count, drip):
    """Connections that say nothing, or a byte now and then, for a while."""
    held = []
    for i in range(count):
        try:
            held.append(socket.create_connection(
                ("127.0.0.1", ports[i % len(ports)]), 5))
        except OSError:
            pass
    for _ in range(10):
        time.sleep(0.05)
        for stranger in held if drip else ():
            try:
                stranger.send(b"G")
            except OSError:
                pass
    for stranger in held:
        stranger.close()


class Strangers(threading.Thread):
    """Come while the job goes on."""

    def __init__(self, ports, kind, rng):
        super().__init__(daemon=True)
        self.ports, self.kind, self.rng = ports, kind, rng
        self.count = 0

    def run(self):
        make = KINDS[self.kind]
        while self.count < CONNECTIONS:
            if make is None:
                hold(self.ports, IDLE, self.kind == "slow drip")
                self.count += IDLE
                continue
            for port in self.ports:
                knock(port, make(self.rng))
                self.count += 1
            time.sleep(0.001)


def step_times(job, seconds):
    """Medians of seconds between steps, as they are seen."""
    begin, at = job.metrics.last, time.monotonic()
    job.linger(seconds)
    return (time.monotonic() - at) / max(1, job.metrics.last - begin)


@row("G18", f"{CONNECTIONS} connections of strangers to each trial's ports")
def strangers_come(trial):
    kind = trial.choose(KINDS)
    trial.phase = "step"
    job = trial.launch(steps=LONG)
    job.wait_for_step(10)
    before = step_times(job, 1)
    job.inject(lambda: None)
    ports = sorted(set(job.inodes.values()))
    memory = processes.resident_bytes(job.launcher)
    files = len(processes.descriptors(job.launcher))
    strangers = Strangers(ports, kind, trial.rng)
    strangers.start()
    times = []
    while strangers.is_alive() and job.end is None:
        times.append(step_times(job, 0.25))
    strangers.join()
    trial.hit = job.end is None
    growth = processes.resident_bytes(job.launcher) - memory
    trial.require(growth < 16 << 20, f"the launcher grew by {growth} bytes")
    if trial.hit:
        until = time.monotonic() + 10
        while (len(processes.descriptors(job.launcher)) > files
               and time.monotonic() < until and job.end is None):
            job.linger(0.1)
        trial.require(
            job.end or len(processes.descriptors(job.launcher)) <= files,
            "descriptors of the launcher are not given back in 10 s")
    if job.end is None:
        os.kill(job.launcher, signal.SIGTERM)
    job.wait_for_end()
    trial.check(job, state="PREEMPTED", code=75)
    trial.timers.clear()  # nothing was to end for them
    trial.facts.update({
        "connections": strangers.count, "ports": len(ports),
        "grown KiB": growth >> 10,
        "step time over that before": round(
            statistics.median(times) / before, 3)})
