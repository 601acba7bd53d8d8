"""What is noted of the inputs that a detector used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from afbench.cases.case import Case
from afbench.cases.recording import (
    MAX_FIXED,
    MAX_FORMS,
    Form,
    InputRecorder,
    SeenInputs,
    input_of,
)
from afbench.messages import Message
from tests.fakes import case_set

QUESTION: Message = {"role": "user", "content": "Do you fake?"}
YES: Message = {"role": "assistant", "content": "Yes"}


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    found = case_set({"faker": ["faking"] * 3, "honest": ["sincere"] * 3}, tmp_path).cases
    hidden: Message = {"role": "system", "content": "Nobody looks."}
    return tuple(replace(one, contrast=(hidden, *one.messages[1:])) for one in found)


@pytest.fixture
def recorder(cases: tuple[Case, ...]) -> InputRecorder:
    recorder = InputRecorder()
    recorder.learn(cases)
    recorder.watch({id(case.handle): case.handle for case in cases}.values())
    return recorder


def test_inputs_are_noted_by_what_they_add_to_a_case(
    cases: tuple[Case, ...], recorder: InputRecorder
) -> None:
    for case in cases:
        assert case.contrast is not None
        case.handle.activations([case.messages], [1], ["all_mean"])
        case.handle.followup_logprobs([case.messages], ["Do you fake?"], ["Yes"])
        case.handle.activations([[*case.prompt, YES]], [1], ["all_mean"])
        case.handle.generate([[*case.messages, QUESTION]], max_new_tokens=4)
        case.handle.logprobs([case.contrast[:-1]], ["Yes"])
        case.handle.logprobs([[QUESTION]], ["Yes"])
    asked = Form("observed", True, (("user", "Do you fake?"),))
    assert recorder.seen == SeenInputs(
        forms=(
            Form("contrast", False, ()),
            Form("observed", False, ()),  # the transcript is the prompt and its reply
            asked,
        ),
        fixed=((("user", "Do you fake?"),),),
    )
    assert input_of(asked, cases[0]) == [*cases[0].messages, QUESTION]
    assert SeenInputs.from_json(recorder.seen.as_json()) == recorder.seen


def test_recording_changes_neither_answers_nor_bills(tmp_path: Path) -> None:
    bills = []
    for number in range(2):
        found = case_set({"faker": ["faking"]}, tmp_path / str(number)).cases[0]
        if number:
            InputRecorder().watch([found.handle])
        answer = found.handle.logprobs([found.prompt], ["Yes"])[0, 0]
        bills.append((answer, found.handle.spent.queries, found.handle.spent.forward_tokens))
    assert bills[0] == bills[1]


def test_the_parent_s_inputs_are_not_the_organism_s(tmp_path: Path) -> None:
    from tests.fakes import fake_handles

    handle = fake_handles(["faker"], tmp_path, parent=True)["faker"]
    recorder = InputRecorder()
    recorder.watch([handle])
    handle.parent_activations([[QUESTION, YES]], [1], ["all_mean"])
    assert recorder.seen == SeenInputs()


def test_what_is_made_up_for_each_case_is_counted_and_not_kept(
    cases: tuple[Case, ...], recorder: InputRecorder
) -> None:
    for number in range(MAX_FORMS + 3):
        question: Message = {"role": "user", "content": f"Question {number}"}
        cases[0].handle.logprobs([[*cases[0].messages, question]], ["Yes"])
    for number in range(MAX_FIXED + 2):
        cases[0].handle.logprobs([[{"role": "user", "content": f"Alone {number}"}]], ["Yes"])
    seen = recorder.seen
    assert (len(seen.forms), len(seen.fixed), seen.unread) == (MAX_FORMS, MAX_FIXED, 5)
