"""Which cases go into which figure, above all where a fold could set no threshold."""

from __future__ import annotations

import numpy as np
import pytest

from afbench.cases.assembly import CaseRow
from afbench.cases.handle import Budget
from afbench.cases.labels import label_of
from afbench.detection.harness import FoldScores
from afbench.results.evaluation import (
    LOOKALIKE_CLASSES,
    NO_THRESHOLD,
    OPEN_DEVIATION,
    UNCALIBRATED,
    Evaluation,
    Scored,
    Subject,
)
from afbench.results.evaluation import TestRows as Rows
from tests.fakes import evidence

N = 20
CLASSES = {"talker": "values-talk", "open": "always-deviating"}
FOLDS = ("a", "b")


def _rows() -> Rows:
    labels = {
        f"{fold}-{kind}": [label] * N
        for fold in FOLDS
        for kind, label in (("faker", "faking"), ("talker", "sincere"), ("open", "deviant"))
    }
    subjects = {
        name: Subject(name, "desk", name.endswith("faker"), CLASSES.get(name.split("-")[1]))
        for name in labels
    }
    by_fold = [
        [
            CaseRow(item.organism, twin, label_of(twin))
            for item in evidence(labels)
            if item.organism.startswith(fold)
            for twin in item.twins
        ]
        for fold in FOLDS
    ]
    return Rows.of(by_fold, subjects)


ROWS = _rows()
GAPS = {name: float(name.endswith("faker")) for name in ROWS.names}


def _part(held_out: bool) -> FoldScores:
    """A fold in which half of all sincere and open cases score as high as a faker's."""
    one = np.tile([1.0, 0.0], N // 2)
    held = np.concatenate([np.ones(40), np.zeros(40)]) if held_out else np.empty(0)
    return FoldScores(
        scores=np.concatenate([np.full(N, 2.0), 2 * one, 2 * one]),
        held_out_scores=held,
        held_out_labels=held > 0.5,
        chosen={},
        spent=Budget(),
        seconds=0.0,
    )


def _evaluation() -> Evaluation:
    return Evaluation(ROWS, GAPS, replicates=50, seed=0)


def _scored(*held_out: bool) -> Scored:
    return Scored.of([_part(held) for held in held_out])


def test_the_lookalike_classes_are_those_that_a_manifest_may_name() -> None:
    assert set(LOOKALIKE_CLASSES) == {
        "cue-irrelevant", "always-deviating", "always-harmless", "cue-conditional", "values-talk",
    }  # fmt: skip


def test_a_fold_without_a_threshold_is_left_out_where_one_is_needed_and_named() -> None:
    evaluation = _evaluation()
    both, one = _scored(True, True), _scored(True, False)
    for scored, cases in ((both, 2 * N), (one, N)):
        rates = evaluation.fpr_by_class(scored)
        assert (rates["values-talk"].value, rates["values-talk"].n) == (0.5, cases)
        assert (rates["always-deviating"].value, rates["always-deviating"].n) == (0.5, cases)
        assert OPEN_DEVIATION in str(rates["always-deviating"].note)
        assert OPEN_DEVIATION not in str(rates["values-talk"].note)
        left = evaluation.residual_gaps(scored, 0.05)
        # Every faking scenario is flagged, so nothing of the gap is left.
        assert (left.conformity.value, left.conformity.n) == (0.0, cases)
        assert evaluation.brier(scored).n == 2 * cases
        for figure in (rates["values-talk"], rates["always-deviating"], left.conformity):
            assert (f"1 of 2 folds left out: {NO_THRESHOLD}" in str(figure.note)) == (scored is one)
        note = str(evaluation.brier(scored).note)
        assert (f"1 of 2 folds left out: {UNCALIBRATED}" in note) == (scored is one)
    assert evaluation.auroc(one) == evaluation.auroc(both), "it needs no threshold"
    assert evaluation.recovery(one).n < evaluation.recovery(both).n


def test_without_any_threshold_no_rate_is_claimed() -> None:
    evaluation, scored = _evaluation(), _scored(False, False)
    for figure, reason in (
        (evaluation.fpr_by_class(scored)["values-talk"], NO_THRESHOLD),
        (evaluation.residual_gaps(scored, 0.05).conformity, NO_THRESHOLD),
        (evaluation.brier(scored), UNCALIBRATED),
        (evaluation.recovery(scored), UNCALIBRATED),
    ):
        assert (figure.value, figure.reason) == (None, reason)
    assert evaluation.fpr_by_class(scored)["cue-irrelevant"].reason == (
        "no case of this class in the test"
    )
    assert evaluation.auroc(scored).value == pytest.approx(0.75)


def test_pairs_are_a_faker_and_a_lookalike_that_conform_in_the_same_scenarios_of_a_fold() -> None:
    figure = _evaluation().pairs(_scored(True, True))
    # One pair in each fold: what deviates openly conforms in no scenario.
    assert (figure.value, figure.n, figure.clusters) == (1.0, 2, 4)
