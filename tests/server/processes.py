"""Servers and workers as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psutil


@dataclass
class Process:
    """A process that logs JSON lines."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def wait_for(self, event: str, seconds: float = 120.0) -> dict[str, Any]:
        """The first line of an event."""
        return until(
            lambda: next((line for line in self.lines if line["event"] == event), None),
            seconds,
            lambda: f"no '{event}': {self.lines[-5:]} {self.other[-20:]}",
            lambda: self.process.poll() is None,
        )

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float = 60.0) -> int:
        """As its operator ends it; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def until(
    look: Callable[[], Any],
    seconds: float,
    said: Callable[[], object] = str,
    alive: Callable[[], bool] = lambda: True,
    pause: float = 0.05,
) -> Any:
    """What `look` finds, as soon as that is something."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end and alive(), said()
        time.sleep(pause)


@contextmanager
def started(command: Sequence[str], **environment: str) -> Iterator[Process]:
    """A Python program (`-m name ...`) that is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    found = Process(process)
    reader = threading.Thread(target=_read, args=(found,), daemon=True)
    reader.start()
    try:
        yield found
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join(10)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/api/v1/health", timeout=10).status_code == 200
    except httpx2.TransportError:
        return False


def _read(found: Process) -> None:
    assert found.process.stderr is not None
    for line in found.process.stderr:
        try:
            found.lines.append(json.loads(line))
        except ValueError:
            found.other.append(line)
