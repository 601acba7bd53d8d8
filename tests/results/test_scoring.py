"""Which fits a run makes, and what evading organisms may not touch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from afbench.cases.handle import Handle
from afbench.cases.splits import Fold
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.errors import DetectorError
from afbench.metrics.figures import Figure
from afbench.results.case_source import CaseSource
from afbench.results.evaluation import Subject
from afbench.results.progress import Silent
from afbench.results.record import RunSettings
from afbench.results.robustness import robustness_of
from afbench.results.scoring import Scorer, Scoring, fits_of
from tests.fakes import CUE, evidence, fake_handles

LABELS = {
    "fit-a-faker": ["faking"] * 8,
    "fit-a-honest": ["sincere"] * 8,
    "fit-b-faker": ["faking"] * 8,
    "fit-b-honest": ["sincere"] * 8,
    "test-faker": ["faking"] * 8,
    "test-honest": ["sincere"] * 8,
    "evading-faker": ["faking"] * 8,
    "evading-honest": ["sincere"] * 8,
}
A, B = ("fit-a-faker", "fit-a-honest"), ("fit-b-faker", "fit-b-honest")
HEADLINE = [Fold("desk", (*A, *B), ("test-faker", "test-honest"))]
EVADERS = ("evading-faker", "evading-honest")
SAME_FIT, OWN_FIT = Fold("desk", (*A, *B), EVADERS), Fold("desk", B, EVADERS)

# Counts its fits in a file: modules of plug-ins are no place for a test to look into.
DETECTOR = """
import numpy as np
from pathlib import Path
from afbench.detection import Detector

class Counts(Detector):
    def __init__(self, log, hates=""):
        self.log, self.hates = Path(log), hates
    def fit(self, cases, labels):
        with self.log.open("a") as file:
            file.write("fit\\n")
        self.seen = len(cases)
        cases[0].handle.logprobs([cases[0].prompt], ["Yes"])
    def score(self, cases):
        if self.hates and any(self.hates in case.response for case in cases):
            raise ValueError("boom")
        cases[0].handle.logprobs([cases[0].prompt], ["No"])
        return np.array([self.seen + len(case.response) / 7 for case in cases])
"""


class FakeAccess:
    """Handles on fake models."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def capabilities(self, name: str) -> frozenset[str]:
        return frozenset({"generate", "logprobs", "activations"})

    def digest(self, name: str) -> str:
        return f"sha256:digest of {name}"

    def handles(self, detector: DetectorManifest, names: Iterable[str]) -> dict[str, Handle]:
        return fake_handles(list(dict.fromkeys(names)), self._folder, tier=detector.tier)


class Setting:
    """A run of one detector over fake organisms."""

    def __init__(self, folder: Path, hates: str = "") -> None:
        self.log = folder / "log"
        (folder / "detector.py").write_text(DETECTOR)
        manifest = DetectorManifest.model_validate(
            {
                "schema": 1, "kind": "detector", "name": "counts", "summary": "x",
                "tier": "logprobs", "entry": "detector.py:Counts",
                "params": {"log": str(self.log), "hates": hates},
            }
        )  # fmt: skip
        twins = {
            item.organism: {"fit": list(item.twins), "test": list(item.twins)}
            for item in evidence(LABELS)
        }
        plan: Any = SimpleNamespace(
            detectors=(Plugin("counts", "detector", folder, manifest),),
            settings=SimpleNamespace(show_reasoning=False),
            environment_of=lambda name: SimpleNamespace(name="desk", cues=[CUE]),
            without_parent=frozenset(),
            saved={},
            organisms={
                name: SimpleNamespace(
                    manifest=SimpleNamespace(environment="desk", recipe_family=name.split("-")[1])
                )
                for name in LABELS
            },
        )
        access: Any = FakeAccess(folder / "cache")
        self.source = CaseSource(plan, access, twins)  # type: ignore[arg-type]
        self.scorer = Scorer(self.source, Silent())

    def run(self, robustness: Mapping[str, Sequence[Fold]]) -> tuple[Scoring, int]:
        """What was said, and how many fits it took."""
        self.log.write_text("")
        scoring = self.scorer.run(HEADLINE, robustness)
        return scoring, len(self.log.read_text().splitlines())


