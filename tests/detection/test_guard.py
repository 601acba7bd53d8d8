"""Whatever a detector does, the host gets scores or one DetectorError that names the detector."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from afbench.detection.guard import checked_choices, checked_scores, guarded
from afbench.errors import DetectorError, DigestMismatchError, StorageError, TierError

LIMIT = 0.2


class OwnBase(BaseException):
    pass


def _raise(error: BaseException) -> NoReturn:
    raise error


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """After every test here the timer is off and the signal's handler is the one before."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_a_detector_returns_is_passed_on() -> None:
    assert guarded("d", "score", 5, lambda: [1.0, 2.0]) == [1.0, 2.0]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such layer"),
        KeyError("x"),
        AssertionError(),
        RecursionError("deep"),
        MemoryError("much"),
        StopIteration(3),
        SystemExit(0),
        SystemExit("bye"),
        GeneratorExit(),
        OwnBase("mine"),
        TimeoutError("slow"),
        OSError("no file"),
    ],
    ids=repr,
)
def test_whatever_a_detector_raises_becomes_one_error_that_names_it(error: BaseException) -> None:
    with pytest.raises(DetectorError, match="detector 'mine' raised") as caught:
        guarded("mine", "fit", 5, lambda: _raise(error))
    text = str(caught.value)
    assert f"{type(error).__name__} in fit" in text
    assert f"{__file__} line" in text
    assert "\n" not in text
    assert caught.value.__cause__ is error


def test_a_detector_that_calls_sys_exit_does_not_end_the_run() -> None:
    with pytest.raises(DetectorError, match="raised SystemExit in score: 3"):
        guarded("mine", "score", 5, lambda: sys.exit(3))


def test_a_broken_contract_is_the_detectors_and_says_how_to_mend_it() -> None:
    refused = TierError("'logprobs' needs tier 'logprobs'", fix="set 'tier: logprobs'")
    with pytest.raises(DetectorError, match="failed in fit: .*set 'tier: logprobs'") as caught:
        guarded("mine", "fit", 5, lambda: _raise(refused))
    assert caught.value.__cause__ is refused


@pytest.mark.parametrize("error", [StorageError("disk full"), DigestMismatchError("corrupted")])
def test_a_failure_of_the_host_is_not_blamed_on_the_detector(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        guarded("mine", "fit", 5, lambda: _raise(error))
    assert caught.value is error


def test_control_c_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt):
        guarded("mine", "fit", 5, lambda: _raise(KeyboardInterrupt()))


# Time


def _sleep() -> None:
    time.sleep(60)


def _busy() -> None:
    while True:
        pass


def _except_exception() -> None:
    while True:
        try:
            while True:
                pass
        except Exception:
            continue


def _sleep_except_exception() -> None:
    while True:
        try:
            time.sleep(60)
        except (Exception, SystemExit):
            continue


def _wait() -> None:
    threading.Event().wait(60)


def _swallow_once() -> str:
    with suppress(BaseException):
        time.sleep(60)
    return "as if nothing had been"


def _swallow_and_go_on() -> None:
    try:
        time.sleep(60)
    except BaseException:
        time.sleep(60)


def _finally_return() -> str:
    try:
        time.sleep(60)
    finally:
        return "as if nothing had been"  # noqa: B012


@pytest.mark.parametrize(
    "hang",
    [
        _sleep,
        _busy,
        _except_exception,
        _sleep_except_exception,
        _wait,
        _swallow_once,
        _swallow_and_go_on,
        pytest.param(
            _finally_return,
            marks=pytest.mark.filterwarnings("ignore:.*finally.*:SyntaxWarning"),
        ),
    ],
)
def test_a_detector_that_hangs_is_ended_and_void(hang: Callable[[], Any]) -> None:
    started = time.monotonic()
    with pytest.raises(DetectorError, match=r"'mine' did not end score within 0\.2 s.*limits"):
        guarded("mine", "score", LIMIT, hang)
    assert time.monotonic() - started < 20


def test_a_detector_in_time_is_not_touched_by_the_limit() -> None:
    assert guarded("mine", "fit", 30, lambda: time.sleep(0.05) or "done") == "done"
    time.sleep(0.01)


