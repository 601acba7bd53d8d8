"""Runs a detector's code under a time limit and turns whatever it does wrong into one error.

The limit is a POSIX interval timer that interrupts Python code (a loop, a sleep, a wait); code that
hangs inside a C extension is not interrupted by it, and a loop that swallows every exception with
a bare `except` is not ended by it. Off the main thread, or where there is no such timer, the call
runs without a limit.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from types import FrameType
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from afbench.errors import (
    AfbenchError,
    DetectorError,
    DetectorUnavailableError,
    DigestMismatchError,
    StorageError,
    UnavailableError,
)

T = TypeVar("T")

# What the modules of plug-ins are called, so that a traceback shows which lines are theirs.
PLUGIN_MODULE: Final = "afbench_plugin_"


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
        DetectorUnavailableError: what it needs is not to be had here.
        StorageError, DigestMismatchError: the host failed while it answered the detector.
    """
    try:
        with _limit(seconds):
            return call()
    except _TimeLimit:
        raise DetectorError(
            f"detector '{name}' did not end {stage} within {seconds:g} s",
            fix="its scores are void; raise limits.seconds in detector.yaml or make it faster",
        ) from None
    except (StorageError, DigestMismatchError, KeyboardInterrupt):
        raise  # a full disk is no fault of the detector
    except UnavailableError as error:
        raise DetectorUnavailableError(error.what, where=error.where, fix=error.fix) from error
    except AfbenchError as error:
        raise DetectorError(f"detector '{name}' failed in {stage}: {error}") from error
    except BaseException as error:  # SystemExit, and whatever a plug-in derives by itself
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
        given = np.asarray(scores)
        if given.dtype.kind not in "fiub":
            raise TypeError(given.dtype)
        # A copy: what the detector does to its own array afterwards changes no score.
        array = np.array(given, dtype=np.float64)
    except Exception:  # a tensor that needs a gradient, a number too large: each raises its own
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


def checked_choices(name: str, chosen: object) -> dict[str, str | float | int]:
    """What a detector says it chose, as a record can hold it.

    Raises:
        DetectorError: not a dict from text to text or finite numbers.
    """
    if not isinstance(chosen, dict):
        found = type(chosen).__name__
        raise DetectorError(f"detector '{name}' returned {found} from explain, not a dict")
    plain: dict[str, str | float | int] = {}
    for key, given in chosen.items():
        value = given.item() if isinstance(given, np.generic) else given
        finite = isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))
        if not isinstance(key, str) or not finite:
            raise DetectorError(
                f"detector '{name}' returned {key!r}: {value!r} from explain",
                fix="return names with text or finite numbers",
            )
        plain[key] = value
    return plain


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    usable = hasattr(signal, "setitimer") and (
        threading.current_thread() is threading.main_thread()
    )
    if not usable:
        yield
        return

    armed, fired = True, False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal fired
        fired = True
        if armed:
            raise _TimeLimit

    outer, interval = signal.getitimer(signal.ITIMER_REAL)
    started = time.monotonic()
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        # It fires again every second, in case the detector catches the first one.
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        yield
    finally:
        armed = False  # from here on a late signal must not interrupt the host
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous or signal.SIG_DFL)
        if outer:
            left = max(outer - (time.monotonic() - started), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, interval)
    if fired:  # the detector caught the interruption and went on
        raise _TimeLimit


def _last_line(error: BaseException) -> str | None:
    """The last line of the plug-in that the error passed, or the last line at all."""
    trace = error.__traceback__
    where, own = None, False
    while trace is not None:
        is_own = str(trace.tb_frame.f_globals.get("__name__")).startswith(PLUGIN_MODULE)
        if is_own or not own:
            where = f"{trace.tb_frame.f_code.co_filename} line {trace.tb_lineno}"
        own = own or is_own
        trace = trace.tb_next
    return where