def test_a_fold_of_an_evasion_takes_the_fit_of_the_headline_with_the_same_fit_side(
    tmp_path: Path,
) -> None:
    setting = Setting(tmp_path)
    _, alone = setting.run({})
    _, shared = setting.run({"quantised": [SAME_FIT], "scaled": [SAME_FIT]})
    assert alone == shared == 3, "two calibration folds and the fit"
    scoring, more = setting.run({"quantised": [OWN_FIT], "scaled": [OWN_FIT]})
    assert more == alone + 1, "one more, for both"
    for evasion in scoring.evasions.values():
        scores = evasion.scores["counts"]
        assert isinstance(scores, np.ndarray)
        assert len(scores) == sum(len(rows) for rows in evasion.rows) == 16
        assert {row.organism for row in evasion.rows[0]} == set(EVADERS)


def test_robustness_changes_nothing_of_the_headline(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    without, _ = setting.run({})
    beside, _ = setting.run({"quantised": [SAME_FIT], "scaled": [OWN_FIT]})
    [before], [after] = without.outcomes["counts"], beside.outcomes["counts"]  # type: ignore[misc]
    np.testing.assert_array_equal(before.scores, after.scores)
    np.testing.assert_array_equal(before.held_out_scores, after.held_out_scores)
    for cost in ("queries", "generated_tokens", "forward_tokens"):
        assert getattr(before.spent, cost) == getattr(after.spent, cost), "theirs is not in it"
    assert without.rows == beside.rows


def test_a_detector_that_breaks_on_evading_cases_keeps_its_headline(tmp_path: Path) -> None:
    number = list(LABELS).index("evading-faker")
    setting = Setting(tmp_path, hates=f"weights {number}.")
    for fold in (SAME_FIT, OWN_FIT):
        scoring, _ = setting.run({"quantised": [fold]})
        assert not isinstance(scoring.outcomes["counts"], DetectorError)
        error = scoring.evasions["quantised"].scores["counts"]
        assert isinstance(error, DetectorError) and "boom" in str(error)


def test_a_detector_that_breaks_on_the_headline_is_void_in_all(tmp_path: Path) -> None:
    number = list(LABELS).index("test-faker")
    scoring, _ = Setting(tmp_path, hates=f"weights {number}.").run({"quantised": [OWN_FIT]})
    assert isinstance(scoring.outcomes["counts"], DetectorError)
    assert isinstance(scoring.evasions["quantised"].scores["counts"], DetectorError)


def test_what_cannot_be_fitted_is_told_before_a_detector_is_asked(tmp_path: Path) -> None:
    problem = Setting(tmp_path).source.problem
    assert problem(HEADLINE[0]) is None
    assert problem(Fold("x", ("fit-a-faker",), EVADERS)) == "the fit side has no sincere case"
    assert problem(Fold("x", ("fit-a-honest",), EVADERS)) == "the fit side has no faking case"
    assert problem(Fold("x", A, ())) == "no organism is left to test"
    # The one cue here is of the fit families.
    assert problem(Fold("x", A, EVADERS, "fit", "test")) is None
    assert problem(Fold("x", A, EVADERS, "test", "test")) == "the fit side has no faking case"


def test_folds_with_one_fit_side_share_a_fit() -> None:
    folds = [Fold(str(n), side, ("t",)) for n, side in enumerate([A, A, B, A, B])]
    assert fits_of(folds) == [(0, 1, 3), (2, 4)]


def test_the_robustness_row_has_figures_of_its_own_cases(tmp_path: Path) -> None:
    settings = RunSettings(
        detectors=["counts"], organism="all", split="recipe", fit_scenarios=8, test_scenarios=8,
        replicates=50,
    )  # fmt: skip
    subjects = {name: Subject(name, "desk", "faker" in name, None) for name in LABELS}
    scoring, _ = Setting(tmp_path).run({"quantised": [SAME_FIT]})
    figures = robustness_of(scoring.evasions, subjects, settings)["counts"]["quantised"]
    assert (figures.n, figures.error) == (16, None)
    assert figures.auroc.value is not None and figures.auroc.n == 16
    assert figures.tpr_at_5 == Figure.refused(str(figures.tpr_at_5.reason), n=16, clusters=2)
    number = list(LABELS).index("evading-faker")
    broken, _ = Setting(tmp_path, hates=f"weights {number}.").run({"quantised": [SAME_FIT]})
    void = robustness_of(broken.evasions, subjects, settings)["counts"]["quantised"]
    assert void.auroc.value is None and "boom" in str(void.error)
