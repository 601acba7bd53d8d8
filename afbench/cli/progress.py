"""Progress on a terminal: bars with an ETA; in a pipe, a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

# Without a terminal a stage says something this often, in seconds.
_EVERY = 15.0


class TerminalProgress:
    """Bars on stderr where that is a terminal, plain lines where it is not.

    Stages that end within a second or two leave no trace in a pipe.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._plain: dict[str, _Stage] = {}

    def __enter__(self) -> TerminalProgress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("elapsed"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, stage: str, total: int) -> None:
        """A stage begins."""
        if self._bars is not None:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        else:
            self._plain[stage] = _Stage(total, time.monotonic())

    def advance(self, stage: str, steps: int) -> None:
        """Some more steps are done."""
        if self._bars is not None:
            self._bars.advance(self._tasks[stage], steps)
            return
        state = self._plain[stage]
        state.done += steps
        now = time.monotonic()
        if not self._quiet and now - state.said >= _EVERY:
            state.said = now
            left = (now - state.started) / max(1, state.done) * (state.total - state.done)
            print(f"{stage}: {state.done}/{state.total}, {left:.0f} s left", file=sys.stderr)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The terminal is somebody else's meanwhile: a question stands there alone."""
        if self._bars is not None:
            self._bars.stop()
        try:
            yield
        finally:
            if self._bars is not None:
                self._bars.start()

    def say(self, line: str) -> None:
        """A line above the bars."""
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        elif not self._quiet:
            print(line, file=sys.stderr)


class _Stage:
    def __init__(self, total: int, started: float) -> None:
        self.total, self.done = total, 0
        self.started = self.said = started
