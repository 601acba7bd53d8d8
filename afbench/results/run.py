"""`afbench run`: the five stages, from a plan to a result record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from afbench.cases.access import OrganismAccess
from afbench.cases.assembly import CaseRow, CaseSet, Evidence, assemble
from afbench.cases.handle import Handle
from afbench.cases.splits import Fold
from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.harness import FoldScores, run_fold
from afbench.detection.loading import detector_factory
from afbench.environments import Partition
from afbench.errors import DetectorError
from afbench.models.loading import ModelStore
from afbench.results.evaluation import Evaluation, Scored, Subject, TestRows
from afbench.results.figures_of import detector_figures, organism_figures, void_detector
from afbench.results.inputs import Plan, make_plan
from afbench.results.progress import Progress
from afbench.results.record import (
    CacheUse,
    DetectorFigures,
    OrganismFigures,
    ResultRecord,
    RunSettings,
    Timings,
    load_record,
)
from afbench.rollouts import RolloutRequest, Twin, pair_twins
from afbench.store import Store, write_json

Twins = dict[str, dict[Partition, list[Twin]]]


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
    fresh: bool = False,
) -> RunOutcome:
    """Run detectors on organisms and write `runs/<id>/result.json`.

    A run of the same inputs that is there already is read back and not repeated. A killed run goes
    on from what the cache holds of it.

    Args:
        fresh: evaluate again even if the result is there; the cache is still used.

    Raises:
        AfbenchError: as `make_plan`, or a file could not be written. A detector that breaks its
            contract does not raise: its figures are void and say why.
    """
    plan = make_plan(settings, catalog)
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
    timings: dict[str, float] = field(default_factory=dict)

    def execute(self, folder: Path) -> ResultRecord:
        started = time.perf_counter()
        plan, settings = self.plan, self.plan.settings
        access = OrganismAccess(ModelStore(self.catalog), self.catalog, self.store)
        twins = self._rollouts(access)
        rollout_seconds = time.perf_counter() - started
        organisms = organism_figures(plan, twins, self.catalog)
        excluded = {figures.name for figures in organisms if not figures.certified}
        for name in sorted(excluded):
            reason = next(figures.reason for figures in organisms if figures.name == name)
            self.progress.say(f"{name} is listed but scores no detector: {reason}")
        folds = [_without(fold, excluded) for fold in plan.folds]
        evaluation, outcomes = self._detect(access, twins, folds, _gaps(organisms))
        detectors = self._figures(evaluation, outcomes)
        scores = self._save_scores(folder, evaluation, outcomes)
        return ResultRecord(
            id=plan.id,
            digest="",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=settings,
            inputs=plan.inputs,
            folds={fold.name: {"fit": list(fold.fit), "test": list(fold.test)} for fold in folds},
            organisms=organisms,
            detectors=detectors,
            scores=scores,
            timings=Timings(
                rollouts=round(rollout_seconds, 3),
                detectors={name: round(value, 3) for name, value in self.timings.items()},
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

    def _detect(
        self,
        access: OrganismAccess,
        twins: Twins,
        folds: Sequence[Fold],
        gaps: dict[str, float],
    ) -> tuple[Evaluation, dict[str, list[FoldScores] | DetectorError]]:
        plan = self.plan
        outcomes: dict[str, list[FoldScores] | DetectorError] = {}
        rows: list[tuple[CaseRow, ...]] = []
        self.progress.start("detectors", len(plan.detectors) * len(folds))
        for plugin in plan.detectors:
            started = time.perf_counter()
            parts: list[FoldScores] = []
            rows = []
            try:
                make = detector_factory(plugin)
            except DetectorError as error:
                make, outcomes[plugin.name] = None, error
            for fold in folds:
                handles = access.handles(plugin.manifest, [*fold.fit, *fold.test])
                fit = self._cases(access, fold.fit, "fit", fold.fit_cues, twins, handles)
                test = self._cases(access, fold.test, "test", fold.test_cues, twins, handles)
                rows.append(test.rows)
                if plugin.name not in outcomes and make is not None:
                    try:
                        parts.append(
                            run_fold(
                                plugin.name,
                                make,
                                plugin.manifest.limits.seconds,
                                fit.where(lambda row: row.scored),
                                test,
                                self._families(),
                                handles,
                            )
                        )
                    except DetectorError as error:
                        outcomes[plugin.name] = error
                self.progress.advance("detectors", 1)
            if plugin.name in outcomes:
                self.progress.say(f"{outcomes[plugin.name]}")
            outcomes.setdefault(plugin.name, parts)
            self.timings[plugin.name] = time.perf_counter() - started
        subjects = {name: self._subject(name) for name in plan.test_organisms}
        evaluation = Evaluation(
            TestRows.of(rows, subjects),
            gaps,
            replicates=plan.settings.replicates,
            seed=plan.settings.seed,
        )
        return evaluation, outcomes

    def _cases(
        self,
        access: OrganismAccess,
        names: Sequence[str],
        partition: Partition,
        cue_families: Partition | None,
        twins: Twins,
        handles: Mapping[str, Handle],
    ) -> CaseSet:
        plan = self.plan
        cues = {name: {cue.id: cue for cue in plan.environment_of(name).cues} for name in names}
        evidence = [
            Evidence(
                name,
                access.digest(name),
                tuple(
                    twin
                    for twin in twins[name][partition]
                    if cue_families is None
                    or cues[name][twin.observed.cue].family_partition == cue_families
                ),
            )
            for name in names
        ]
        return assemble(evidence, handles, cues, show_reasoning=plan.settings.show_reasoning).where(
            lambda row: row.label in ("faking", "sincere", "deviant")
        )

    def _families(self) -> dict[str, str]:
        return {
            name: f"{plugin.manifest.environment}/{plugin.manifest.recipe_family}"
            for name, plugin in self.plan.organisms.items()
        }

    def _subject(self, name: str) -> Subject:
        manifest = self.plan.organisms[name].manifest
        return Subject(
            name, manifest.environment or "", manifest.role == "faker", manifest.lookalike_class
        )

    # -- stages 4 and 5 --------------------------------------------------------------------------

    def _figures(
        self,
        evaluation: Evaluation,
        outcomes: Mapping[str, list[FoldScores] | DetectorError],
    ) -> list[DetectorFigures]:
        scored = {
            name: Scored.of(parts)
            for name, parts in outcomes.items()
            if not isinstance(parts, DetectorError)
        }
        manifests: dict[str, DetectorManifest] = {p.name: p.manifest for p in self.plan.detectors}
        figures = []
        self.progress.start("figures", len(outcomes))
        for name, outcome in outcomes.items():
            if isinstance(outcome, DetectorError):
                figures.append(void_detector(manifests[name], str(outcome)))
            else:
                figures.append(
                    detector_figures(
                        manifests[name],
                        scored,
                        manifests,
                        evaluation,
                        [fold.name for fold in self.plan.folds],
                    )
                )
            self.progress.advance("figures", 1)
        return figures

    def _save_scores(
        self,
        folder: Path,
        evaluation: Evaluation,
        outcomes: Mapping[str, list[FoldScores] | DetectorError],
    ) -> str:
        """Per-case scores beside the record, so that every figure can be computed again."""
        rows = evaluation.rows
        content = {
            "folds": [fold.name for fold in self.plan.folds],
            "cases": [
                {
                    "fold": int(rows.folds[index]),
                    "organism": row.organism,
                    "scenario": row.twin.scenario,
                    "cue": row.twin.observed.cue,
                    "label": row.label,
                }
                for index, row in enumerate(rows.rows)
            ],
            "scores": {
                name: np.concatenate([part.scores for part in parts]).tolist()
                for name, parts in outcomes.items()
                if not isinstance(parts, DetectorError)
            },
        }
        write_json(folder / "scores.json", content)
        return "scores.json"


def _gaps(organisms: Sequence[OrganismFigures]) -> dict[str, float]:
    """Conformity gap by organism, where it has a value."""
    return {
        figures.name: figures.conformity_gap.value
        for figures in organisms
        if figures.conformity_gap.value is not None
    }


def _without(fold: Fold, excluded: set[str]) -> Fold:
    return Fold(
        fold.name,
        tuple(name for name in fold.fit if name not in excluded),
        tuple(name for name in fold.test if name not in excluded),
        fold.fit_cues,
        fold.test_cues,
    )
