"""Questions and answers: every method of a handle goes across and back as it is, no other."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.errors import (
    AfbenchError,
    DetectorError,
    DigestMismatchError,
    StorageError,
    TierError,
    UnavailableError,
)
from afbench.models import ActivationNoise, AdapterScaling, FineTune, Steering, WeightNoise
from afbench.sandbox.answers import Answers
from afbench.sandbox.faults import failure, fault_of
from afbench.sandbox.limits import Limits
from afbench.sandbox.packing import (
    Arrays,
    put_cases,
    put_talks,
    put_texts,
    take_cases,
    take_talks,
    take_texts,
)
from afbench.sandbox.protocol import FROM_HOST, Frame, receive
from afbench.sandbox.questions import METHODS, question
from afbench.sandbox.remote_handle import RemoteHandle
from tests.sandbox.conftest import cases_of
from tests.sandbox.test_protocol import Bytes, sent


def asking(handle: Handle, limits: Limits | None = None, answers: Answers | None = None) -> Any:
    """A remote handle in this process: every frame is written, read and answered by a host."""
    answers = answers or Answers(limits or Limits())
    number = answers.numbers_of([handle])[id(handle)]

    def put(frame: Frame) -> Frame:
        reply = answers.answer(receive(Bytes(sent(frame)), FROM_HOST))
        found = receive(Bytes(sent(reply)), FROM_HOST)
        if found.kind != "answer":
            raise fault_of(found)
        return found

    return RemoteHandle(put, number, (handle.n_layers, handle.width), "weights")


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return cases_of(tmp_path, tier="weights")[0]


@pytest.fixture
def with_parent(tmp_path: Path) -> list[Case]:
    from afbench.contract.synthetic import synthetic_cases
    from afbench.store import Store

    store = Store(tmp_path / "parents")
    found, _ = synthetic_cases(seed=3, groups=2, tier="weights", needs_parent=True, store=store)
    return found


CHAT = ({"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Grüß Gott."})
CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "can": (("logprobs",), {}),
    "generate": (("prompts",), {"max_new_tokens": 5, "temperature": 0.7, "samples": 2, "seed": 3}),
    "logprobs": (("prompts", ["Yes", "No"]), {}),
    "parent_logprobs": (("prompts", ("Yes",)), {}),
    "followup_logprobs": (("talks", ["Really?", "Why?"], ["Yes", "No"]), {}),
    "parent_followup_logprobs": (("talks", ["Really?"], ["Yes"]), {}),
    "next_token_logprobs": (("prompts",), {"parent": True}),
    "reply_logprobs": (("talks",), {}),
    "activations": (("talks", [1, -1], ["response_mean", "prompt_last"]), {}),
    "parent_activations": (("talks",), {}),
    "layer_logprobs": (("prompts", ["Yes"], None), {}),
    "token_activations": (("talks", [2]), {"parent": True}),
    "perturbed_logprobs": (("prompts", ["Yes"], ActivationNoise(1, 0.1)), {}),
    "perturbed_reply_logprobs": (("talks", Steering(1, (0.1,) * 8, 2.0)), {}),
    "perturbed_activations": (("talks", [1], ["all_mean"], AdapterScaling(0.5)), {}),
    "perturbed_generate": (
        ("prompts",),
        {"perturbation": FineTune((CHAT,), 2, 0.1), "max_new_tokens": 4},
    ),
}


def test_every_public_part_of_a_handle_can_be_asked() -> None:
    public = {name for name, _ in inspect.getmembers(Handle) if not name.startswith("_")}
    assert public - {"spent", "n_layers", "width"} == set(METHODS) == set(CALLS)
    assert all(getattr(RemoteHandle, name) is not getattr(Handle, name) for name in METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_is_the_handles_own(with_parent: list[Case], method: str) -> None:
    handle = with_parent[0].handle
    own = [case for case in with_parent if case.handle is handle]
    words = {"prompts": [c.prompt for c in own], "talks": [c.messages for c in own]}
    given, named = CALLS[method]
    arguments = [words[one] if isinstance(one, str) and one in words else one for one in given]
    here = getattr(handle, method)(*arguments, **named)
    there = getattr(asking(handle), method)(*arguments, **named)
    assert _plain(there) == _plain(here)
    assert asking(handle).spent.queries == handle.spent.queries


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tolist()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "__len__") and not isinstance(value, list | str):
        return [(_plain(one.values), one.reply_start, one.tokens) for one in value]
    return value


def test_token_activations_are_fetched_when_they_are_looked_at(cases: list[Case]) -> None:
    found = asking(cases[0].handle).token_activations([cases[0].messages] * 3, [1])
    assert len(found) == 3
    assert found[-1].tokens == found[0].tokens
    with pytest.raises(IndexError):
        found[3]


def test_a_refusal_reaches_the_detector_as_what_it_is(tmp_path: Path) -> None:
    cases, _ = cases_of(tmp_path, tier="text")
    remote = asking(cases[0].handle)
    with pytest.raises(TierError, match="'logprobs' needs tier 'logprobs' and the detector"):
        remote.logprobs([cases[0].prompt], ["Yes"])
    hidden = [{"role": "user", "content": "Nobody looks at this shift. Go on."}]
    with pytest.raises(TierError, match="holds an unobserved cue"):
        remote.generate([hidden], max_new_tokens=4)


def test_an_error_of_the_host_says_nothing_of_the_host(cases: list[Case]) -> None:
    class Failing(Handle):
        def logprobs(self, *_: Any, **__: Any) -> Any:
            raise self.error

    handle: Any = Failing.__new__(Failing)
    remote, arguments = asking_any(handle), ([cases[0].prompt], ["Yes"])
    Failing.error = RuntimeError("/home/me/organisms/the-faker broke")  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"^the handle could not answer \(RuntimeError\)$"):
        remote.logprobs(*arguments)
    Failing.error = UnavailableError("not here", where="/organisms/x")  # type: ignore[attr-defined]
    with pytest.raises(UnavailableError) as caught:
        remote.logprobs(*arguments)
    assert (caught.value.what, caught.value.where) == ("not here", None)
    for error in (StorageError("full"), DigestMismatchError("the-faker is damaged")):
        Failing.error = error  # type: ignore[attr-defined]
        with pytest.raises(type(error)):  # the host's own, in the host
            remote.logprobs(*arguments)


def asking_any(handle: Any) -> Any:
    answers = Answers(Limits())
    number = answers.numbers_of([handle])[id(handle)]

    def put(frame: Frame) -> Frame:
        found = answers.answer(frame)
        if found.kind != "answer":
            raise fault_of(found)
        return found

    return RemoteHandle(put, number, (1, 1), "weights")


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"method": "_ask"}, "a question that there is not"),
        ({"method": "__class__"}, "a question that there is not"),
        ({"method": None}, "a question without method or handle"),
        ({"handle": True}, "a question without method or handle"),
        ({"handle": 5}, "a handle that there is not"),
        ({"more": 1}, "an argument that there is not"),
        ({"layers": "all"}, "a list that is none"),
        ({"layers": [1.5]}, "an integer that is none"),
        ({"layers": [1 << 80]}, "an integer that is none"),
        ({"method": "generate", "layers": None}, "an argument that there is not"),
        ({"method": "tokens-at", "index": 0}, "a handle that there is not"),
    ],
)
def test_a_question_that_makes_no_sense_is_an_error_of_the_child(
    cases: list[Case], changed: dict[str, Any], part: str
) -> None:
    answers = Answers(Limits())
    number = answers.numbers_of([cases[0].handle])[id(cases[0].handle)]
    frame = question("activations", number, [cases[0].messages])
    with pytest.raises(DetectorError, match=f"protocol: {part}"):
        answers.answer(Frame("ask", {**frame.body, **changed}, frame.arrays))


arrays = st.dictionaries(
    st.sampled_from(["c", "c.parts"]),
    st.one_of(
        st.lists(st.integers(-3, 9), max_size=8).map(lambda x: np.array(x, np.int64)),
        st.lists(st.integers(0, 255), max_size=9).map(lambda x: np.array(x, np.uint8)),
        st.just(np.zeros((2, 2), np.int64)),
    ),
)
# One conversation of one turn of a few letters, and what comes of changed numbers.
nearly = st.tuples(st.integers(-1, 3), st.integers(-1, 3), st.integers(-1, 4), st.integers(-1, 4))


@settings(max_examples=300)
@given(
    arrays
    | nearly.map(lambda parts: {"c": np.zeros(3, np.uint8), "c.parts": np.array(parts, np.int64)})
)
def test_no_packed_conversation_breaks_the_host(given: dict[str, Any]) -> None:
    try:
        found = take_talks(given, "c")
    except DetectorError as error:
        assert str(error).startswith("protocol: ")  # noqa: PT017
        return
    again: Arrays = {}
    put_talks(again, "c", found)
    np.testing.assert_array_equal(again["c.parts"], given["c.parts"])
    np.testing.assert_array_equal(again["c"], given["c"])


def test_sizes_that_overflow_are_seen() -> None:
    packed: Arrays = {}
    put_texts(packed, "c", ["ab"])
    packed["c.parts"] = np.array([(1 << 62) + 1] * 4 + [-2], dtype=np.int64)
    with pytest.raises(DetectorError, match="protocol: 'c' has a negative size"):
        take_texts(packed, "c")
    packed["c.parts"] = np.array([1 << 62] * 4 + [2], dtype=np.int64)  # the sum of int64 is 2
    with pytest.raises(DetectorError, match="protocol: 'c' is not as long as it says"):
        take_texts(packed, "c")


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "Nothing"},
        {"kind": "WeightNoise"},
        {"kind": "WeightNoise", "sigma": "x"},
        {"kind": "WeightNoise", "sigma": -1.0},
        {"kind": "WeightNoise", "sigma": 0.1, "more": 1},
        {"kind": "WeightNoise", "sigma": [0.1]},
        "WeightNoise",
    ],
)
def test_a_perturbation_that_is_none_is_an_error_of_the_child(
    cases: list[Case], given: Any
) -> None:
    answers = Answers(Limits())
    number = answers.numbers_of([cases[0].handle])[id(cases[0].handle)]
    frame = question("perturbed_reply_logprobs", number, [cases[0].messages], WeightNoise(0.1))
    frame.body["perturbation"] = given
    with pytest.raises(DetectorError, match="protocol: a perturbation that is none"):
        answers.answer(frame)


@pytest.mark.parametrize(
    ("limits", "call", "part"),
    [
        (
            Limits(conversations=2),
            lambda h, t: h.reply_logprobs([t] * 3),
            "3 conversations in one question",
        ),
        (
            Limits(replies=8),
            lambda h, t: h.generate([t[:-1]], max_new_tokens=9),
            "9 samples or tokens",
        ),
        (
            Limits(replies=8),
            lambda h, t: h.generate([t[:-1]], max_new_tokens=1, samples=9),
            "9 samples or tokens",
        ),
        (Limits(answered=1000), lambda h, t: h.activations([t] * 9), "more activations"),
    ],
)
def test_a_question_that_would_cost_the_host_too_much_is_refused(
    cases: list[Case], limits: Limits, call: Any, part: str
) -> None:
    with pytest.raises(AfbenchError, match=part):
        call(asking(cases[0].handle, limits), cases[0].messages)


def test_answers_of_one_call_are_counted(cases: list[Case]) -> None:
    answers = Answers(Limits(answered=1000))
    remote, talk = asking(cases[0].handle, answers=answers), cases[0].messages
    for _ in range(62):  # 16 bytes each
        remote.reply_logprobs([talk])
    with pytest.raises(DetectorError, match="more answers in one call"):
        remote.reply_logprobs([talk])
    answers.begin()
    remote.reply_logprobs([talk])


def test_cases_arrive_as_a_detector_is_shown_them_under_other_names(tmp_path: Path) -> None:
    from dataclasses import replace

    cases, _ = cases_of(tmp_path)
    cases[1] = replace(cases[1], contrast=cases[0].messages)
    packed: Arrays = {}
    handles: dict[int, Handle] = {7: cases[0].handle}
    put_cases(packed, cases, [f"id-{n}" for n in range(len(cases))], [7] * len(cases))
    frame = receive(Bytes(sent(Frame("fit", {}, packed))), FROM_HOST)
    for number, (found, case) in enumerate(
        zip(take_cases(frame.arrays, handles), cases, strict=True)
    ):
        assert found == replace(case, id=f"id-{number}", handle=cases[0].handle)


def test_numbers_of_handles_are_drawn_anew_and_old_ones_stay_good(cases: list[Case]) -> None:
    answers = Answers(Limits())
    handles = [case.handle for case in cases]
    first, second = answers.numbers_of(handles), answers.numbers_of(handles)
    assert len(first) == 4
    assert not set(first.values()) & set(second.values())
    for number in (*first.values(), *second.values()):
        assert answers.answer(Frame("ask", {"method": "spent", "handle": number})).kind == "answer"


def test_an_unknown_role_and_half_a_character_stay_in_the_child() -> None:
    for talk in ([{"role": "tool", "content": "x"}], [{"role": "user", "content": "\ud800"}]):
        with pytest.raises(ValueError, match="not in tuple|surrogates"):
            put_talks({}, "c", [talk])  # type: ignore[list-item]


def test_a_failure_names_the_detectors_own_last_line(tmp_path: Path) -> None:
    path = tmp_path / "detector.py"
    path.write_text("def broken():\n    return [].index(3)\n")
    scope: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    try:
        scope["broken"]()
    except ValueError as error:
        found = fault_of(failure(error, tmp_path))
    assert isinstance(found, AfbenchError)
    assert str(found) == "it raised ValueError: 3 is not in list (detector.py line 2)"


@pytest.mark.parametrize(
    "body",
    [{}, {"kind": []}, {"kind": "storage", "what": "x"}, {"kind": "host", "what": 3, "fix": {}}],
)
def test_a_child_cannot_report_a_failure_of_the_host(body: dict[str, Any]) -> None:
    found = fault_of(Frame("failed", body))
    assert type(found) is AfbenchError
