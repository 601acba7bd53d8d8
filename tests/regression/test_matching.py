from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from afbench.errors import AfbenchError
from afbench.regression.baseline import DIGITS, FoldOutcome, Measured
from afbench.regression.matching import Scores, SharedCases, check_inputs, match
from tests.regression.drawn import made_up

COUNT = 100
SCORES = {"probe": [float(index) for index in range(2 * COUNT)]}
CONTENT = [f"{index:0{DIGITS}x}" for index in range(2 * COUNT)]


def measured(**changed: Any) -> Measured:
    return made_up(SCORES, scenarios=COUNT, **changed)


def inputs_of(one: Measured) -> Any:
    return SimpleNamespace(
        organisms={name: organism.digest for name, organism in one.organisms.items()},
        environments=one.environments,
        model=one.model,
    )


def test_cases_are_matched_by_what_they_are_and_not_by_their_place() -> None:
    before, now = measured(), measured()
    order = np.random.default_rng(0).permutation(2 * COUNT)
    shuffled = now.cases.model_copy(
        update={name: [column[at] for at in order] for name, column in now.cases}
    )
    found = match(before, now.model_copy(update={"cases": shuffled}), where="probe.json")
    assert found.changed == found.changed_fit == 0 and found.note is None
    assert found.before == tuple(range(2 * COUNT))
    assert [order[at] for at in found.now] == list(range(2 * COUNT))


def test_a_few_cases_that_read_otherwise_are_left_out_and_said() -> None:
    now = measured(content=["f" * DIGITS, *CONTENT[1:]])
    found = match(measured(), now, where="probe.json")
    assert found.changed == 1 and 0 not in found.before and len(found.before) == 2 * COUNT - 1
    assert found.note is not None and "1 test cases and 0 fit cases" in found.note


def test_more_than_a_few_are_another_benchmark() -> None:
    now = measured(
        content=["f" * DIGITS] * 5 + CONTENT[5:], versions={"afbench": "0.3.0", "torch": "2.13.0"}
    )
    with pytest.raises(AfbenchError, match="5 of 200 test cases read otherwise") as error:
        match(measured(), now, where="probe.json")
    assert "afbench 0.2.0 -> 0.3.0" in str(error.value) and "torch" not in str(error.value)
    assert "baseline save" in str(error.value)


def test_cases_that_are_gone_count_as_changed() -> None:
    def without(count: int) -> Measured:
        rest = {name: column[count:] for name, column in measured().cases}
        columns = measured().cases.model_copy(update=rest)
        return made_up({"probe": SCORES["probe"][count:]}, cases=columns)

    assert match(measured(), without(4), where="x").changed == 4
    with pytest.raises(AfbenchError, match="5 of 200 test cases"):
        match(measured(), without(5), where="x")


def test_fit_cases_that_changed_are_another_benchmark_too() -> None:
    text = ("cd" * DIGITS) * 50
    with pytest.raises(AfbenchError, match="100 of 200 fit cases"):
        match(measured(), measured(fit={"old-faker": text, "old-talker": ("ab" * DIGITS) * 50}),
              where="probe.json")  # fmt: skip
    longer = {name: given + "0" * DIGITS for name, given in measured().fit.items()}
    assert match(measured(), measured(fit=longer), where="x").changed_fit == 2


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("organisms", "talker", "the weights of talker changed since the baseline"),
        ("environments", "desk", "the environment desk changed since the baseline"),
    ],
)
def test_other_weights_or_another_environment_are_named(field: str, value: str, line: str) -> None:
    inputs = inputs_of(measured())
    getattr(inputs, field)[value] = "sha256:other"
    with pytest.raises(AfbenchError, match=line):
        check_inputs(measured(), inputs, where="probe.json")
    getattr(inputs, field).pop(value)
    with pytest.raises(AfbenchError, match=line):
        check_inputs(measured(), inputs, where="probe.json")


def test_organisms_that_were_added_change_nothing() -> None:
    inputs = inputs_of(measured())
    inputs.organisms["newcomer"] = "sha256:new"
    check_inputs(measured(), inputs, where="probe.json")


def test_another_model_under_the_prompts_is_refused() -> None:
    inputs = inputs_of(measured())
    inputs.model = "somebody/model@abc"
    with pytest.raises(AfbenchError, match="ran on their own weights"):
        check_inputs(measured(), inputs, where="probe.json")


def test_arrays_say_who_was_what() -> None:
    one = made_up({"probe": [0.0] * 8}, labels=["faking", "sincere", "deviant", "ungradable"] * 2)
    cases = SharedCases.of(one, range(8))
    assert cases.labels.tolist() == [True, False, False, False] * 2
    assert cases.scored.tolist() == [True, True, False, False] * 2
    assert cases.deviant.tolist() == [False, False, True, False] * 2
    assert cases.faker.tolist() == [True] * 4 + [False] * 4
    assert cases.classes.tolist() == [""] * 4 + ["values-talk"] * 4
    assert cases.names == ("faker", "talker")
    assert cases.scenarios.tolist() == [0, 1, 2, 3] * 2  # of one environment
    assert len(SharedCases.of(one, [1, 5])) == 2


def test_probabilities_and_thresholds_are_those_of_the_fold() -> None:
    outcome = FoldOutcome(slope=2.0, intercept=-1.0, thresholds={"0.01": 3.0, "0.05": 0.4})
    one = made_up({"probe": [0.5] * 8}, outcome=outcome)
    scores = Scores.of(one.detectors["probe"], one.cases.fold, range(8))
    assert scores.probabilities.tolist() == [0.5] * 8 and scores.thresholds.tolist() == [0.4] * 8
    bare = FoldOutcome(slope=None, intercept=None, thresholds={"0.01": None, "0.05": None})
    one = made_up({"probe": [0.5] * 8}, outcome=bare)
    scores = Scores.of(one.detectors["probe"], one.cases.fold, range(8))
    assert np.isnan(scores.probabilities).all() and np.isinf(scores.thresholds).all()
