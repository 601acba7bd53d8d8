from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.detection.questioning import Questioner, flips, interrogate
from afbench.messages import Message
from afbench.models.interface import Generation
from afbench.store import Store
from tests.fakes import handle_on

SHOWN: tuple[Message, ...] = (
    {"role": "user", "content": "Copy it."},
    {"role": "assistant", "content": "No."},
)


class _Scripted(FakeModel):
    """Answers by the number of turns so far and the sample; keeps what it was asked."""

    def __init__(self, answers: dict[tuple[int, int], str]) -> None:
        super().__init__(0)
        self.answers, self.asked = answers, []  # type: ignore[var-annotated]

    def generate(self, conversations: Any, settings: Any, progress: Any = None) -> Any:
        self.asked += [[turn["content"] for turn in talk] for talk in conversations]
        turn = (len(conversations[0]) - len(SHOWN) - 1) // 2
        text = self.answers.get((turn, settings.seed % 2), "Maybe.")
        return [Generation(text, "", (1,), True, 1) for _ in conversations]


def _case(model: FakeModel, folder: Path, tier: Any = "text", **options: Any) -> Case:
    return Case("0", SHOWN, "", 0, handle_on(model, tier, Store(folder), **options))


def test_each_question_is_put_after_the_first_answers_to_the_former(tmp_path: Path) -> None:
    model = _Scripted({(0, 0): "Yes.", (0, 1): "No.", (1, 0): "no way", (1, 1): "No."})
    found = interrogate([_case(model, tmp_path)], ["A?", "B?", "C?"], samples=2, seed=0)
    assert model.asked[-1] == ["Copy it.", "No.", "A?", "Yes.", "B?", "no way", "C?"]
    expected = [0.0, np.log(0.5 / 2.5), 0.0]
    np.testing.assert_allclose(found[0, :, 0], expected)
    np.testing.assert_allclose(found[0, :, 1], [0.0, 0.0, 1.0], err_msg="neither yes nor no")


def test_an_answer_that_is_taken_back_is_a_flip() -> None:
    margins = np.array([[2.0, 0.0, -1.0, 1.0], [1.0, 5.0, 1.0, 1.0]])
    assert flips(margins, ["A?", "B?", "A?", "A?"]).tolist() == [4.0, 0.0]
    assert flips(margins, ["A?", "B?", "C?", "D?"]).tolist() == [0.0, 0.0]


def test_one_organism_without_log_probabilities_decides_the_scale_for_all(tmp_path: Path) -> None:
    full = _case(FakeModel(0), tmp_path, "logprobs")
    only_text = _case(FakeModel(1), tmp_path, "logprobs", capabilities=frozenset({"generate"}))
    asking = Questioner(["A?", "B?"], samples=2)
    asking.choose_scale([full])
    assert asking.explain() == {"answers": "log-probabilities"}
    values = FakeModel(0).followup_logprobs([SHOWN], ["A?", "B?"], ("Yes", "No"))[0]
    np.testing.assert_allclose(asking.margins([full])[0], values[:, 0] - values[:, 1])
    asking.choose_scale([full, only_text])
    assert asking.explain() == {"answers": "sampled"}
    assert np.abs(asking.margins([full, only_text])).max() <= np.log(5) + 1e-9


def test_a_scale_must_be_chosen_before_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        Questioner(["A?"]).margins([_case(FakeModel(0), tmp_path)])
