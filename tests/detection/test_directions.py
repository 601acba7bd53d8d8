from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.contract.synthetic import synthetic_cases
from afbench.detection.directions import Contrast, DirectionDetector, exchange, projections
from afbench.detection.styles import STYLES, restyled
from afbench.errors import UnknownNameError
from afbench.models.interface import POOLINGS
from afbench.store import Store
from tests.fakes import handle_on

HIGH, LOW = exchange("Speak.", "The high pole."), exchange("Speak.", "The low pole.")


class _Poled(FakeModel):
    """Layer 2 is 3 along an axis of its own where "high" is read, -1 where "low" is.

    Transcripts of a faker lie at its score along that axis.
    """

    def __init__(self, seed: int, axis: int, score: float) -> None:
        super().__init__(seed)
        self.axis, self.score = axis, score
        self.digest = f"poled {seed} {axis} {score}"

    def activations(
        self, conversations: Sequence[Any], layers: Any, poolings: Sequence[str]
    ) -> Any:
        values = 0.01 * super().activations(conversations, layers, poolings)
        chosen = list(range(self.n_layers + 1)) if layers is None else list(layers)
        for row, talk in enumerate(conversations):
            text = talk[-1]["content"]
            along = 3 if "high" in text else -1 if "low" in text else self.score
            if 2 in chosen:
                values[row, :, chosen.index(2), self.axis] += along
        return values


def _cases(folder: Path, scores: list[float]) -> tuple[list[Case], Any]:
    """Each organism has its pole along another axis of its own."""
    cases, labels = synthetic_cases(
        seed=0, groups=4, tier="activations", needs_parent=False, store=Store(folder)
    )
    store = Store(folder / "poled")
    handles = [
        handle_on(_Poled(group, group, score), "activations", store)
        for group, score in enumerate(scores)
    ]
    return [replace(case, handle=handles[case.group]) for case in cases], labels


def test_a_projection_is_the_distance_from_the_middle_along_the_organisms_own_axis(
    tmp_path: Path,
) -> None:
    cases, _ = _cases(tmp_path, [1.0, 2.0, 3.0, -1.0])
    contrast = Contrast((HIGH,), (LOW,))
    found = projections(cases, [contrast, contrast], "response_mean", POOLINGS, [1, 2])
    assert found.shape == (len(cases), 2, len(POOLINGS), 2)
    expected = np.array([{0: 0.0, 1: 1.0, 2: 2.0, 3: -2.0}[case.group] for case in cases])
    np.testing.assert_allclose(found[:, 0, 1, 1], expected, atol=0.1)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


class _Detector(DirectionDetector):
    def contrasts(self) -> list[Contrast]:
        return [Contrast((HIGH,), (LOW,))]


def test_the_layer_is_chosen_and_the_sign_is_not(tmp_path: Path) -> None:
    cases, labels = _cases(tmp_path / "up", [-1.0, 2.0, -1.0, 2.0])
    assert [bool(labels[row]) for row in range(4)] == [False, True, False, True]
    detector = _Detector(["all_mean", "response_last"])
    detector.fit(cases, labels)
    assert detector.explain()["layer"] == 2
    scores = detector.score(cases)
    assert scores[labels].min() > scores[~labels].max()
    # Turned round, the direction is not turned with it: another layer is taken, or it is wrong.
    cases, labels = _cases(tmp_path / "down", [2.0, -1.0, 2.0, -1.0])
    detector.fit(cases, labels)
    assert detector.explain()["layer"] != 2


def test_poles_that_are_alike_give_finite_scores(tmp_path: Path) -> None:
    cases, _ = _cases(tmp_path, [0.0] * 4)
    found = projections(cases, [Contrast((HIGH,), (HIGH,))], "response_mean", ["all_mean"], [2])
    np.testing.assert_array_equal(found, 0.0)


# Styles


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_style_changes_the_prompt_alone_and_leaves_the_case_as_it_was(
    tmp_path: Path, style: str
) -> None:
    cases, _ = synthetic_cases(
        seed=0, groups=2, tier="text", needs_parent=False, store=Store(tmp_path)
    )
    before = [[dict(message) for message in case.messages] for case in cases]
    changed = restyled(cases, style)
    for old, new, kept in zip(cases, changed, before, strict=True):
        assert new.response == old.response
        assert [message["role"] for message in new.messages] == [
            message["role"] for message in old.messages
        ]
        assert all(
            first["content"] != second["content"]
            for first, second in zip(new.prompt, old.prompt, strict=True)
        )
        assert [dict(message) for message in old.messages] == kept
        assert (new.group, new.cue, new.handle) == (old.group, old.cue, old.handle)


def test_a_style_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'lower'"):
        restyled([], "lowr")
