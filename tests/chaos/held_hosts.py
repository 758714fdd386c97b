"""Hosts that are this machine, whose agents come when they are let.

`catena launch --hosts host1,host2` starts them by ssh. Hosts puts this file in
its place: it waits until the host is let in, and is the agent from then on."""
import ctypes
import dataclasses
import os
import pathlib
import select
import sys

NAMES = ("host1", "host2")


class Hosts:
    """`folder`: the trial's."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / "hosts"
        self.folder.mkdir()
        self.ssh = self.folder / "ssh"
        self.ssh.write_text(f"#!/bin/sh\nexec {sys.executable} {__file__} "
                            f"{self.folder} \"$@\"\n")
        self.ssh.chmod(0o755)

    def launch(self, trial, *flags, steps):
        """A job of an agent on each."""
        site = dataclasses.replace(trial.site, agents=0)
        command = site.command(trial.run, steps, None, (
            "--hosts", ",".join(NAMES), "--address", "127.0.0.1", "--lease",
            "2", *flags))
        path = f"{self.folder}:{os.environ['PATH']}"
        return trial.launch(command=command, agents=len(NAMES),
                            environment={"PATH": path})

    def let(self, name):
        (self.folder / name).touch()

    def invitation(self, job, name):
        """What the launcher tells the agent of a host that was not let yet:
        JSON, which the agent reads all the same."""
        asked = self.folder / f"{name}.process"
        job.wait(f"an agent of {name} to be asked for", asked.exists)
        out, into = os.pipe()
        with open(f"/proc/{asked.read_text()}/fd/0", "rb") as pipe:
            count = ctypes.CDLL(None).tee(pipe.fileno(), into, 4096, 0)
        try:
            return os.read(out, 4096) if count > 0 else b""
        finally:
            os.close(out)
            os.close(into)


def be_agent(folder, host, command):
    asked = folder / f"{host}.process"
    asked.with_suffix(".new").write_text(str(os.getpid()))
    asked.with_suffix(".new").rename(asked)
    launcher = select.poll()
    launcher.register(0, 0)  # hears that it is closed, and nothing else
    while not (folder / host).exists():
        if launcher.poll(20):
            sys.exit(255)
    words = command.split()
    os.execv(words[0], words)


if __name__ == "__main__":
    be_agent(pathlib.Path(sys.argv[1]),
             *sys.argv[sys.argv.index("--") + 1:])
