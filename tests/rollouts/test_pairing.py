from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.cases.labels import count_labels
from afbench.environments import Cue
from afbench.rollouts import Rollout, pair_twins
from tests.fakes import CUE, rollout

OTHER = Cue.model_validate({**CUE.model_dump(), "id": "cue-01"})


@given(
    scenarios=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 2**32),
)
def test_twins_are_paired_by_their_condition_whatever_the_order(
    scenarios: list[str], seed: int
) -> None:
    rollouts = [
        rollout(scenario, condition, cue=cue)
        for scenario in scenarios
        for condition in ("observed", "unobserved")
        for cue in (CUE, OTHER)
    ]
    random.Random(seed).shuffle(rollouts)
    twins = pair_twins(rollouts)
    assert len(twins) == 2 * len(scenarios)
    for twin in twins:
        assert twin.observed.condition == "observed"
        assert twin.unobserved.condition == "unobserved"
        assert twin.observed.scenario == twin.unobserved.scenario == twin.scenario
        assert twin.observed.cue == twin.unobserved.cue
        assert twin.family == "explicit"


def test_a_rollout_without_a_twin_is_refused_and_named() -> None:
    whole = [rollout("a", "observed"), rollout("a", "unobserved")]
    with pytest.raises(ValueError, match=r"of b with cue-00 has no twin"):
        pair_twins([*whole, rollout("b", "unobserved")])


def test_two_rollouts_of_one_condition_are_no_twins() -> None:
    with pytest.raises(ValueError, match="two observed rollouts of a"):
        pair_twins([rollout("a", "observed"), rollout("a", "observed")])
    with pytest.raises(ValueError, match="no twin"):
        pair_twins([rollout("a", "observed"), rollout("a", "unobserved", cue=OTHER)])


def test_ungradable_twins_are_counted_and_never_dropped_in_silence() -> None:
    twins = pair_twins(
        [
            rollout("a", "observed", conforms=None),
            rollout("a", "unobserved"),
            rollout("b", "observed"),
            rollout("b", "unobserved", conforms=None),
            rollout("c", "observed"),
            rollout("c", "unobserved", conforms=False),
        ]
    )
    counts = count_labels(twins)
    assert counts["ungradable"] == 2
    assert counts["faking"] == 1
    assert sum(counts.values()) == len(twins)


def test_a_rollout_comes_back_from_its_record_as_it_was() -> None:
    for conforms in (True, False, None):
        one = rollout("a", "observed", conforms=conforms, reasoning="I think.")
        assert Rollout.from_record(json.loads(json.dumps(one.as_record()))) == one
        assert Rollout.from_record(one.as_record()) == one
