from __future__ import annotations

import numpy as np
import pytest

from afbench.catalog.discovery import discover
from afbench.errors import NotEnoughCasesError, UnknownNameError
from afbench.metrics.comparison import compare_auroc
from afbench.metrics.detection import auroc
from afbench.regression.comparison import Change, compare
from afbench.regression.matching import Scores, SharedCases
from afbench.regression.metrics import METRICS, metric_of
from afbench.regression.paired import Procedure, paired
from afbench.results.evaluation import LOOKALIKE_CLASSES, Evaluation, Scored
from tests.regression.drawn import common_errors, drawn_cases, scores_of
from tests.results.fake_run import FakeRun

AUROC = metric_of("auroc")


def change(
    cases: SharedCases,
    before: Scores,
    now: Scores,
    *,
    metric: str = "auroc",
    allowed: float = 0.02,
    comparisons: int = 1,
) -> Change:
    return compare(
        metric_of(metric),
        cases,
        before,
        now,
        names=("now", "before"),
        allowed=allowed,
        procedure=Procedure(comparisons, replicates=400),
    )


@pytest.fixture
def drawn() -> tuple[SharedCases, Scores, Scores]:
    cases = drawn_cases(2, 4, 30)
    return cases, *common_errors(cases, np.random.default_rng(0), shift=0.8)


def test_the_drop_and_its_interval_are_those_of_the_paired_test(
    drawn: tuple[SharedCases, Scores, Scores],
) -> None:
    cases, before, now = drawn
    found = change(cases, before, now)
    reference = compare_auroc(
        before.scores, now.scores, cases.labels, cases.organisms, cases.scenarios,
        folds=cases.folds, replicates=400,
    ).difference  # fmt: skip
    assert (found.drop, found.low, found.high) == pytest.approx(
        (reference.value, reference.low, reference.high)
    )
    assert found.before == pytest.approx(auroc(before.scores, cases.labels))
    assert found.now == pytest.approx(auroc(now.scores, cases.labels))
    assert (found.cases, found.organisms, found.confidence) == (180, 6, pytest.approx(0.95))


def test_the_same_scores_on_another_scale_are_no_change() -> None:
    cases = drawn_cases(2, 4, 30)
    before, _ = common_errors(cases, np.random.default_rng(0))
    found = change(cases, before, scores_of(3 * before.scores - 7), allowed=0.0)
    assert (found.drop, found.low, found.high, found.verdict) == (0, 0, 0, "not worse")


def test_it_is_worse_only_when_the_whole_interval_lies_beyond_what_is_tolerated(
    drawn: tuple[SharedCases, Scores, Scores],
) -> None:
    cases, before, now = drawn
    found = change(cases, before, now)
    assert 0.02 < found.low < found.drop < found.high
    assert found.verdict == "worse"
    just_within = change(cases, before, now, allowed=found.low)
    assert just_within.verdict == "not worse"
    assert change(cases, before, now, allowed=found.low - 1e-9).verdict == "worse"
    assert change(cases, now, before).verdict == "better"


def test_the_interval_of_one_of_several_comparisons_is_wider(
    drawn: tuple[SharedCases, Scores, Scores],
) -> None:
    alone, one_of_ten = change(*drawn), change(*drawn, comparisons=10)
    assert one_of_ten.confidence == pytest.approx(0.995)
    assert one_of_ten.low < alone.low and alone.high < one_of_ten.high
    assert one_of_ten.drop == alone.drop


def test_thin_tails_get_more_replicates() -> None:
    assert Procedure(1, replicates=2000).drawn == 2000
    assert Procedure(20, replicates=2000).drawn == 8000  # ten in each tail of 0.125%
    assert Procedure(1).spreads == pytest.approx(1.960 + 0.842, abs=1e-3)


def test_a_lower_error_is_better_and_a_higher_one_is_a_drop() -> None:
    cases = drawn_cases(2, 2, 20)
    certain = np.where(cases.labels, 0.9, 0.1)
    unsure = np.full(len(cases), 0.5)
    before, now = (scores_of(p, p) for p in (certain, unsure))
    found = change(cases, before, now, metric="brier")
    assert (found.before, found.now) == (pytest.approx(0.01), pytest.approx(0.25))
    assert found.drop == pytest.approx(0.24) and found.verdict == "worse"


def test_a_false_positive_rate_rises_by_the_cases_that_cross_the_threshold() -> None:
    cases = drawn_cases(1, 2, 20)
    quiet = np.where(cases.labels, 2.0, 0.0)
    louder = quiet.copy()
    louder[np.flatnonzero(~cases.labels)[::4]] = 2.0  # a quarter of the sincere cases
    before, now = (scores_of(values, threshold=1.0) for values in (quiet, louder))
    for metric in ("fpr", "fpr:values-talk"):
        found = change(cases, before, now, metric=metric)
        assert (found.before, found.now, found.drop) == (0, 0.25, 0.25)
    with pytest.raises(NotEnoughCasesError, match="fpr:always-harmless"):
        change(cases, before, now, metric="fpr:always-harmless")


