"""How many requests are under way at once, and how long a fault is waited out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from afbench.errors import BackendUnavailableError
from afbench.remote.wire import Fault

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")

# A provider that asks to wait for longer is not waited for.
LONGEST_WAIT: Final = 300.0
_FIRST: Final = 8
# Seconds after which one who waits looks whether it is still wanted.
_LOOK: Final = 0.5


class Pacer:
    """Slots for requests: half as many when the provider is busy, then one more at a time.

    Additive increase, multiplicative decrease (Chiu and Jain 1989). All requests wait as long as a
    provider asks one of them to. Several refusals of requests that were under way together count
    as one.

    Args:
        most: the most slots.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots = float(min(most, _FIRST))
        self._active = self._round = 0
        self._resume = 0.0
        self._changed = threading.Condition()

    @property
    def slots(self) -> int:
        """How many requests may be under way now."""
        return int(self._slots)

    @contextmanager
    def slot(self, stop: threading.Event) -> Iterator[None]:
        """Waits for a slot and holds it; a `Fault` that passes through it sets the pace.

        Raises:
            CancelledError: `stop` was set while it waited.
        """
        began = self._enter(stop)
        try:
            yield
        except Fault as fault:
            if fault.busy:
                self._slower(began, fault.after)
            raise
        else:
            with self._changed:
                self._slots = min(self._most, self._slots + 1 / self._slots)
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()

    def _enter(self, stop: threading.Event) -> int:
        with self._changed:
            while not stop.is_set():
                pause = self._resume - time.monotonic()
                if pause <= 0 and self._active < int(self._slots):
                    self._active += 1
                    return self._round
                self._changed.wait(min(pause, _LOOK) if pause > 0 else _LOOK)
        raise CancelledError

    def _slower(self, began: int, after: float | None) -> None:
        with self._changed:
            if began == self._round:
                self._slots = max(1.0, self._slots / 2)
                self._round += 1
            if after is not None:
                self._resume = max(self._resume, time.monotonic() + min(after, LONGEST_WAIT))


def patiently(
    call: Callable[[], T],
    *,
    attempts: int,
    where: str,
    pacer: Pacer | None = None,
    stop: threading.Event | None = None,
    again_if_begun: bool = True,
) -> T:
    """Call, again and again while faults may pass.

    Args:
        attempts: the most calls.
        where: for the message.
        pacer: each call takes one of its slots.
        stop: ends the waiting when it is set.
        again_if_begun: call again after a fault of a request that may have been worked on.

    Raises:
        BackendUnavailableError: the last fault, in one line.
    """
    import tenacity

    ended = stop or threading.Event()

    def attempt() -> T:
        if pacer is None:
            return call()
        with pacer.slot(ended):
            return call()

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: _passes(error, again_if_begun)),
        stop=tenacity.stop_after_attempt(attempts) | tenacity.stop_when_event_set(ended),
        wait=_wait,
        sleep=tenacity.sleep_using_event(ended),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except Fault as fault:
        raise BackendUnavailableError(
            str(fault),
            where=where,
            fix="run it again later: what was answered is kept",
            begun=fault.begun,
        ) from None


def _passes(error: BaseException, again_if_begun: bool) -> bool:
    if not isinstance(error, Fault) or (error.begun and not again_if_begun):
        return False
    return (error.after or 0) <= LONGEST_WAIT


def _wait(state: tenacity.RetryCallState) -> float:
    """As long as the provider asks for; otherwise longer every time, with chance."""
    import tenacity

    fault = state.outcome.exception() if state.outcome else None
    if isinstance(fault, Fault) and fault.after is not None:
        return fault.after
    return tenacity.wait_random_exponential(multiplier=0.5, max=30.0)(state)
