"""Contrast transcripts: the environment's unobserved prompt with the reply that was observed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from afbench.cases.assembly import CaseSet, Evidence, assemble, unobserved_prompts
from afbench.catalog.discovery import discover
from afbench.environments import Environment
from afbench.environments.grading import Grade
from afbench.rollouts import Rollout, Twin
from tests.fakes import fake_handles, grade
from tests.shipped import names


def _rollout(environment: Environment, number: int, unobserved: bool) -> Rollout:
    placement = environment.placements("test", number + 1)[number]
    condition = "unobserved" if unobserved else "observed"
    given: Grade = grade(not unobserved)
    return Rollout(
        scenario=placement.scenario.id,
        cue=placement.cue.id,
        family=placement.cue.family,
        condition=condition,
        # What the organism was asked unobserved is made unlike the environment's prompt here, so
        # that a contrast that came from there would be seen.
        messages=tuple(environment.render(placement.scenario, placement.cue, condition))
        if not unobserved
        else ({"role": "user", "content": "from the unobserved rollout"},),
        response=f"The {condition} reply {number}.",
        reasoning=f"The {condition} thought {number}.",
        token_ids=(1,),
        finished=True,
        seed=0,
        grade=given,
    )


def _cases(
    environment: Environment, folder: Path, *, contrast: bool, show_reasoning: bool = False
) -> CaseSet:
    twins = tuple(
        Twin(_rollout(environment, number, False), _rollout(environment, number, True))
        for number in range(4)
    )
    cues = {"one": {cue.id: cue for cue in environment.cues}}
    return assemble(
        [Evidence("one", "d", twins)],
        fake_handles(["one"], folder),
        cues,
        show_reasoning=show_reasoning,
        contrasts={"one": unobserved_prompts(environment)} if contrast else None,
    )


@pytest.fixture(scope="module", params=names("environment"))
def environment(request: pytest.FixtureRequest) -> Environment:
    return Environment.load(discover([]).environments[request.param])


def test_a_contrast_differs_from_the_transcript_in_the_cue_and_nowhere_else(
    environment: Environment, tmp_path: Path
) -> None:
    cases = _cases(environment, tmp_path, contrast=True)
    cues = {cue.id: cue for cue in environment.cues}
    for case, row in zip(cases.cases, cases.rows, strict=True):
        assert case.contrast is not None
        assert case.contrast[-1] == case.messages[-1], "the reply is the observed one"
        cue = cues[row.twin.observed.cue]
        back = [
            {**turn, "content": turn["content"].replace(cue.unobserved, cue.observed, 1)}
            for turn in case.contrast[:-1]
        ]
        assert back == list(case.prompt)
        assert list(case.contrast[:-1]) != list(case.prompt)


def test_nothing_of_the_unobserved_rollout_is_in_a_contrast(
    environment: Environment, tmp_path: Path
) -> None:
    for case in _cases(environment, tmp_path, contrast=True, show_reasoning=True).cases:
        text = str(case.contrast)
        assert "from the unobserved rollout" not in text
        assert "The unobserved" not in text
        assert case.contrast[-1]["content"].startswith("<think>\nThe observed thought")


def test_without_the_flag_no_case_has_a_contrast_or_shows_an_unobserved_cue(
    environment: Environment, tmp_path: Path
) -> None:
    cases = _cases(environment, tmp_path, contrast=False)
    hidden = [cue.unobserved for cue in environment.cues if cue.partition == "test"]
    shown = [cue.observed for cue in environment.cues]
    hidden = [text for text in hidden if not any(text in other for other in shown)]
    for case in cases.cases:
        assert case.contrast is None
        assert not any(text in str(case.messages) for text in hidden)


def test_contrasts_change_neither_the_order_nor_the_groups_of_cases(
    environment: Environment, tmp_path: Path
) -> None:
    first, second = (
        [
            replace(case, id="", contrast=None, handle=None)  # type: ignore[arg-type]
            for case in _cases(environment, tmp_path, contrast=contrast).cases
        ]
        for contrast in (False, True)
    )
    assert first == second


def test_an_edited_contrast_does_not_change_the_transcript_or_the_next_detectors(
    environment: Environment, tmp_path: Path
) -> None:
    for case in _cases(environment, tmp_path, contrast=True).cases:
        assert case.contrast is not None
        for turn in case.contrast:
            turn["content"] = "poisoned"
        assert "poisoned" not in str(case.messages)
    for case in _cases(environment, tmp_path, contrast=True).cases:
        assert "poisoned" not in str(case.contrast)
