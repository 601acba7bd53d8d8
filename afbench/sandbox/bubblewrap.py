"""Isolation by bubblewrap: namespaces on Linux, for root and for ordinary users.

One sandbox holds a nursery, which loads the engine once and forks a process in namespaces of its
own for each instance of a detector. Where the kernel lets bubblewrap make namespaces and nobody
inside, each instance gets a sandbox of its own instead, which costs it the import of the engine.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

from afbench.errors import SandboxError
from afbench.sandbox.channel import Channel, widened
from afbench.sandbox.limits import MAX_MESSAGE, Limits
from afbench.sandbox.processes import Ending, Piped, Process, Snapshots, tried
from afbench.sandbox.protocol import plain
from afbench.sandbox.view import View, environment

_DETECTORS, _DETECTOR = "/detectors", "/detector"
# Users that systemd gives to services for a while: files of nobody, processes of nobody.
_IDENTITIES: Final = range(61_184, 65_520)
_PATIENCE: Final = 60.0


def program() -> str | None:
    """Where bubblewrap is, or None."""
    return shutil.which("bwrap")


class Bubblewrap:
    """Runs detectors in bubblewrap.

    Args:
        view: what they see of this machine.
        limits: of each detector.
        forks: share one sandbox among instances where that can be done.
    """

    kind: Final = "bubblewrap"

    def __init__(self, view: View, limits: Limits, *, forks: bool = True) -> None:
        self.limits = limits
        self._view, self._forks = view, forks
        self._snapshots = Snapshots()
        self._nursery: _Nursery | None = None
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        self._identity = secrets.choice(_IDENTITIES) if root else None

    def problem(self) -> str | None:
        """Why it does not work here, found by trying; None where it does."""
        if program() is None:
            return "bubblewrap (bwrap) is not installed"
        nothing = [str(self._view.command[0]), "-I", "-S", "-c", ""]
        command = [*self.arguments(), "--", *nothing]
        return tried(command, "bubblewrap does not start", "bubblewrap does not work", env={})

    def start(self) -> None:
        """As `Sandbox.start`."""
        if self._forks and (self._nursery is None or not self._nursery.alive):
            if self._nursery is not None:
                self._nursery.close()
            command = [
                *self.arguments(),
                "--",
                *self._view.command,
                "nursery",
                *self._user,
            ]
            self._nursery = _Nursery(command, self.limits)

    def open(self, folder: Path) -> tuple[Process, str]:
        """As `Sandbox.open`."""
        number = self._snapshots.of(folder)
        self.start()
        if self._nursery is not None and self._forks:
            self._forks = self._nursery.ready()
            if self._forks:
                return self._nursery.take(), number
            self._nursery.close()
        command = [
            *self.arguments(number),
            "--",
            *self._view.command,
            "serve",
            _DETECTOR,
            *self._user,
        ]
        return Piped(command, self.limits), number

    def prepare(self) -> None:
        """As `Sandbox.prepare`."""
        if self._nursery is not None:
            self._nursery.prepare()

    @property
    def _user(self) -> list[str]:
        return [] if self._identity is None else [str(self._identity)]

    def close(self) -> None:
        """As `Sandbox.close`."""
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None
        self._snapshots.close()

    def arguments(self, number: str | None = None) -> list[str]:
        """The command line up to the program.

        Args:
            number: the one detector that is shown, and that nothing makes further namespaces for;
                None shows the run's detectors to a nursery.
        """
        root = self._snapshots.root
        source, target = (root / number, _DETECTOR) if number else (root, _DETECTORS)
        size = str(self.limits.tmp_bytes)
        arguments: list[str] = [
            program() or "bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-net",
            "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session",
            "--clearenv", "--cap-drop", "ALL",
        ]  # fmt: skip
        if self._identity is None:
            arguments += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
            arguments += ["--disable-userns"] * (number is not None and _knows("--disable-userns"))
        else:
            # Root makes the view, then takes a user who owns nothing: as root in a user namespace
            # it would still own root's files, and the kernel would not count its processes.
            arguments += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        # Before what is shown: that may lie in it, where a checkout does.
        arguments += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]
        for path in self._view.above:  # bubblewrap makes them for its own user alone
            if path != Path("/tmp"):
                arguments += ["--perms", "0755", "--dir", str(path)]
        for path in self._view.shown:
            arguments += ["--ro-bind", str(path), str(path)]
        for path in self._view.covered:
            arguments += ["--tmpfs", str(path), "--remount-ro", str(path)]
        for link, to in self._view.links:
            arguments += ["--symlink", to, str(link)]
        for name, value in environment().items():
            arguments += ["--setenv", name, value]
        return [
            *arguments, "--proc", "/proc", "--dev", "/dev",
            "--perms", "1777", "--size", size, "--tmpfs", "/dev/shm",
            "--dir", _DETECTORS, "--dir", _DETECTOR, "--ro-bind", str(source), target,
            "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/",
        ]  # fmt: skip


def _knows(option: str) -> bool:
    """Whether this version of bubblewrap has an option."""
    done = subprocess.run([program() or "bwrap", "--help"], capture_output=True, text=True)
    return option in done.stdout


class _Nursery:
    """The host's side of a nursery."""

    def __init__(self, command: list[str], limits: Limits) -> None:
        self._limits = limits
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={},
            start_new_session=True,
        )
        theirs.close()
        self._numbers = itertools.count()
        self._forks: bool | None = None
        self._spare: _Forked | None = None
        self._prepared = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self) -> bool:
        """Wait until the engine is loaded; whether forks may have namespaces of their own.

        Raises:
            SandboxError: it does not come up.
        """
        if self._forks is None:
            try:
                self._forks = bool(self._received(self._limits.start)["ready"])
            except (OSError, ValueError, KeyError):
                said = self._said()
                self.close()
                raise SandboxError(
                    f"the sandbox does not start: {said or 'it says nothing'}",
                    fix="see docs/decisions/0020-sandbox.md, or run code that you trust with "
                    "--trust",
                ) from None
        return self._forks

    def take(self) -> _Forked:
        """A process; the next one is made while this one works.

        Raises:
            SandboxError: the nursery is gone.
        """
        try:
            process = self._spare or self._spawn()
            self._spare = self._spawn()
        except OSError:
            raise SandboxError(f"the sandbox is gone: {self._said()}") from None
        return process

    def end(self, number: int, *, ask: bool) -> Ending:
        """Kill a process; if asked for, wait until it is known how it ended."""
        nothing = Ending()
        try:
            self._send({"do": "end", "number": number, "reply": ask})
            if not ask:
                return nothing
            while (found := self._received(_PATIENCE))["number"] != number:
                pass
        except (OSError, ValueError, KeyError):  # it is stuck or gone, and so is all that it forked
            self.close()
            return nothing
        if found["status"] is None:
            return nothing
        code = os.waitstatus_to_exitcode(found["status"])
        return Ending(-code if code < 0 else None, code if code >= 0 else None, found["cpu"])

    def prepare(self) -> None:
        """Have it load, once, what training needs."""
        if not self._prepared:
            self._prepared = True
            with suppress(OSError):  # it is gone, as the next detector will find
                self._send({"do": "prepare"})

    def close(self) -> None:
        """End it, and with it every process that it forked."""
        if self._spare is not None:
            spare, self._spare = self._spare, None
            spare.channel.close()
        self._process.kill()
        self._process.wait()
        self._control.close()
        self._errors.close()

    def _spawn(self) -> _Forked:
        (their_read, our_write), (our_read, their_write), (our_errors, their_errors) = (
            os.pipe() for _ in range(3)
        )
        number = next(self._numbers)
        theirs = [their_read, their_write, their_errors]
        for descriptor in (our_write, our_read):
            widened(descriptor)
        process = _Forked(self, number, Channel(our_read, our_write, our_errors, self._limits))
        message = {"do": "spawn", "number": number, "limits": asdict(self._limits)}
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], theirs)
        except OSError:
            process.channel.close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return process

    def _send(self, message: dict[str, Any]) -> None:
        self._control.settimeout(_PATIENCE)
        self._control.send(json.dumps(message).encode())

    def _received(self, seconds: float) -> dict[str, Any]:
        self._control.settimeout(seconds)
        text = self._control.recv(MAX_MESSAGE)
        if not text:
            raise OSError("it is gone")
        found: dict[str, Any] = json.loads(text)
        return found

    def _said(self) -> str:
        with suppress(OSError, ValueError):
            self._process.wait(1.0)
        try:
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
        except ValueError:
            return ""
        return plain(lines[-1]) if lines else ""


class _Forked:
    """One process of a nursery."""

    def __init__(self, nursery: _Nursery, number: int, channel: Channel) -> None:
        self.channel = channel
        self._nursery, self._number = nursery, number
        self._ending: Ending | None = None

    def end(self, *, ask: bool) -> Ending:
        """As `Process.end`."""
        if self._ending is None:
            self._ending = self._nursery.end(self._number, ask=ask)
            self.channel.close()
        return self._ending
