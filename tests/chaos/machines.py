"""Machines that are network namespaces of this one, with links that can be cut.

Network makes two, host1 and host2, and a third for the launcher:

    launcher 10.77.0.1 --- to-host1 --- host1 10.77.1.2
                      \\--- to-host2 --- host2 10.77.2.2
    host1 --- peer --- host2

Ranks of the two reach each other by the link between them alone, agents and
launcher by theirs. In each runs `machines.py serve`, as sshd would, and starts
what `machines.py ssh`, as ssh would, asks it for over TCP: so a launcher can
neither kill an agent that it does not reach, nor close its input.
"""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading

LAUNCHER = "10.77.0.1"
PORT = 22
PROGRAMS = ("ip", "nsenter", "setpriv", "unshare")  # iproute2, util-linux


class Impossible(Exception):
    """This machine makes no such network; says why."""


def address(number):
    return f"10.77.{number}.2"


class Machine:
    """A namespace. It lives as long as the process in it, and that not longer
    than this one."""

    def __init__(self, name, folder):
        self.name = name
        with open(folder / f"{name}.log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--net",
                 sys.executable, __file__, "serve"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        if not self.process.stdout.readline():
            self.close()
            raise Impossible("no network namespace: " + (
                folder / f"{name}.log").read_text().strip())

    @property
    def enter(self):
        """What starts a program there."""
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    def ip(self, *commands):
        told = subprocess.run([*self.enter, "ip", "-batch", "-"],
                              input="\n".join(commands), text=True,
                              stderr=subprocess.PIPE, check=False)
        if told.returncode != 0:
            raise Impossible(f"{self.name}: ip {'; '.join(commands)}: "
                             + told.stderr.strip())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Network:
    """Two machines and the launcher's. `folder`: for their logs."""

    def __init__(self, folder):
        for program in PROGRAMS:
            if not shutil.which(program):
                raise Impossible(f"no {program}")
        if os.geteuid() != 0:
            raise Impossible("network namespaces are made as root only")
        self.folder = pathlib.Path(folder)
        with contextlib.ExitStack() as stack:
            self.launcher, *self.hosts = (
                self.add(stack, name)
                for name in ("launcher", "host1", "host2"))
            self.join()
            self.stack = stack.pop_all()

    def add(self, stack, name):
        machine = Machine(name, self.folder)
        stack.callback(machine.close)
        return machine

    def close(self):
        self.stack.close()

    @property
    def processes(self):
        return [machine.process.pid
                for machine in (self.launcher, *self.hosts)]

    def ssh(self):
        """Environment in which `ssh host1 COMMAND` starts it there."""
        script = self.folder / "bin" / "ssh"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\nexec {sys.executable} {__file__} "
                          "ssh \"$@\"\n")
        script.chmod(0o755)
        return {"PATH": f"{script.parent}:{os.environ['PATH']}"}

    def join(self):
        self.launcher.ip(
            "link set lo up", f"addr add {LAUNCHER}/32 dev lo",
            *(words for number, host in enumerate(self.hosts, 1) for words in (
                f"link add to-{host.name} type veth "
                f"peer name eth0 netns {host.process.pid}",
                f"addr add 10.77.{number}.1/24 dev to-{host.name}",
                f"link set to-{host.name} up")))
        first, second = self.hosts
        first.ip("link add peer type veth "
                 f"peer name peer netns {second.process.pid}")
        for number, host in enumerate(self.hosts, 1):
            host.ip("link set lo up", f"addr add {address(number)}/24 dev eth0",
                    "link set eth0 up", "link set peer up",
                    f"route add {self.way_to_launcher(number)}",
                    f"route add {self.way_to_peer(number)}")

    @staticmethod
    def way_to_launcher(number):
        return f"{LAUNCHER}/32 via 10.77.{number}.1"

    @staticmethod
    def way_to_peer(number):
        return f"{address(3 - number)}/32 dev peer src {address(number)}"

    # --- cuts: what to do, and how to undo it -------------------------------

    def control_cut(self, kind, number):
        """Between the launcher and host `number`."""
        host = self.hosts[number - 1]
        link = f"link set to-{host.name}"
        to_launcher = (host, f"route replace blackhole {LAUNCHER}/32",
                       f"route replace {self.way_to_launcher(number)}")
        to_agent = (self.launcher,
                    f"route add blackhole {address(number)}/32",
                    f"route del blackhole {address(number)}/32")
        return Cut({
            "link down": [(self.launcher, f"{link} down", f"{link} up")],
            "blackhole": [to_launcher, to_agent],
            "one way, to the launcher": [to_launcher],
            "one way, to the agent": [to_agent]}[kind])

    def peer_cut(self, kind, number):
        """Between the two; `number`: the one that begins it."""
        def lost(number):  # what it sends
            return (self.hosts[number - 1],
                    f"route replace blackhole {address(3 - number)}/32",
                    f"route replace {self.way_to_peer(number)}")

        host = self.hosts[number - 1]
        return Cut({
            # The kernel forgets the way with the link.
            "link down": [(host, "link set peer down", "link set peer up"),
                          (host, None,
                           f"route replace {self.way_to_peer(number)}")],
            "blackhole": [lost(number), lost(3 - number)],
            "one way": [lost(number)]}[kind])


CONTROL_CUTS = ("link down", "blackhole", "one way, to the launcher",
                "one way, to the agent")
PEER_CUTS = ("link down", "blackhole", "one way")


class Cut:
    def __init__(self, steps):
        self.steps = steps

    def make(self):
        for machine, words, _ in self.steps:
            if words:
                machine.ip(words)

    def heal(self):
        for machine, _, words in self.steps:
            machine.ip(words)


# --- what runs in the machines ----------------------------------------------

def read_line(line):
    """Byte by byte: what follows is the program's."""
    text = b""
    while not text.endswith(b"\n"):
        byte = line.recv(1)
        if not byte:
            break
        text += byte
    return text


def become(line):
    """The program that is asked for. Its input is the connection."""
    request = json.loads(read_line(line))
    os.setsid()
    os.dup2(line.fileno(), 0)
    os.dup2(2, 1)
    words = request["command"].split()
    os.execve(words[0], words, request["environment"])


def serve():
    """Starts programs, each a child of this process."""
    with socket.create_server(("", PORT)) as listener:
        listener.settimeout(0.2)
        print("ready", flush=True)
        while True:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            try:
                line, _ = listener.accept()
            except TimeoutError:
                continue
            with line:
                if os.fork() == 0:
                    try:
                        become(line)
                    finally:
                        os._exit(255)


def send_input(line):
    while content := os.read(0, 65536):
        line.sendall(content)
    line.shutdown(socket.SHUT_WR)


def ssh(words):
    """ssh OPTIONS -- HOST COMMAND, without its output."""
    host, command = words[words.index("--") + 1:]
    number = int(host.removeprefix("host"))
    try:
        line = socket.create_connection((address(number), PORT), 10,
                                        (LAUNCHER, 0))
    except OSError as error:
        print(f"ssh: connect to host {host}: {error}", file=sys.stderr)
        return 255
    with line:
        line.settimeout(None)
        line.sendall(json.dumps({"command": command, "environment": dict(
            os.environ)}).encode() + b"\n")
        threading.Thread(target=send_input, args=(line,), daemon=True).start()
        try:
            while line.recv(65536):
                pass
        except OSError as error:
            print(f"ssh: {host}: {error}", file=sys.stderr)
            return 255
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1] == "serve" else ssh(sys.argv[2:]))