def test_no_late_alarm_reaches_the_host() -> None:
    for _ in range(30):
        with suppress(DetectorError):
            guarded("mine", "fit", 0.002, lambda: time.sleep(0.002))
        # An alarm that was left over would be raised here.
        for _ in range(2000):
            pass


def test_an_alarm_that_the_host_had_set_goes_on_after_the_call() -> None:
    rung: list[int] = []

    def ring(signum: int, frame: FrameType | None) -> None:
        rung.append(signum)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 50)
        guarded("mine", "fit", 30, lambda: time.sleep(0.05))
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 1 < left < 50
        assert signal.getsignal(signal.SIGALRM) is ring
        # One that came due during the call rings after it.
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        guarded("mine", "fit", 30, lambda: time.sleep(0.2))
        time.sleep(0.05)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_off_the_main_thread_a_call_runs_and_its_errors_are_still_one() -> None:
    found: list[Any] = []

    def work() -> None:
        found.append(guarded("mine", "fit", 5, lambda: 7))
        try:
            guarded("mine", "fit", 5, lambda: _raise(ValueError("x")))
        except DetectorError as error:
            found.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0] == 7
    assert "raised ValueError" in found[1]


# Scores


@pytest.mark.parametrize(
    ("scores", "part"),
    [
        ([0.0, np.nan, 1.0], "1 of 3 scores that are NaN or infinite"),
        ([np.inf, -np.inf, 1.0], "2 of 3"),
        ([0.0, 1.0], r"shape \(2,\) for 3 cases"),
        (np.zeros((3, 1)), r"shape \(3, 1\)"),
        (1.0, r"shape \(\)"),
        ([], r"shape \(0,\)"),
        (None, "NoneType, not an array of numbers"),
        (["a", "b", "c"], "list, not an array"),
        (["1", "2", "3"], "list, not an array"),
        ([[0.0], [0.0, 1.0], [0.0]], "not an array"),
        ({1: 2.0}, "dict, not an array"),
        ([10**400, 0, 0], "not an array"),
        (np.array([1 + 2j, 0, 0]), "not an array"),
        (torch.zeros(3, requires_grad=True), "Tensor, not an array"),
        ((float(i) for i in range(3)), "generator, not an array"),
    ],
)
def test_scores_that_are_none_are_refused_and_the_detector_is_named(
    scores: object, part: str
) -> None:
    with pytest.raises(DetectorError, match=f"detector 'mine' returned .*{part}"):
        checked_scores("mine", scores, 3)


class _Trap:
    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise LookupError("trap")


def test_scores_that_raise_when_they_are_read_are_refused() -> None:
    with pytest.raises(DetectorError, match="detector 'mine' returned _Trap"):
        checked_scores("mine", _Trap(), 3)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=6))
def test_finite_scores_pass_as_they_are(values: list[float]) -> None:
    for given_scores in (values, tuple(values), np.array(values)):
        checked = checked_scores("mine", given_scores, len(values))
        np.testing.assert_array_equal(checked, np.array(values))
        assert checked.dtype == np.float64
    assert checked_scores("mine", np.array([True, False]), 2).tolist() == [1.0, 0.0]


def test_a_detector_cannot_change_its_scores_after_they_were_checked() -> None:
    own = np.array([1.0, 2.0])
    checked = checked_scores("mine", own, 2)
    own[:] = np.nan
    assert checked.tolist() == [1.0, 2.0]


# What it chose


def test_choices_are_kept_as_plain_values() -> None:
    chosen = {"layer": np.int64(3), "auroc": np.float32(0.5), "pooling": "all_mean", "deep": True}
    plain = checked_choices("mine", chosen)
    assert plain == {"layer": 3, "auroc": 0.5, "pooling": "all_mean", "deep": True}
    assert type(plain["layer"]) is int
    assert type(plain["auroc"]) is float


@pytest.mark.parametrize(
    "chosen",
    [None, [], "layer 3", {"auroc": float("nan")}, {"x": float("inf")}, {"x": [1]}, {3: "x"},
     {"x": None}, {"x": np.zeros(3)}, {"x": np.float64("nan")}],
    ids=str,
)  # fmt: skip
def test_choices_that_no_record_can_hold_are_refused(chosen: object) -> None:
    with pytest.raises(DetectorError, match="detector 'mine' returned .* from explain"):
        checked_choices("mine", chosen)
