"""`afbench run`: the five stages, from a plan to a result record."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from afbench.cases.access import OrganismAccess
from afbench.cases.splits import Fold
from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import DetectorManifest
from afbench.environments import Partition
from afbench.errors import DetectorError, NotEnoughCasesError
from afbench.models.loading import ModelStore
from afbench.models.user_model import UserModel
from afbench.results.evaluation import Evaluation, Scored, Subject, TestRows
from afbench.results.figures_of import detector_figures, organism_figures, void_detector
from afbench.results.inputs import ALL, Plan, make_plan
from afbench.results.progress import Progress
from afbench.results.record import (
    CacheUse,
    DetectorFigures,
    OrganismFigures,
    ResultRecord,
    RunSettings,
    Sides,
    Timings,
    load_record,
)
from afbench.results.robustness import robustness_of
from afbench.results.scoring import Rows, Scorer, Scoring, Twins
from afbench.rollouts import RolloutRequest, pair_twins
from afbench.store import Store, write_json


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A finished run: its record, where it lies, and whether it was there already."""

    record: ResultRecord
    path: Path
    reused: bool


def run(
    settings: RunSettings,
    catalog: Catalog,
    store: Store,
    runs: Path,
    progress: Progress,
    *,
    model: UserModel | None = None,
    fresh: bool = False,
) -> RunOutcome:
    """Run detectors on organisms and write `runs/<id>/result.json`.

    A run of the same inputs that is there already is read back and not repeated. A killed run goes
    on from what the cache holds of it.

    Args:
        model: what prompted organisms are put on; they are the whole zoo then.
        fresh: evaluate again even if the result is there; the cache is still used.

    Raises:
        AfbenchError: as `make_plan`, or a file could not be written. A detector that breaks its
            contract does not raise: its figures are void and say why.
    """
    if model is not None:
        catalog = model.added_to(catalog)
    plan = make_plan(settings, catalog, model)
    folder = runs / plan.id
    if not fresh and (folder / "result.json").exists():
        return RunOutcome(load_record(folder / "result.json"), folder / "result.json", True)
    record = _Run(plan, catalog, store, progress).execute(folder)
    return RunOutcome(record, record.save(folder), False)


