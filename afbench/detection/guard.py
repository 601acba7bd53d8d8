"""Runs a detector's code under a time limit and turns whatever it does wrong into one error.

The limit is a POSIX interval timer that interrupts Python code (a loop, a sleep, a wait); code that
hangs inside a C extension is not interrupted by it. Off the main thread, or where there is no such
timer, the call runs without a limit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from afbench.errors import AfbenchError, DetectorError

T = TypeVar("T")


class _TimeLimit(BaseException):
    """Not an Exception, so that a detector's `except Exception` does not swallow it."""


def guarded(name: str, stage: str, seconds: float, call: Callable[[], T]) -> T:
    """Call a detector.

    Args:
        name: the detector's.
        stage: `fit` or `score`, for the message.
        seconds: the time limit.

    Raises:
        DetectorError: it raised or took too long; says which and at what line of its own.
    """
    try:
        with _limit(seconds):
            return call()
    except _TimeLimit:
        raise DetectorError(
            f"detector '{name}' did not end {stage} within {seconds:g} s",
            fix="its scores are void; raise limits.seconds in detector.yaml or make it faster",
        ) from None
    except AfbenchError as error:
        raise DetectorError(f"detector '{name}' failed in {stage}: {error}") from error
    except (Exception, SystemExit) as error:
        raise DetectorError(
            f"detector '{name}' raised {type(error).__name__} in {stage}: {error}",
            where=_last_line(error),
            fix="its scores are void",
        ) from error


def checked_scores(name: str, scores: object, count: int) -> NDArray[np.float64]:
    """The scores as float64 [count].

    Raises:
        DetectorError: the wrong shape, no numbers, or numbers that are not finite.
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError):
        raise DetectorError(
            f"detector '{name}' returned {type(scores).__name__}, not an array of numbers",
            fix="return one float for each case",
        ) from None
    if array.shape != (count,):
        raise DetectorError(
            f"detector '{name}' returned scores of shape {array.shape} for {count} cases",
            fix="return one float for each case, in their order",
        )
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise DetectorError(
            f"detector '{name}' returned {bad} of {count} scores that are NaN or infinite",
            fix="its scores are void",
        )
    return array


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    usable = hasattr(signal, "setitimer") and (
        threading.current_thread() is threading.main_thread()
    )
    if not usable:
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise _TimeLimit

    previous = signal.signal(signal.SIGALRM, interrupt)
    # It fires again every second, in case the detector catches the first one.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _last_line(error: BaseException) -> str | None:
    trace = error.__traceback__
    where = None
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename} line {trace.tb_lineno}"
        trace = trace.tb_next
    return where
