"""G18: strangers at every port that the job's processes listen at."""
import json
import os
import signal
import socket
import statistics
import threading
import time

import agent_words
import held_hosts
import processes
from trial import row

CONNECTIONS = 2000  # of one kind in a trial: of each 10,000 in 60 trials
AT_THE_DOOR = 200   # of them before the last agent is there
LONG = 100000  # steps: until it is told to end
IDLE = 500  # at a time, of those that stay
GROWTH = 16 << 20  # bytes of the launcher
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(197)
NCCL_HELLO = bytes.fromhex("4e43434c0000000100000000deadbeef") * 4
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def hello(rng):
    return agent_words.Agent(b"chaos", 1, b"", rng.randbytes(32)).hello()


def part(rng, whole):
    return whole[:rng.randrange(len(whole))]


# What one of them says, by chance; nothing: they stay.
KINDS = {
    "random bytes": lambda rng: rng.randbytes(rng.randint(1, 4096)),
    "an HTTP request": lambda rng: REQUEST,
    "a request cut short": lambda rng: part(rng, REQUEST),
    "a TLS hello": lambda rng: TLS_HELLO,
    "an NCCL hello": lambda rng: NCCL_HELLO,
    "a length of 2 GiB": lambda rng: (
        b"\x7f\xff\xff\xff" if rng.random() < 0.5 else
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2147483648"
        b"\r\n\r\n") + rng.randbytes(64),
    "a frame cut short": lambda rng: part(rng, hello(rng)),
    "a frame of another key": lambda rng: agent_words.sealed(
        rng.randbytes(32), 0, agent_words.REPORT),
    "slow drip": None,
    "idle connections": None,
}
# At the launcher's port for agents, whose place may be free.
AGENT_KINDS = ("a handshake of another secret", "a recorded connection")


def knock(port, content, patience=0.05):
    """One connection; what it is answered is read and dropped."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as stranger:
            stranger.settimeout(patience)
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


def visits(kind, ports, rng):
    """What makes some connections of a kind, and returns how many."""
    make = KINDS[kind]

    def visit():
        if make is None:
            hold(ports, IDLE, kind == "slow drip")
            return IDLE
        for port in ports:
            knock(port, make(rng))
        return len(ports)
    return visit


def agent_visits(kind, told, rng):
    """`told`: the invitation of an agent that is not there yet. Strangers know
    all of it but the secret, or what another one has said that knew it."""
    port, job = told["port"], told["job"].encode()
    secret = told["secret"].encode()

    def agent(secret):
        return agent_words.Agent(job, told["agent"], secret, rng.randbytes(32),
                                 told["incarnation"])

    recorded = agent_words.recording(port, agent(secret))

    def visit():
        if kind == "a recorded connection":
            knock(port, recorded, patience=2)
        else:
            agent_words.greet(port, agent(rng.randbytes(32)), prove=True)
        return 1
    return visit


class Strangers(threading.Thread):
    """Come while the job goes on."""

    def __init__(self, visit, most):
        super().__init__(daemon=True)
        self.visit, self.most, self.count = visit, most, 0

    def run(self):
        while self.count < self.most:
            self.count += self.visit()
            time.sleep(0.001)


def step_time(job):
    """Seconds between steps, as they are seen for a while."""
    begin, at = job.metrics.last, time.monotonic()
    job.linger(0.25)
    return (time.monotonic() - at) / max(1, job.metrics.last - begin)


def launch_with_one_late(trial, kind):
    """A job of two agents, the second of which comes when strangers have tried
    to come in its place. Returns the job, and what makes more of them."""
    hosts = held_hosts.Hosts(trial.folder)
    job = hosts.launch(trial, "--no-preflight", steps=LONG)
    hosts.let("host1")
    told = json.loads(hosts.invitation(job, "host2"))
    visit = agent_visits(kind, told, trial.rng)
    for _ in range(AT_THE_DOOR):
        visit()
        job.poll()
    hosts.let("host2")
    return job, visit


def launch(trial, kind):
    if kind in AGENT_KINDS:
        return (*launch_with_one_late(trial, kind), AT_THE_DOOR)
    job = trial.launch(steps=LONG)
    job.wait_for_step(10)
    job.note_ports()
    ports = sorted(set(job.inodes.values()))
    for port in ports:  # what the first who asks has it open stays open
        knock(port, REQUEST, patience=2)
    trial.facts["ports"] = len(ports)
    return job, visits(kind, ports, trial.rng), 0


def await_descriptors(trial, job, count):
    """Those that strangers took are given back in 10 s."""
    until = time.monotonic() + 10
    while (len(processes.descriptors(job.launcher)) > count
           and time.monotonic() < until and job.end is None):
        job.linger(0.1)
    trial.require(job.end or len(processes.descriptors(job.launcher)) <= count,
                  "descriptors of the launcher are not given back in 10 s")


@row("G18", f"{CONNECTIONS} connections of strangers, of one kind a trial")
def strangers_come(trial):
    kind = trial.choose((*KINDS, *AGENT_KINDS))
    trial.phase = "step"
    job, visit, came = launch(trial, kind)
    job.wait_for_step(10)
    before = statistics.median(step_time(job) for _ in range(4))
    job.inject(lambda: None)
    memory = [processes.resident_bytes(job.launcher)]
    files = len(processes.descriptors(job.launcher))
    strangers = Strangers(visit, CONNECTIONS - came)
    strangers.start()
    times = []
    while strangers.is_alive() and job.end is None:
        times.append(step_time(job))
        memory.append(processes.resident_bytes(job.launcher))
    strangers.join()
    trial.hit = job.end is None
    if trial.hit:
        memory.append(processes.resident_bytes(job.launcher))
        await_descriptors(trial, job, files)
    growth = max(memory) - memory[0]
    trial.require(growth <= GROWTH, f"the launcher grew by {growth} bytes")
    if job.end is None:
        os.kill(job.launcher, signal.SIGTERM)
    job.wait_for_end()
    trial.check(job, state="PREEMPTED", code=75)
    trial.timers.clear()  # nothing was to end for them
    refused = job.result()["control"]["connections_rejected"]
    trial.require(kind not in AGENT_KINDS
                  or refused["proof"] > 0.9 * AT_THE_DOOR,
                  f"of {AT_THE_DOOR} without the secret {refused} were refused")
    trial.facts.update({
        "connections": came + strangers.count,
        "MiB before": round(memory[0] / 2**20, 1), "grown KiB": growth >> 10,
        "step time ratio": round(
            statistics.median(times) / before, 3),
        "turned away": {why: count for why, count in refused.items() if count}})