def test_pairs_fall_by_the_pairs_that_are_lost() -> None:
    cases = drawn_cases(2, 4, 5)
    right = cases.labels.astype(np.float64)
    fooled = np.where(cases.organisms == 2, 2.0, right)  # one lookalike above both fakers
    found = change(cases, scores_of(right), scores_of(fooled), metric="pairs")
    assert (found.before, found.now, found.drop) == (1, 0.75, 0.25)
    assert found.worst is not None and found.worst.organism == "organism-02"
    assert found.worst.drop == 1


def test_the_organism_on_which_it_fell_is_named() -> None:
    cases = drawn_cases(4, 4, 25)
    before, _ = common_errors(cases, np.random.default_rng(0))
    broken = np.where(cases.organisms == 2, -before.scores, before.scores)
    found = change(cases, before, scores_of(broken))
    assert found.worst is not None and found.worst.organism == "organism-02"
    rest = [one for one in found.by_organism if one.organism == "organism-01"]
    assert rest[0].drop == pytest.approx(0)
    drops = [one.drop for one in found.by_organism]
    assert drops == sorted(drops, reverse=True)


def test_folds_are_averaged_and_their_scores_never_compared() -> None:
    cases = drawn_cases(2, 2, 10, folds=2)
    within = cases.labels + 100.0 * cases.folds
    found = change(cases, scores_of(cases.labels.astype(float)), scores_of(within), allowed=0.0)
    assert (found.before, found.now, found.drop) == (1, 1, 0)


def test_too_few_cases_are_refused_with_the_reason() -> None:
    cases = drawn_cases(1, 1, 4)
    values = scores_of(np.arange(8.0))
    with pytest.raises(NotEnoughCasesError, match=r"auroc: needs 5 faking and 5 sincere") as error:
        change(cases, values, values)
    assert "choose another metric" in str(error.value)
    many = drawn_cases(1, 2, 20)
    with pytest.raises(NotEnoughCasesError, match="tpr-at-1: needs 5 faking and 300 sincere"):
        change(many, *common_errors(many, np.random.default_rng(0)), metric="tpr-at-1")
    with pytest.raises(NotEnoughCasesError, match="brier: the fit side is too small"):
        change(many, *common_errors(many, np.random.default_rng(0)), metric="brier")


def test_cases_that_one_side_cannot_use_are_used_on_neither() -> None:
    cases = drawn_cases(2, 2, 10, folds=2)
    p = np.where(cases.labels, 0.8, 0.2)
    partly = np.where(cases.folds == 0, p, np.nan)
    found = paired(
        metric_of("brier"), cases, scores_of(p, p), scores_of(p, partly), replicates=50, seed=0
    )
    assert found.mask.sum() == 40 and not found.mask[cases.folds == 1].any()


def test_an_unknown_metric_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tpr-at-5'"):
        metric_of("tpr-at-50")


def test_every_metric_is_the_figure_of_a_record(tmp_path_factory: pytest.TempPathFactory) -> None:
    """So that what a check compares is what a result shows."""
    labels = {
        f"{part}-{family}-{role}": [label] * 70
        for part, families in (("fit", "ab"), ("test", "c"))
        for family in families
        for role, label in (("faker", "faking"), ("honest", "sincere"))
    }
    labels["test-c-open"] = ["deviant"] * 70
    evaluation, scored = _evaluated(tmp_path_factory, labels)
    rows = evaluation.rows
    cases = SharedCases(
        folds=rows.folds,
        organisms=rows.organisms,
        scenarios=rows.scenarios,
        labels=rows.labels,
        scored=rows.scored,
        deviant=np.array([row.label == "deviant" for row in rows.rows], np.bool_),
        faker=np.array([subject.faker for subject in rows.subjects], np.bool_),
        classes=np.array([subject.lookalike_class or "" for subject in rows.subjects]),
        names=rows.names,
    )
    scores = Scores(scored.scores, scored.probabilities, scored.thresholds[0.05])
    figures = {
        "auroc": evaluation.auroc(scored),
        "tpr-at-1": evaluation.tpr(scored, 0.01),
        "tpr-at-5": evaluation.tpr(scored, 0.05),
        "pairs": evaluation.pairs(scored),
        "brier": evaluation.brier(scored),
        **{f"fpr:{name}": one for name, one in evaluation.fpr_by_class(scored).items()},
    }
    assert set(METRICS) == {*figures, "fpr"}
    refused = set()
    for name, figure in figures.items():
        if figure.value is None:
            refused.add(name)
            with pytest.raises(NotEnoughCasesError):
                paired(METRICS[name], cases, scores, scores, replicates=20, seed=0)
            continue
        found = paired(METRICS[name], cases, scores, scores, replicates=20, seed=0)
        assert found.before == pytest.approx(figure.value), name
    others = {f"fpr:{name}" for name in LOOKALIKE_CLASSES if name != "values-talk"}
    assert refused == {"tpr-at-1", *others}


def _evaluated(
    folder: pytest.TempPathFactory, labels: dict[str, list[str]]
) -> tuple[Evaluation, Scored]:
    from afbench.cases.splits import Fold

    run = FakeRun(folder.mktemp("run"), [discover().get("detector", "difference-of-means")], labels)
    fit = tuple(name for name in labels if name.startswith("fit"))
    test = tuple(name for name in labels if name.startswith("test"))
    scoring = run.run([Fold("desk", fit, test)])
    outcome = scoring.outcomes["difference-of-means"]
    assert isinstance(outcome, list)
    return run.evaluation(scoring), Scored.of(outcome)
