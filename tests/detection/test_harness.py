"""The harness: what reaches a detector, and where thresholds and calibration come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from afbench.cases.assembly import CaseRow, CaseSet
from afbench.cases.handle import Handle
from afbench.detection import Case, Detector
from afbench.detection.harness import MAX_CALIBRATION_FOLDS, FoldScores, run_fold
from afbench.errors import DetectorError, NotEnoughCasesError, StorageError
from afbench.results.evaluation import Scored
from tests.fakes import case_set, fake_handles

FAKER, HONEST = ["faking", "sincere", "faking"], ["sincere"] * 3


def _zoo(side: str, families: Sequence[str]) -> dict[str, list[str]]:
    return {
        f"{side}-{family}-{role}": labels
        for family in families
        for role, labels in (("faker", FAKER), ("honest", HONEST))
    }


def _family(organism: str) -> str:
    return organism.split("-")[1]


class Spy(Detector):
    """Writes down all that it is given, in the order of the calls."""

    log: list[tuple[str, Any]]

    def __init__(self, log: list[tuple[str, Any]]) -> None:
        self.log = log

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        self.log.append(("fit", (cases, labels.copy())))

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        self.log.append(("score", cases))
        return np.array([len(case.response) + int(case.id, 16) / 2**64 for case in cases])


class Setting:
    """A fold: fit and test cases, and what the host knows of them."""

    def __init__(
        self,
        folder: Path,
        families: Sequence[str] = ("r1", "r4", "r16"),
        fit: Mapping[str, list[str]] | None = None,
        test: Mapping[str, list[str]] | None = None,
    ) -> None:
        fit_zoo = fit if fit is not None else _zoo("fit", families)
        test_zoo = test if test is not None else _zoo("test", ["full"])
        names = [*fit_zoo, *test_zoo]
        self.handles: dict[str, Handle] = fake_handles(names, folder)
        self.fit = case_set(fit_zoo, folder, handles=self.handles).where(lambda row: row.scored)
        self.test = case_set(test_zoo, folder, scenarios="t", handles=self.handles)
        self.families = {name: _family(name) for name in names}

    def run(self, make: Callable[[], Detector], seconds: float = 30) -> FoldScores:
        return run_fold("mine", make, seconds, self.fit, self.test, self.families, self.handles)

    def rows(self, cases: Sequence[Case]) -> list[CaseRow]:
        of_id = {
            case.id: row
            for side in (self.fit, self.test)
            for case, row in zip(side.cases, side.rows, strict=True)
        }
        return [of_id[case.id] for case in cases]


def _spied(setting: Setting) -> tuple[FoldScores, list[tuple[str, Any]]]:
    log: list[tuple[str, Any]] = []
    return setting.run(lambda: Spy(log)), log


def test_the_labels_of_test_cases_never_reach_a_detector(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    _, log = _spied(setting)
    test_ids = {case.id for case in setting.test.cases}
    for call, given in log:
        if call == "fit":
            cases, labels = given
            assert not {case.id for case in cases} & test_ids, "no test case is fitted on"
            expected = [row.label == "faking" for row in setting.rows(cases)]
            assert labels.dtype == np.bool_
            assert labels.tolist() == expected
        else:
            assert all(type(case) is Case for case in given)
    assert [call for call, _ in log] == ["fit", "score"] * 4
    assert {case.id for case in log[-1][1]} == test_ids


def test_other_labels_of_the_test_side_change_nothing_that_a_detector_sees(tmp_path: Path) -> None:
    seen = []
    for labels in (["faking", "sincere", "deviant"], ["deviant", "faking", "sincere"]):
        setting = Setting(tmp_path, test={"test-full-a": labels, "test-full-b": labels[::-1]})
        _, log = _spied(setting)
        seen.append(
            [
                [(case.messages, case.cue, case.group) for case in (g[0] if c == "fit" else g)]
                for c, g in log
            ]
        )
    assert seen[0] == seen[1]


def test_a_detector_that_edits_its_labels_does_not_change_those_of_the_next(tmp_path: Path) -> None:
    given: list[NDArray[np.bool_]] = []

    class Vandal(Spy):
        def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
            given.append(labels.copy())
            labels[:] = ~labels

    setting = Setting(tmp_path)
    before = setting.fit.labels
    for _ in range(2):
        setting.run(lambda: Vandal([]))
    np.testing.assert_array_equal(setting.fit.labels, before)
    np.testing.assert_array_equal(given[3], before)
    for first, second in zip(given[:4], given[4:], strict=True):
        np.testing.assert_array_equal(first, second)


def test_calibration_holds_out_each_recipe_family_in_turn(tmp_path: Path) -> None:
    setting = Setting(tmp_path, families=("r1", "r4", "r16"))
    _, log = _spied(setting)
    held_out = []
    for (_, (cases, _)), (_, scored) in zip(log[:-2:2], log[1:-2:2], strict=True):
        fitted = {_family(row.organism) for row in setting.rows(cases)}
        held = {_family(row.organism) for row in setting.rows(scored)}
        assert not fitted & held, "a family that is held out is absent from the fit"
        assert fitted | held == {"r1", "r4", "r16"}
        held_out += sorted(held)
        assert len(cases) + len(scored) == len(setting.fit)
    assert sorted(held_out) == ["r1", "r16", "r4"], "each is held out once"
    (_, (cases, _)), _ = log[-2:]
    assert {case.id for case in cases} == {case.id for case in setting.fit.cases}


def test_many_families_are_held_out_in_few_folds(tmp_path: Path) -> None:
    families = [f"f{index}" for index in range(7)]
    setting = Setting(tmp_path, families=families)
    outcome, log = _spied(setting)
    scored = [
        {_family(row.organism) for row in setting.rows(cases)}
        for call, cases in log
        if call == "score"
    ][:-1]
    assert len(scored) == MAX_CALIBRATION_FOLDS
    assert sorted(family for side in scored for family in side) == families
    assert outcome.fits == MAX_CALIBRATION_FOLDS + 1


def test_every_held_out_score_is_of_a_fit_case_with_its_own_label(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    outcome, _ = _spied(setting)
    spy = Spy([])
    label_of_score = dict(
        zip(spy.score(setting.fit.cases).tolist(), setting.fit.labels.tolist(), strict=True)
    )
    assert len(outcome.held_out_scores) == len(setting.fit)
    for score, label in zip(outcome.held_out_scores, outcome.held_out_labels, strict=True):
        assert label_of_score.pop(float(score)) == label
    np.testing.assert_array_equal(outcome.scores, spy.score(setting.test.cases))


def test_thresholds_and_calibration_do_not_look_at_test_scores(tmp_path: Path) -> None:
    outcome, _ = _spied(Setting(tmp_path))
    moved = FoldScores(
        scores=outcome.scores + 1000,
        held_out_scores=outcome.held_out_scores,
        held_out_labels=outcome.held_out_labels,
        chosen={},
        spent=outcome.spent,
        seconds=0.0,
    )
    before, after = Scored.of([outcome]), Scored.of([moved])
    for fpr, thresholds in before.thresholds.items():
        np.testing.assert_array_equal(thresholds, after.thresholds[fpr])
        negatives = outcome.held_out_scores[~outcome.held_out_labels]
        assert np.mean(negatives > thresholds[0]) <= fpr
    same = Scored.of([FoldScores(outcome.scores, outcome.held_out_scores, outcome.held_out_labels,
                                 {}, outcome.spent, 0.0)])  # fmt: skip
    np.testing.assert_array_equal(before.probabilities, same.probabilities)


def test_without_a_second_family_there_is_no_calibration_and_the_scores_still_come(
    tmp_path: Path,
) -> None:
    outcome, log = _spied(Setting(tmp_path, families=("r4",)))
    assert [call for call, _ in log] == ["fit", "score"]
    assert len(outcome.held_out_scores) == len(outcome.held_out_labels) == 0
    assert outcome.fits == 1
    assert np.isinf(Scored.of([outcome]).thresholds[0.05]).all(), "nothing is over it"


def test_a_family_whose_absence_leaves_one_class_is_not_held_out(tmp_path: Path) -> None:
    fit = {"fit-r1-faker": FAKER, "fit-r4-honest": HONEST, "fit-r16-honest": HONEST}
    setting = Setting(tmp_path, fit={**fit, "fit-r1-honest": HONEST})
    _, log = _spied(setting)
    for call, given in log:
        if call == "fit":
            assert 0 < given[1].sum() < len(given[1])
    held = [
        {_family(row.organism) for row in setting.rows(cases)}
        for call, cases in log
        if call == "score"
    ][:-1]
    assert held == [{"r16"}, {"r4"}]


@pytest.mark.parametrize(
    ("labels", "missing"),
    [(["faking"], "sincere"), (["sincere"], "faking"), ([], "(faking|sincere)")],
)
def test_a_fit_side_with_one_class_is_refused_by_name(
    tmp_path: Path, labels: list[str], missing: str
) -> None:
    setting = Setting(tmp_path, fit={"fit-r1-a": labels, "fit-r4-b": labels})
    with pytest.raises(NotEnoughCasesError, match=f"no {missing} case"):
        setting.run(lambda: Spy([]))


def test_a_fresh_detector_is_made_for_every_fit(tmp_path: Path) -> None:
    made: list[Spy] = []

    def make() -> Spy:
        made.append(Spy([]))
        return made[-1]

    outcome = Setting(tmp_path).run(make)
    assert len(made) == outcome.fits == 4
    assert all([call for call, _ in spy.log] == ["fit", "score"] for spy in made)


def test_spending_is_summed_over_every_handle_and_every_fit(tmp_path: Path) -> None:
    class Asks(Spy):
        def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
            self._ask(cases)

        def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
            self._ask(cases)
            return super().score(cases)

        def _ask(self, cases: Sequence[Case]) -> None:
            for case in cases:
                case.handle.logprobs([case.prompt], ["Yes"])

    setting = Setting(tmp_path, families=("r1", "r4"))
    outcome = setting.run(lambda: Asks([]))
    fit, test = len(setting.fit), len(setting.test)
    # Two calibration folds read each fit case once, then the fit and the test.
    assert outcome.spent.queries == 2 * fit + fit + test
    assert outcome.spent.queries == sum(h.spent.queries for h in setting.handles.values())


class _Breaks(Spy):
    def __init__(self, stage: str, error: BaseException) -> None:
        super().__init__([])
        self._stage, self._error = stage, error

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        if self._stage == "fit":
            raise self._error

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        if self._stage == "score":
            raise self._error
        return super().score(cases)

    def explain(self) -> dict[str, str | float | int]:
        if self._stage == "explain":
            raise self._error
        return {}


@pytest.mark.parametrize("stage", ["fit", "score", "explain"])
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1)])
def test_a_detector_that_raises_at_any_stage_is_void(
    tmp_path: Path, stage: str, error: BaseException
) -> None:
    with pytest.raises(DetectorError, match=f"'mine' raised {type(error).__name__} in {stage}"):
        Setting(tmp_path).run(lambda: _Breaks(stage, error))


def test_a_full_disk_ends_the_run_and_does_not_void_the_detector(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Setting(tmp_path).run(lambda: _Breaks("fit", StorageError("disk full")))


def test_what_a_detector_chose_is_kept_and_what_no_record_can_hold_voids_it(
    tmp_path: Path,
) -> None:
    def explaining(chosen: Any) -> Callable[[], Detector]:
        class Explains(Spy):
            def explain(self) -> Any:
                return chosen

        return lambda: Explains([])

    setting = Setting(tmp_path)
    assert setting.run(explaining({"layer": np.int64(2)})).chosen == {"layer": 2}
    with pytest.raises(DetectorError, match="'mine' returned .* from explain"):
        setting.run(explaining({"auroc": float("nan")}))


def test_wrong_scores_of_a_calibration_fold_void_the_detector(tmp_path: Path) -> None:
    class Short(Spy):
        def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
            return np.zeros(7)

    with pytest.raises(DetectorError, match="detector 'mine' returned scores of shape"):
        Setting(tmp_path).run(lambda: Short([]))


def test_a_setting_here_has_test_cases_that_are_not_scored(tmp_path: Path) -> None:
    """Deviant cases are scored by the detector and counted by the host; they are not labels."""
    deviant: CaseSet = Setting(tmp_path, test={"test-full-a": ["deviant", "faking"]}).test
    assert [row.scored for row in deviant.rows].count(False) == 1


def test_further_cases_are_scored_by_the_same_fit_after_the_test(tmp_path: Path) -> None:
    setting = Setting(tmp_path, families=("r1", "r4"))
    plain, _ = _spied(setting)
    other = case_set({"other-full-a": FAKER}, tmp_path, scenarios="o")
    made: list[Spy] = []

    def make() -> Spy:
        made.append(Spy([]))
        return made[-1]

    outcome = run_fold(
        "mine", make, 30, setting.fit, setting.test, setting.families, setting.handles, [other]
    )
    [scores] = outcome.further
    assert isinstance(scores, np.ndarray) and scores.shape == (len(other),)
    assert outcome.fits == plain.fits == len(made)
    assert [call for call, _ in made[-1].log] == ["fit", "score", "score"]
    assert [case.id for case in made[-1].log[-1][1]] == [case.id for case in other.cases]


def test_what_goes_wrong_on_further_cases_is_kept_apart_from_the_test(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    other = case_set({"other-full-a": FAKER}, tmp_path, scenarios="o")
    theirs = {case.id for case in other.cases}

    class Breaks(Spy):
        def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
            if {case.id for case in cases} & theirs:
                raise ValueError("boom")
            return super().score(cases)

    outcome = run_fold(
        "mine", lambda: Breaks([]), 30, setting.fit, setting.test, setting.families,
        setting.handles, [other, setting.test],
    )  # fmt: skip
    assert outcome.scores.shape == (len(setting.test),)
    error, scores = outcome.further
    assert isinstance(error, DetectorError) and "boom" in str(error)
    np.testing.assert_array_equal(scores, outcome.scores)
