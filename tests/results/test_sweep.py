"""Many detectors in one run: what they share, what is kept, and what one that fails changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.splits import Fold
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.harness import FoldScores
from afbench.errors import DetectorError, DetectorUnavailableError
from afbench.results import score_cache
from afbench.results.evaluation import Scored
from afbench.results.figures_of import detector_figures, void_detector
from afbench.results.scoring import Scoring
from tests.results.fake_run import FIT, FOLD, TEST, FakeRun, detector

# Sees the same cases at a layer and pooling of its own.
SUMS = """
class It(Detector):
    def __init__(self, layer=1, pooling="all_mean"):
        self.layer, self.pooling = layer, pooling
    def _features(self, cases):
        return activations(cases, [self.layer], [self.pooling])[:, 0, 0].sum(axis=1)
    def fit(self, cases, labels):
        self.middle = self._features(cases).mean()
    def score(self, cases):
        return (self._features(cases) - self.middle).astype(float)
"""
# Writes down each fit.
LOGS = """
from pathlib import Path
class It(Detector):
    def __init__(self, log, other=""):
        self.log, self.other = Path(log), other
    def depends_on(self):
        return self.other
    def fit(self, cases, labels):
        with self.log.open("a") as file:
            file.write("x")
        self.seen = float(len(cases))
        activations(cases, [1], ["all_mean"])
    def score(self, cases):
        return np.array([self.seen + len(case.response) / 7 for case in cases])
"""
LOGPROBS = """
class It(Detector):
    def fit(self, cases, labels):
        pass
    def score(self, cases):
        asked = [case.handle.logprobs([case.prompt], ["Yes"])[0, 0] for case in cases]
        return np.array(asked)
"""
CALLS_A_JUDGE = """
from afbench.errors import UnavailableError
class It(Detector):
    def fit(self, cases, labels):
        raise UnavailableError("there is no judge", fix="name one")
    def score(self, cases):
        return np.zeros(len(cases))
"""


def scores_of(scoring: Scoring, name: str) -> list[FoldScores]:
    found = scoring.outcomes[name]
    assert not isinstance(found, DetectorError), found
    return found


def same(first: FoldScores, second: FoldScores) -> None:
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.held_out_scores, second.held_out_scores)
    np.testing.assert_array_equal(first.held_out_labels, second.held_out_labels)
    assert first.chosen == second.chosen and first.fits == second.fits
    assert first.inputs == second.inputs
    for cost in ("queries", "generated_tokens", "forward_tokens"):
        assert getattr(first.spent, cost) == getattr(second.spent, cost)


def summing(folder: Path, count: int) -> list[Plugin[DetectorManifest]]:
    places = [(1, "all_mean"), (2, "response_mean"), (3, "prompt_last"), (1, "response_last"),
              (0, "all_mean")]  # fmt: skip
    return [
        detector(folder, f"sums-{n}", SUMS, params={"layer": layer, "pooling": pooling})
        for n, (layer, pooling) in enumerate(places[:count])
    ]


def test_five_detectors_cost_as_many_forward_tokens_as_one(tmp_path: Path) -> None:
    one = FakeRun(tmp_path / "1", summing(tmp_path, 1))
    five = FakeRun(tmp_path / "5", summing(tmp_path, 5))
    alone, together = one.run(), five.run()
    assert one.access.forward_tokens == five.access.forward_tokens > 0
    # Each is billed all the same, so that no detector is cheap because another ran before it.
    bills = [scores_of(together, f"sums-{n}")[0].spent.forward_tokens for n in range(5)]
    assert bills == [scores_of(alone, "sums-0")[0].spent.forward_tokens] * 5


def test_several_folds_cost_no_more_than_the_cases_in_them(tmp_path: Path) -> None:
    folds = [FOLD, replace(FOLD, name="again")]
    once = FakeRun(tmp_path / "1", summing(tmp_path, 1))
    twice = FakeRun(tmp_path / "2", summing(tmp_path, 1))
    once.run()
    twice.run(folds)
    assert once.access.forward_tokens == twice.access.forward_tokens


def logging(folder: Path, **params: Any) -> Plugin[DetectorManifest]:
    return detector(folder, "logs", LOGS, params={"log": str(folder / "log"), **params})


def fits(folder: Path) -> int:
    log = folder / "log"
    count = len(log.read_text()) if log.exists() else 0
    log.unlink(missing_ok=True)
    return count


OTHER = Fold("other", tuple(FIT)[:2] + tuple(TEST), tuple(FIT)[2:])


def test_a_killed_sweep_goes_on_at_the_fold_where_it_was(tmp_path: Path) -> None:
    uninterrupted = FakeRun(tmp_path / "a", [logging(tmp_path)]).run([FOLD, OTHER])
    assert fits(tmp_path) == 3 + 4
    first = FakeRun(tmp_path / "b", [logging(tmp_path)])
    assert first.cache is not None
    write = first.cache.write

    def write_and_die(*given: Any) -> None:
        write(*given)
        raise KeyboardInterrupt

    first.cache.write = write_and_die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run([FOLD, OTHER])
    assert fits(tmp_path) == 3
    resumed = FakeRun(tmp_path / "b", [logging(tmp_path)]).run([FOLD, OTHER])
    assert fits(tmp_path) == 4, "the second fold's"
    for before, after in zip(
        scores_of(uninterrupted, "logs"), scores_of(resumed, "logs"), strict=True
    ):
        same(before, after)


def test_scores_are_kept_by_all_that_they_follow_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(plugin: Plugin[DetectorManifest], **given: Any) -> int:
        FakeRun(tmp_path / "cache", [plugin], **given).run()
        return fits(tmp_path)

    assert count(logging(tmp_path)) == 3
    assert count(logging(tmp_path)) == 0
    assert count(logging(tmp_path, other="a judge")) == 3, "what it says it depends on"
    assert count(logging(tmp_path)) == 0
    swapped = dict(FIT | TEST)
    swapped["fit-a-faker"] = ["sincere", *["faking"] * 7]
    assert count(logging(tmp_path), labels=swapped) == 3, "a label of the fit side"
    assert count(logging(tmp_path), labels={**FIT, "test-faker": ["faking"] * 7,
                                           "test-honest": ["sincere"] * 8}) == 3  # fmt: skip
    plugin = logging(tmp_path)
    (plugin.folder / "detector.py").write_text(
        (plugin.folder / "detector.py").read_text() + "# a change\n"
    )
    assert count(plugin) == 3, "its code"
    monkeypatch.setattr(score_cache, "code_digest", lambda: "another")
    assert count(plugin) == 3, "the code that detectors share"


def test_what_the_backend_does_not_offer_makes_a_detector_unavailable_and_no_other(
    tmp_path: Path,
) -> None:
    plugins = [
        detector(tmp_path, "asks", LOGPROBS),
        detector(tmp_path, "declares", LOGPROBS, tier="logprobs"),
        detector(tmp_path, "judged", CALLS_A_JUDGE),
        detector(tmp_path, "wrong", LOGPROBS, tier="text"),
        detector(tmp_path, "parent", SUMS, needs_parent=True),
        *summing(tmp_path, 1),
    ]
    run = FakeRun(
        tmp_path / "cache",
        plugins,
        capabilities=["generate", "activations"],
        parentless=["test-honest"],
    )
    outcomes = run.run().outcomes
    rows = {
        plugin.name: void_detector(plugin.manifest, outcome)
        for plugin in plugins
        if isinstance(outcome := outcomes[plugin.name], DetectorError)
    }
    assert "offers no logprobs" in str(rows["asks"].unavailable)
    assert "'logprobs'" in str(rows["declares"].unavailable)
    assert "there is no judge" in str(rows["judged"].unavailable)
    assert "'test-honest' has none" in str(rows["parent"].unavailable)
    assert rows["asks"].error is None and rows["asks"].auroc.reason == "unavailable"
    # More than its tier allows is a detector's own fault.
    assert rows["wrong"].unavailable is None and "needs tier" in str(rows["wrong"].error)
    assert not isinstance(outcomes["wrong"], DetectorUnavailableError)
    assert "sums-0" not in rows


def figures(run: FakeRun, plugins: Iterable[Plugin[DetectorManifest]]) -> dict[str, Any]:
    scoring = run.run()
    manifests = {plugin.name: plugin.manifest for plugin in plugins}
    scored = {name: Scored.of(scores_of(scoring, name)) for name in manifests}
    evaluation = run.evaluation(scoring)
    return {
        name: detector_figures(manifest, scored, manifests, evaluation, ["desk"], {})
        for name, manifest in manifests.items()
    }


KNOWS = """
class It(Detector):
    def __init__(self, right):
        self.right = right
    def fit(self, cases, labels):
        for case in cases:
            case.handle.generate([case.prompt], max_new_tokens=16, samples=4)
    def score(self, cases):
        # The reply names the weights, and so the label.
        own = np.array(["weights 4." in case.response for case in cases], dtype=float)
        return own if self.right else np.arange(len(cases)) % 2.0