@dataclass(slots=True)
class _Run:
    plan: Plan
    catalog: Catalog
    store: Store
    progress: Progress
    left_out: list[str] = field(default_factory=list)

    def execute(self, folder: Path) -> ResultRecord:
        started = time.perf_counter()
        plan, settings = self.plan, self.plan.settings
        models = ModelStore(self.catalog, default_parent=plan.default_parent)
        access = OrganismAccess(models, self.catalog, self.store)
        twins = self._rollouts(access)
        rollout_seconds = time.perf_counter() - started
        organisms = organism_figures(plan, twins)
        scorer = Scorer(plan, access, twins, self.progress)
        folds, robustness = self._usable(scorer, organisms)
        scoring = scorer.run(folds, robustness)
        evaluation = self._evaluation(scoring, _gaps(organisms))
        detectors = self._figures(evaluation, scoring)
        scores = self._save_scores(folder, scoring)
        return ResultRecord(
            id=plan.id,
            digest="",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=settings,
            inputs=plan.inputs,
            folds=_sides(folds),
            robustness_folds={kind: _sides(of_kind) for kind, of_kind in robustness.items()},
            left_out=[*plan.left_out, *self.left_out],
            organisms=organisms,
            detectors=detectors,
            scores=scores,
            timings=Timings(
                rollouts=round(rollout_seconds, 3),
                detectors={name: round(value, 3) for name, value in scoring.seconds.items()},
                total=round(time.perf_counter() - started, 3),
            ),
            cache=CacheUse(
                hits=self.store.hits,
                misses=self.store.misses,
                computed_forward_tokens=access.computed_forward_tokens,
            ),
        ).with_digest()

    # -- stage 1 ---------------------------------------------------------------------------------

    def _rollouts(self, access: OrganismAccess) -> Twins:
        plan = self.plan
        sides: tuple[tuple[Partition, set[str], int], ...] = (
            ("fit", plan.fit_organisms, plan.settings.fit_scenarios),
            ("test", plan.test_organisms, plan.settings.test_scenarios),
        )
        jobs = [
            (name, partition, count)
            for name in sorted(plan.organisms)
            for partition, members, count in sides
            if name in members
        ]
        twins: Twins = {}
        totals = [
            2 * len(plan.environment_of(name).placements(partition, count))
            for name, partition, count in jobs
        ]
        self.progress.start("rollouts", sum(totals))
        for (name, partition, count), total in zip(jobs, totals, strict=True):
            runner = access.runner(name, plan.environment_of(name))
            sampling = access.generation_settings(
                name,
                seed=plan.settings.seed,
                temperature=plan.settings.temperature,
                reasoning=plan.settings.reasoning,
            )
            request = RolloutRequest(partition, count, sampling)
            done = 0

            def advance(now: int) -> None:
                nonlocal done
                self.progress.advance("rollouts", now - done)
                done = now

            rollouts = runner.run(request, advance)
            assert done == total
            twins.setdefault(name, {})[partition] = pair_twins(rollouts)
        return twins

    # -- stages 2 and 3 --------------------------------------------------------------------------

    def _usable(
        self, scorer: Scorer, organisms: Sequence[OrganismFigures]
    ) -> tuple[list[Fold], dict[str, list[Fold]]]:
        """The folds without what is not certified, as far as something is left to fit and test.

        Raises:
            NotEnoughCasesError: nothing is, in the one fold asked for or in any.
        """
        excluded = {figures.name: figures.reason for figures in organisms if not figures.certified}
        for name, reason in sorted(excluded.items()):
            self.progress.say(f"{name} is listed but scores no detector: {reason}")
        folds = []
        for fold in (_without(fold, excluded) for fold in self.plan.folds):
            problem = scorer.problem(fold)
            if problem is None:
                folds.append(fold)
            elif self.plan.settings.organism == ALL:
                self.left_out.append(f"{fold.name}: {problem}")
            else:
                raise _not_enough(problem)
        if not folds:
            raise _not_enough(self.left_out[0])
        robustness: dict[str, list[Fold]] = {}
        for evasion, of_kind in self.plan.robustness.items():
            for fold in (_without(fold, excluded) for fold in of_kind):
                problem = scorer.problem(fold) or self._missing_role(fold)
                if problem is None:
                    robustness.setdefault(evasion, []).append(fold)
                else:
                    self.left_out.append(f"{evasion}, {fold.name}: {problem}")
        return folds, robustness

    def _missing_role(self, fold: Fold) -> str | None:
        roles = {self.plan.organisms[name].manifest.role for name in fold.test}
        missing = [role for role in ("faker", "lookalike") if role not in roles]
        return f"no {missing[0]} is left to test" if missing else None

    def _subjects(self) -> dict[str, Subject]:
        found = {}
        for name in self.plan.test_organisms:
            manifest = self.plan.organisms[name].manifest
            faker = manifest.role == "faker"
            environment = manifest.environment or ""
            found[name] = Subject(name, environment, faker, manifest.lookalike_class)
        return found

    # -- stages 4 and 5 --------------------------------------------------------------------------

    def _evaluation(self, scoring: Scoring, gaps: dict[str, float]) -> Evaluation:
        settings = self.plan.settings
        rows = TestRows.of(scoring.rows, self._subjects())
        return Evaluation(rows, gaps, replicates=settings.replicates, seed=settings.seed)

    def _figures(self, evaluation: Evaluation, scoring: Scoring) -> list[DetectorFigures]:
        scored = {
            name: Scored.of(parts)
            for name, parts in scoring.outcomes.items()
            if not isinstance(parts, DetectorError)
        }
        manifests: dict[str, DetectorManifest] = {p.name: p.manifest for p in self.plan.detectors}
        robustness = robustness_of(scoring.evasions, self._subjects(), self.plan.settings)
        figures = []
        self.progress.start("figures", len(scoring.outcomes))
        for name, outcome in scoring.outcomes.items():
            if isinstance(outcome, DetectorError):
                figures.append(void_detector(manifests[name], str(outcome)))
            else:
                names = [fold.name for fold in scoring.folds]
                own = robustness.get(name, {})
                figures.append(
                    detector_figures(manifests[name], scored, manifests, evaluation, names, own)
                )
            self.progress.advance("figures", 1)
        return figures

    def _save_scores(self, folder: Path, scoring: Scoring) -> str:
        """Per-case scores beside the record, so that every figure can be computed again."""
        headline = {
            name: np.concatenate([part.scores for part in parts]).tolist()
            for name, parts in scoring.outcomes.items()
            if not isinstance(parts, DetectorError)
        }
        content = {
            **_cases_of(scoring.folds, scoring.rows),
            "scores": headline,
            "robustness": {
                evasion: {
                    **_cases_of(given.folds, given.rows),
                    "scores": {
                        name: scores.tolist()
                        for name, scores in given.scores.items()
                        if not isinstance(scores, DetectorError)
                    },
                }
                for evasion, given in scoring.evasions.items()
            },
        }
        write_json(folder / "scores.json", content)
        return "scores.json"


def _cases_of(folds: Sequence[Fold], rows: Sequence[Rows]) -> dict[str, Any]:
    """The names of folds, and their test cases end to end."""
    return {
        "folds": [fold.name for fold in folds],
        "cases": [
            {
                "fold": number,
                "organism": row.organism,
                "scenario": row.twin.scenario,
                "cue": row.twin.observed.cue,
                "label": row.label,
            }
            for number, of_fold in enumerate(rows)
            for row in of_fold
        ],
    }


def _sides(folds: Sequence[Fold]) -> Sides:
    return {fold.name: {"fit": list(fold.fit), "test": list(fold.test)} for fold in folds}


def _gaps(organisms: Sequence[OrganismFigures]) -> dict[str, float]:
    """Conformity gap by organism, where it has a value."""
    return {
        figures.name: figures.conformity_gap.value
        for figures in organisms
        if figures.conformity_gap.value is not None
    }


def _without(fold: Fold, excluded: Container[str]) -> Fold:
    return Fold(
        fold.name,
        tuple(name for name in fold.fit if name not in excluded),
        tuple(name for name in fold.test if name not in excluded),
        fold.fit_cues,
        fold.test_cues,
    )


def _not_enough(problem: str) -> NotEnoughCasesError:
    return NotEnoughCasesError(problem, fix="add organisms or scenarios")
