"""The host's end of the pipes to one detector's process: nothing on it waits for ever."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from typing import Final

from afbench.errors import DetectorError
from afbench.sandbox.limits import MIB, Limits
from afbench.sandbox.protocol import (
    FROM_CHILD,
    Allowance,
    Buffered,
    Ended,
    Frame,
    encoded,
    plain,
    receive,
    written,
)

_KEPT_OUTPUT: Final = 4096
_READ_AT_ONCE: Final = 65_536


class Late(Exception):
    """The time is up."""


class Channel:
    """Frames to and from a child, and what it prints, within limits.

    Args:
        read, write, errors: the host's ends of the pipes; they are closed with the channel.
        limits: the detector's.
    """

    def __init__(self, read: int, write: int, errors: int, limits: Limits) -> None:
        self._read, self._write, self._errors = read, write, errors
        self._limits = limits
        self._allowance = Allowance(limits.frames, limits.sent)
        self._deadline = 0.0
        self._printed = 0
        self._output = b""
        self._errors_open = True
        self._source = Buffered(self._read_some)
        for descriptor in (read, write, errors):
            os.set_blocking(descriptor, False)

    def begin(self, seconds: float) -> None:
        """A call begins: it has so much time, and the frames and bytes of one call."""
        self._deadline = time.monotonic() + seconds
        self._allowance = Allowance(self._limits.frames, self._limits.sent)

    def send(self, frame: Frame) -> None:
        """Write a frame whole.

        Raises:
            Ended: the child is gone.
            Late: the time is up.
            DetectorError: the child printed too much.
        """
        written(self._write_some, encoded(frame))

    def receive(self) -> Frame:
        """The child's next frame.

        Raises:
            DetectorError: it is malformed or too much, or the child printed too much.
            Ended, Late: as `send`.
        """
        return receive(self, FROM_CHILD, self._allowance)

    def fill(self, view: memoryview) -> None:
        """As `protocol.Source`; raises as `send` too."""
        self._source.fill(view)

    def last_words(self) -> str:
        """The last line of what was printed."""
        with suppress(DetectorError):
            self._drain()
        lines = self._output.decode(errors="replace").strip().splitlines()
        return plain(lines[-1], 200) if lines else ""

    def close(self) -> None:
        """Close the pipes."""
        for descriptor in (self._read, self._write, self._errors):
            with suppress(OSError):
                os.close(descriptor)
        self._read = self._write = self._errors = -1

    def _read_some(self, view: memoryview) -> int:
        while True:
            self._check_time()
            try:
                return os.readv(self._read, [view])
            except BlockingIOError:
                self._wait(self._read, select.POLLIN)

    def _write_some(self, parts: list[memoryview]) -> int:
        while True:
            self._check_time()
            try:
                return os.writev(self._write, parts)
            except BlockingIOError:
                self._wait(self._write, select.POLLOUT)
            except BrokenPipeError:
                raise Ended from None

    def _check_time(self) -> float:
        """Seconds that are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Late
        return left

    def _wait(self, descriptor: int, event: int) -> None:
        """Until a descriptor is ready; what is printed meanwhile is read."""
        while True:
            left = self._check_time()
            poll = select.poll()
            poll.register(descriptor, event)
            if self._errors_open:
                poll.register(self._errors, select.POLLIN)
            ready = dict(poll.poll(left * 1000))
            if self._errors in ready:
                self._drain()
            if descriptor in ready:
                return

    def _drain(self) -> None:
        while self._errors_open:
            try:
                text = os.read(self._errors, _READ_AT_ONCE)
            except BlockingIOError:
                return
            self._errors_open = bool(text)
            self._printed += len(text)
            self._output = (self._output + text)[-_KEPT_OUTPUT:]
            if self._printed > self._limits.output:
                raise DetectorError(
                    f"it printed more than {self._limits.output} bytes",
                    fix="print less, or nothing",
                )


def widened(descriptor: int) -> None:
    """Let a pipe hold more at once, as far as the system allows: fewer turns for large arrays."""
    with suppress(OSError, AttributeError, ImportError):
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, MIB)
