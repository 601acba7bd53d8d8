"""Keeps worker processes running beside a server."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from afbench.server.logs import log

_POLL = 0.2
_GRACE = 15.0  # seconds in which a worker puts its work back
_LONGEST_PAUSE = 30.0


class Workers:
    """Some processes of one command, started again when they end; stopped with the context.

    Each has a pipe to its standard input that is never written to: it ends with this process, by
    which a worker learns that it is alone.

    Args:
        command: of a worker.
        count: how many.
        environment: variables that they have beside those of this process.
    """

    def __init__(
        self, command: Sequence[str], count: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._slots: list[subprocess.Popen[bytes] | None] = [None] * count
        self._pauses, self._due = [0.0] * count, [0.0] * count
        self._ending = threading.Event()
        # Not daemonic: what ends workers with the thread that started them must not.
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(_POLL if any(self._slots) else 0.0):
            for slot in range(len(self._slots)):
                self._look_at(slot)
        for process in filter(None, self._slots):
            process.terminate()
        end = time.monotonic() + _GRACE
        for process in filter(None, self._slots):
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                log("worker-killed", level=logging.ERROR, process=process.pid)
                process.kill()
                process.wait()

    def _look_at(self, slot: int) -> None:
        now, process = time.monotonic(), self._slots[slot]
        if process is not None:
            if process.poll() is None:
                return
            log("worker-ended", level=logging.ERROR, process=process.pid, code=process.returncode)
            self._slots[slot] = None
            # One that ends again and again is started less and less often.
            quick = now - self._due[slot] < _LONGEST_PAUSE
            self._pauses[slot] = min(_LONGEST_PAUSE, max(0.5, 2 * self._pauses[slot])) * quick
            self._due[slot] = now + self._pauses[slot]
        if now >= self._due[slot]:
            self._slots[slot] = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, env=self._environment
            )
            self._due[slot] = now
