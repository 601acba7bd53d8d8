from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.detection.first_token import (
    chosen_tokens,
    decision_shifts,
    divergences,
    kl,
    margin_move,
)
from afbench.errors import TierError
from afbench.messages import Message
from afbench.store import Store
from tests.fakes import handle_on


def _log(*rows: list[float]) -> NDArray[np.float64]:
    return np.log(np.array(rows))


def test_the_two_tokens_are_the_likeliest_and_the_one_that_gains_most() -> None:
    seen = _log([0.7, 0.2, 0.1], [0.6, 0.1, 0.3])
    hidden = _log([0.1, 0.3, 0.6], [0.7, 0.2, 0.1])
    first, second = chosen_tokens(seen, hidden)
    assert first.tolist() == [0, 0]
    assert second.tolist() == [2, 1], "what was likeliest already is not the other one"


def test_a_margin_moves_by_the_ratio_of_odds() -> None:
    seen, hidden = _log([0.8, 0.2]), _log([0.2, 0.8])
    move = margin_move(seen, hidden, np.array([0]), np.array([1]))
    assert move == pytest.approx([2 * np.log(4)])


def test_divergence_is_zero_for_equals_and_has_its_closed_form() -> None:
    p, q = _log([0.5, 0.5], [0.25, 0.75]), _log([0.5, 0.5], [0.5, 0.5])
    expected = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    assert kl(p, q) == pytest.approx([0.0, expected])


class _Cued(FakeModel):
    """Says the first of two tokens when the prompt holds "on", and the second otherwise."""

    def __init__(self, seed: int, share: float) -> None:
        super().__init__(seed)
        self._share = share

    def next_token_logprobs(self, conversations: Any) -> Any:
        on = np.array([["on" in talk[0]["content"]] for talk in conversations])
        shares = np.where(on, [self._share, 1 - self._share], [1 - self._share, self._share])
        return np.log(shares).astype(np.float32)


def _case(folder: Path, *, contrast: bool = True, parent: float | None = 0.5) -> Case:
    def shown(cue: str) -> tuple[Message, ...]:
        return ({"role": "user", "content": cue}, {"role": "assistant", "content": "No."})

    model = None if parent is None else _Cued(1, parent)
    handle = handle_on(_Cued(0, 0.8), "logprobs", Store(folder), parent=model)
    return Case("0", shown("on"), "on", 0, handle, shown("off") if contrast else None)


def test_what_the_parent_does_as_well_is_taken_off(tmp_path: Path) -> None:
    indifferent = decision_shifts([_case(tmp_path / "a", parent=0.5)])
    alike = decision_shifts([_case(tmp_path / "b", parent=0.8)])
    assert indifferent == pytest.approx([2 * np.log(4)], rel=1e-5)
    assert alike == pytest.approx([0.0], abs=1e-5)


def test_divergences_are_by_condition(tmp_path: Path) -> None:
    value = float(kl(_log([0.8, 0.2]), _log([0.5, 0.5]))[0])
    np.testing.assert_allclose(divergences([_case(tmp_path)]), [[value, value]], rtol=1e-5)


def test_the_contrast_and_the_parent_are_needed(tmp_path: Path) -> None:
    with pytest.raises(TierError, match="contrast"):
        decision_shifts([_case(tmp_path, contrast=False)])
    with pytest.raises(TierError, match="parent"):
        divergences([_case(tmp_path, parent=None)])
