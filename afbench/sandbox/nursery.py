"""Inside a sandbox: forks a process in namespaces of its own for each detector's instance.

The engine is loaded once and is not run by strangers here; what one instance leaves behind (files,
processes, shared memory) goes with its namespaces, so that the next one finds nothing of it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from afbench.sandbox import confine
from afbench.sandbox.limits import MAX_MESSAGE, Limits

_DESCRIPTORS: Final = 3

Serve = Callable[[int, int, Limits], None]
"""Serves a detector over two descriptors, in the first process of new namespaces."""


class Nursery:
    """Does what the host asks over standard input, a socket.

    Messages are JSON: `{"do": "spawn", "number", "limits"}` with three descriptors (to read from,
    to write to, for errors); `{"do": "end", "number", "reply"}`, which is answered by how the
    process ended, if so asked; and `{"do": "prepare"}`.

    Args:
        serve: is run in each fork.
        prepare: imports more for the forks to come.
    """

    def __init__(self, serve: Serve, prepare: Callable[[], None]) -> None:
        self._serve, self._prepare = serve, prepare
        self._control = socket.socket(fileno=os.dup(0))
        self._children: dict[int, int | None] = {}

    def run(self) -> None:
        """Serve until the host is gone."""
        confine.adopt_orphans()
        _freeze()
        self._send({"ready": _tried()})
        while True:
            text, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, _DESCRIPTORS)
            if not text:
                return
            message = json.loads(text)
            if message["do"] == "spawn":
                self._spawn(message, descriptors)
            elif message["do"] == "prepare":
                self._prepare()
                _freeze()
            else:
                ended = self._end(message["number"])
                if message["reply"]:
                    self._send(ended)

    def _send(self, message: dict[str, Any]) -> None:
        self._control.send(json.dumps(message).encode())

    def _spawn(self, message: dict[str, Any], descriptors: list[int]) -> None:
        told, telling = os.pipe()
        first = os.fork()
        if not first:
            self._begin(Limits(**message["limits"]), descriptors, telling)
        for descriptor in (telling, *descriptors):
            os.close(descriptor)
        text = os.read(told, 32)
        os.close(told)
        os.waitpid(first, 0)
        self._children[message["number"]] = int(text) if text else None

    def _begin(self, limits: Limits, descriptors: list[int], telling: int) -> NoReturn:
        """In the fork: new namespaces, and the process that serves in them."""
        read, write, errors = descriptors
        try:
            os.dup2(errors, 1)
            os.dup2(errors, 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            confine.unshare()
            child = os.fork()
            if child:
                os.write(telling, str(child).encode())
                os._exit(0)
            _close_all_but({0, 1, 2, read, write})
            self._serve(read, write, limits)
            _leave(0)
        except BaseException:
            traceback.print_exc()
            _leave(1)

    def _end(self, number: int) -> dict[str, Any]:
        """Kill a process, and with it all of its namespace, and say how it ended."""
        process = self._children.pop(number, None)
        if process is None:
            return {"number": number, "status": None, "cpu": 0.0}
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        _, status, use = os.wait4(process, 0)
        return {"number": number, "status": status, "cpu": use.ru_utime + use.ru_stime}


def _tried() -> bool:
    """Whether the kernel lets a fork have namespaces of its own here."""
    process = os.fork()
    if not process:
        try:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            confine.unshare()
            inner = os.fork()
            if not inner:
                confine.enter(Limits())
                confine.hide_processes()
                os._exit(0)
            _, status = os.waitpid(inner, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 1)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    return status == 0


def _freeze() -> None:
    """Keep what is there out of collections, which would copy its pages in every fork."""
    gc.collect()
    gc.freeze()


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):  # the listing's own
                os.close(int(name))


def _leave(status: int) -> NoReturn:
    with suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