"""


def test_a_ceiling_is_no_floor_no_rival_and_has_none(tmp_path: Path) -> None:
    plugins = [
        detector(tmp_path, "top", KNOWS, tier="text", ceiling=True, params={"right": True}),
        detector(tmp_path, "talks", KNOWS, tier="text", params={"right": False}),
        detector(tmp_path, "low", KNOWS, tier="text", floor=True, params={"right": False}),
        *summing(tmp_path, 1),
    ]
    found = figures(FakeRun(tmp_path / "cache", plugins), plugins)
    assert found["top"].auroc.value == 1.0 and found["top"].ceiling
    assert found["top"].excess_over_floor is None and found["top"].uplift_over_black_box is None
    assert found["talks"].excess_over_floor.rival == "low"
    assert found["sums-0"].uplift_over_black_box.rival == "talks"
    assert found["talks"].uplift_over_black_box is None, "it is a black box itself"


def test_the_rival_at_equal_budget_is_one_that_costs_no_more(tmp_path: Path) -> None:
    plugins = [
        detector(tmp_path, "dear", KNOWS, tier="text", params={"right": True}),
        detector(tmp_path, "free", SUMS.replace("activations(cases, [self.layer], "
                 "[self.pooling])[:, 0, 0].sum(axis=1)", "np.arange(len(cases)) % 2.0"),
                 tier="text"),
        *summing(tmp_path, 1),
    ]  # fmt: skip
    found = figures(FakeRun(tmp_path / "cache", plugins), plugins)
    assert found["dear"].cost.tokens > found["sums-0"].cost.tokens > found["free"].cost.tokens == 0
    assert found["sums-0"].uplift_over_black_box.rival == "dear"
    assert found["sums-0"].uplift_at_equal_budget.rival == "free"
    none = [plugin for plugin in plugins if plugin.name != "free"]
    alone = figures(FakeRun(tmp_path / "cache", none), none)["sums-0"]
    assert alone.uplift_at_equal_budget.difference.value is None
