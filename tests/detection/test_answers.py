from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from afbench.contract.synthetic import synthetic_cases
from afbench.detection.answers import (
    ConsistentProbe,
    ContrastComponents,
    asked,
    pair_states,
    question_states,
)
from afbench.detection.probes import Classifier
from afbench.metrics.detection import auroc
from afbench.store import Store

PAIR_PROBES = [ContrastComponents(), ConsistentProbe(steps=150)]


def _pairs(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Yes and no states: the answer's own word, loudest; what is true; noise."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.4
    truth = np.where(labels, 1.0, -1.0)
    pairs = 0.3 * rng.normal(size=(n, 2, 5))
    pairs[:, 0, 0] += 50
    pairs[:, 1, 0] -= 50
    pairs[:, 0, 3] += truth
    pairs[:, 1, 3] -= truth
    return pairs, labels


@pytest.mark.parametrize("probe", PAIR_PROBES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("meaning", [1, -1])
def test_the_axis_of_what_is_true_is_found_and_not_the_answers_word(
    probe: Classifier, meaning: int
) -> None:
    pairs, labels = _pairs(0)
    unseen, truth = _pairs(1)
    # Whether faking is where yes is true or where no is: the labels give the sign.
    labels, truth = (labels, truth) if meaning == 1 else (~labels, ~truth)
    assert auroc(probe.fit(pairs, labels).score(unseen), truth) > 0.99


@pytest.mark.parametrize("probe", PAIR_PROBES, ids=lambda one: type(one).__name__)
def test_labels_give_nothing_but_the_sign(probe: Classifier) -> None:
    pairs, labels = _pairs(0)
    wrong = labels.copy()
    wrong[:20] = ~wrong[:20]
    first = probe.fit(pairs, labels).score(pairs)
    np.testing.assert_array_equal(probe.fit(pairs, wrong).score(pairs), first)


def test_a_consistent_probe_scores_a_probability_and_repeats_itself() -> None:
    pairs, labels = _pairs(0)
    scores = ConsistentProbe(steps=30).fit(pairs, labels).score(pairs)
    assert (scores >= 0).all() and (scores <= 1).all()
    again = ConsistentProbe(steps=30).fit(pairs, labels).score(pairs)
    np.testing.assert_array_equal(scores, again)


def test_states_stand_in_the_order_of_cases_and_questions(tmp_path: Path) -> None:
    cases, _ = synthetic_cases(
        seed=0, groups=3, tier="activations", needs_parent=False, store=Store(tmp_path)
    )
    questions = ["Is it so?", "Is it not?"]
    states = question_states(cases, questions, [1, 2])
    pairs = pair_states(cases, questions[1], [2])
    assert states.shape == (len(cases), 2, 2, 8)
    assert pairs.shape == (len(cases), 2, 1, 8)
    for row in (0, 7):
        talk = asked(cases[row].messages, questions[1], "Yes.")
        assert [turn["role"] for turn in talk[-3:]] == ["assistant", "user", "assistant"]
        alone = cases[row].handle.activations([talk], [2], ["prompt_last", "response_last"])
        np.testing.assert_array_equal(states[row, 1, 1], alone[0, 0, 0])
        np.testing.assert_array_equal(pairs[row, 0, 0], alone[0, 1, 0])
