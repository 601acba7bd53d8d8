"""ROC curves and paired comparisons: closed forms, and agreement with the record's own figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from afbench.errors import AfbenchError, LeaderboardError
from afbench.metrics.comparison import compare_auroc
from afbench.metrics.detection import auroc
from afbench.metrics.detection_figures import auroc_figure, auroc_parts
from afbench.results.record import ResultRecord
from afbench.results.score_file import ScoredCase, ScoreFile
from afbench.site.curves import (
    STEPS,
    clearly_better,
    curves_of,
    mean_roc,
    place_of,
    read_curves,
    roc_points,
)
from afbench.store import write_json
from tests.site.boards import cut

LABELS = np.array([True, True, False, False])


def area(false: np.ndarray, true: np.ndarray) -> float:
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))


def test_a_perfect_and_a_reversed_detector() -> None:
    perfect = mean_roc([(np.array([2.0, 3.0, 0.0, 1.0]), LABELS)])
    assert perfect.tolist() == [1.0] * (STEPS + 1)
    reversed_ = mean_roc([(np.array([0.0, 1.0, 2.0, 3.0]), LABELS)])
    assert reversed_.tolist() == [0.0] * STEPS + [1.0]


def test_scores_that_are_all_equal_give_the_diagonal() -> None:
    curve = mean_roc([(np.zeros(4), LABELS)])
    np.testing.assert_allclose(curve, np.linspace(0, 1, STEPS + 1))


def test_folds_are_averaged_and_never_pooled() -> None:
    """Pooled, the second fold's scores, all above the first's, would ruin the order."""
    folds = [(np.array([2.0, 3.0, 0.0, 1.0]), LABELS), (np.array([12.0, 13.0, 10.0, 11.0]), LABELS)]
    assert mean_roc(folds).tolist() == [1.0] * (STEPS + 1)
    mixed = [folds[0], (np.zeros(4), LABELS)]
    np.testing.assert_allclose(mean_roc(mixed), (1 + np.linspace(0, 1, STEPS + 1)) / 2)


def test_the_area_under_a_curve_is_the_auroc_ties_and_all() -> None:
    draws = np.random.default_rng(0)
    scores, labels = draws.integers(0, 6, 60).astype(float), draws.random(60) < 0.4
    assert area(*roc_points(scores, labels)) == pytest.approx(auroc(scores, labels))


def test_a_detector_is_beaten_where_the_paired_interval_excludes_0() -> None:
    """As the comparison of two detectors in a record says it."""
    draws = np.random.default_rng(1)
    labels = np.tile([True, False], 100)
    organisms, scenarios = np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20)
    base = labels + draws.normal(0, 1, 200)
    detectors = {
        "good": base,
        "alike": base + draws.normal(0, 0.2, 200),
        "poor": labels * 0.2 + draws.normal(0, 1, 200),
    }
    resampled = {}
    for name, scores in detectors.items():
        cases, statistic = auroc_parts(scores, labels, organisms, scenarios, None)
        resampled[name] = cases.replicates(statistic, 500, 0)
    found = clearly_better(resampled)
    for name, scores in detectors.items():
        for other, theirs in detectors.items():
            if other != name:
                compared = compare_auroc(
                    theirs, scores, labels, organisms, scenarios, replicates=500
                )
                better = not compared.tied and (compared.difference.value or 0) > 0
                assert (other in found[name]) == better
    assert found["poor"] == ["good", "alike"]
    assert found["good"] == []


@pytest.fixture
def run() -> tuple[ResultRecord, ScoreFile]:
    """A record of one detector on two organisms, and its scores."""
    base = cut("recipe")
    faker = next(one for one in base.organisms if one.role == "faker")
    lookalike = next(one for one in base.organisms if one.role == "lookalike")
    cases = [
        ScoredCase(fold=0, organism=one.name, scenario=f"s{number}", cue="c", label=label)
        for one, label in ((faker, "faking"), (lookalike, "sincere"))
        for number in range(8)
    ]
    given = np.array([*range(4, 12), *range(8)], dtype=float)
    labels = np.array([case.label == "faking" for case in cases])
    numbers = np.repeat([0, 1] if faker.name < lookalike.name else [1, 0], 8)
    figure = auroc_figure(given, labels, numbers, np.arange(16), replicates=50)
    probe = next(one for one in base.detectors if one.name == "probe")
    record = base.model_copy(
        update={
            "settings": base.settings.model_copy(update={"replicates": 50}),
            "detectors": [probe.model_copy(update={"auroc": figure})],
        }
    ).with_digest()
    return record, ScoreFile(folds=["f"], cases=cases, scores={"probe": given.tolist()})


def test_curves_of_a_run_are_kept_beside_its_record(
    run: tuple[ResultRecord, ScoreFile], tmp_path: Path
) -> None:
    record, scores = run
    made = curves_of(record, scores)
    write_json(tmp_path / "results" / "zoo" / "recipe.json", record.model_dump(mode="json"))
    path = place_of(tmp_path, record)
    assert path == tmp_path / "curves" / "zoo" / "recipe.json"
    write_json(path, made.model_dump(mode="json"))
    assert read_curves(path, record) == made
    assert made.beaten_by == {"probe": []}
    assert made.roc["probe"][0] == 0.5, "four of eight fakers score above every sincere case"
    assert path.stat().st_size < 2000


def test_scores_of_another_run_are_refused(run: tuple[ResultRecord, ScoreFile]) -> None:
    record, scores = run
    other = scores.model_copy(update={"scores": {"probe": list(np.arange(16.0))}})
    with pytest.raises(LeaderboardError, match="do not give the record's AUROC"):
        curves_of(record, other)
    stray = scores.cases[0].model_copy(update={"organism": "stray"})
    with pytest.raises(LeaderboardError, match="no organism 'stray'"):
        curves_of(record, scores.model_copy(update={"cases": [stray, *scores.cases[1:]]}))


def test_a_record_that_is_not_on_the_leaderboard_has_no_place_for_curves(
    run: tuple[ResultRecord, ScoreFile], tmp_path: Path
) -> None:
    with pytest.raises(LeaderboardError, match="no record of split 'recipe'"):
        place_of(tmp_path, run[0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"record": "sha256:" + "0" * 64}, "of another record"),
        ({"roc": {}}, "of different detectors"),
        ({"beaten_by": {"probe": ["probe"]}}, "beat each other"),
        ({"roc": {"probe": [2.0] * (STEPS + 1)}}, "field 'roc.probe.0'"),
        ({"roc": {"../x": [0.0] * (STEPS + 1)}, "beaten_by": {"../x": []}}, "field 'roc.../x"),
        ({"more": 1}, "field 'more'"),
    ],
)
def test_a_curve_file_that_is_not_sound_is_refused(
    change: dict[str, object], match: str, run: tuple[ResultRecord, ScoreFile], tmp_path: Path
) -> None:
    record, scores = run
    content = curves_of(record, scores).model_dump(mode="json") | change
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AfbenchError, match=match):
        read_curves(path, record)


def test_where_there_are_no_curves_none_are_read(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "recipe.json", cut("recipe")) is None
