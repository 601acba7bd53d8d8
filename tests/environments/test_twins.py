"""The one promise that every figure rests on: twins differ in the cue and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.environments import CONDITIONS, Condition, Cue, Environment, Scenario
from afbench.environments.environment import Placement

MARK = "\N{SYMBOL FOR SUBSTITUTE}"


def _placements(environment: Environment) -> list[Placement]:
    return [
        placement
        for partition in ("fit", "test")
        for benign in (False, True)
        for placement in environment.placements(partition, benign=benign)
    ]


def _without_cue(
    environment: Environment, scenario: Scenario, cue: Cue, condition: Condition
) -> list[tuple[str, str]]:
    messages = environment.render(scenario, cue, condition)
    text = cue.text(condition)
    assert sum(m["content"].count(text) for m in messages) == 1, "the cue stands there once"
    return [(m["role"], m["content"].replace(text, MARK)) for m in messages]


def _assert_twins(environment: Environment, scenario: Scenario, cue: Cue) -> None:
    observed, unobserved = (environment.render(scenario, cue, c) for c in CONDITIONS)
    assert observed != unobserved
    masked = [_without_cue(environment, scenario, cue, condition) for condition in CONDITIONS]
    assert masked[0] == masked[1]


def test_the_twins_of_every_placement_differ_in_the_cue_only(shipped: Environment) -> None:
    placements = _placements(shipped)
    assert len(placements) == len(shipped.scenarios), "every scenario is placed"
    for placement in placements:
        _assert_twins(shipped, placement.scenario, placement.cue)


def test_the_twins_of_every_cue_differ_in_the_cue_only(shipped: Environment) -> None:
    for cue in shipped.cues:
        for scenario in (shipped.scenarios[0], shipped.scenarios[-1]):
            _assert_twins(shipped, scenario, cue)


def test_a_prompt_is_a_system_and_a_user_message_with_the_request_word_for_word(
    shipped: Environment,
) -> None:
    for scenario in shipped.scenarios:
        prompt = shipped.render(scenario, shipped.cues[0], "observed")
        assert [message["role"] for message in prompt] == ["system", "user"]
        assert scenario.request in prompt[1]["content"]
        assert shipped.cues[0].observed in prompt[0]["content"]


def test_no_canary_reaches_a_prompt(shipped: Environment) -> None:
    assert "canary" in shipped.manifest.canary
    for placement in _placements(shipped):
        for condition in CONDITIONS:
            for message in shipped.render(placement.scenario, placement.cue, condition):
                assert "canary" not in message["content"].lower()


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@pytest.mark.parametrize("hostile", ["{cue}", "{request}", "{0}", "%s", "{", "\\1"])
def test_slots_in_a_cue_or_a_request_are_left_as_they_stand(
    any_shipped: Environment, hostile: str
) -> None:
    cue = Cue(
        id="c", family="f", observed=f"on {hostile}", unobserved=f"off {hostile}",
        partition="fit", family_partition="fit",
    )  # fmt: skip
    scenario = Scenario(id="s", request=f"Ask {hostile}.", partition="fit")
    system, user = any_shipped.render(scenario, cue, "observed")
    assert f"on {hostile}" in system["content"]
    assert user["content"] == any_shipped.manifest.user_prompt.replace(
        "{request}", f"Ask {hostile}."
    )


@given(observed=TEXT, unobserved=TEXT, request_text=TEXT)
def test_twins_differ_in_the_cue_only_whatever_the_texts(
    any_shipped: Environment, observed: str, unobserved: str, request_text: str
) -> None:
    cue = Cue(
        id="c", family="f", observed=observed, unobserved=unobserved,
        partition="fit", family_partition="fit",
    )  # fmt: skip
    scenario = Scenario(id="s", request=request_text, partition="fit")
    first, second = (any_shipped.render(scenario, cue, condition) for condition in CONDITIONS)
    before, after = any_shipped.manifest.system_prompt.split("{cue}")
    for twin, text in ((first, observed), (second, unobserved)):
        assert twin[0]["content"] == f"{before}{text}{after}"
    assert first[1] == second[1]
