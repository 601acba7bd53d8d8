"""Runs the cells of a baseline: the same folds and settings, and what each case says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.cases.access import OrganismAccess
from afbench.cases.assembly import CaseRow
from afbench.cases.labels import label_of
from afbench.cases.splits import Fold, Layout, check_split
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest, load_manifest
from afbench.errors import (
    AfbenchError,
    DetectorError,
    DetectorUnavailableError,
    NotEnoughCasesError,
)
from afbench.metrics.calibration import fit_platt, threshold_at_fpr
from afbench.regression.baseline import (
    DIGITS,
    CaseColumns,
    DetectorScores,
    FoldOf,
    FoldOutcome,
    Measured,
    OrganismOf,
)
from afbench.results.case_source import CaseSource
from afbench.results.evaluation import OPERATING_POINTS
from afbench.results.inputs import Plan, plan_over
from afbench.results.rollout_stage import roll_out
from afbench.results.saved import Saved, is_saved, read_saved
from afbench.results.score_cache import ScoreCache
from afbench.results.scoring import Scorer, Scoring
from afbench.results.workers import Workers
from afbench.results.zoo import member_of
from afbench.rollouts import Twin
from afbench.store import digest_of

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog
    from afbench.detection.harness import FoldScores
    from afbench.models.user_model import UserModel
    from afbench.results.progress import Progress
    from afbench.results.record import RunSettings
    from afbench.store import Store
    from afbench.vllm_backend.choice import Local

MANIFEST = "detector.yaml"


@dataclass(frozen=True, slots=True)
class Bench:
    """What cells are run with; of it, only the catalog and the backend can move a score.

    Attributes:
        catalog: without the user's model, which is added where it is needed.
        local: what runs models on this machine.
        model: what prompted organisms are put on.
        jobs: processes that score folds.
    """

    catalog: Catalog
    store: Store
    progress: Progress
    local: Local
    model: UserModel | None = None
    jobs: int = 1

    @property
    def on_model(self) -> Catalog:
        """The catalog with the user's model in it, if there is one."""
        return self.catalog if self.model is None else self.model.added_to(self.catalog)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Detectors that were named, looked up.

    Attributes:
        plugins: by the name that is used from here on.
        saved: those among them that were fitted before.
    """

    plugins: dict[str, Plugin[DetectorManifest]]
    saved: dict[str, Saved]


def choose_detectors(given: Sequence[str], catalog: Catalog) -> Chosen:
    """Detectors by name, or by the folder of a plug-in or of a saved detector.

    Raises:
        UnknownNameError: there is none of that name.
        AfbenchError: a folder's manifest is malformed, or a saved detector is damaged; or two of
            one name are given.
    """
    plugins: dict[str, Plugin[DetectorManifest]] = {}
    saved: dict[str, Saved] = {}
    for one in dict.fromkeys(given):
        folder = Path(one)
        if one in catalog.detectors:
            plugin = catalog.detectors[one]
        elif is_saved(folder):
            kept = read_saved(folder, catalog)
            plugin, saved[kept.name] = kept.plugin, kept
        elif (folder / MANIFEST).is_file():
            plugin = _in_folder(folder)
        else:
            plugin = catalog.get("detector", one)
        if plugin.name in plugins:
            raise AfbenchError(
                f"two detectors are named '{plugin.name}'",
                where="--detector",
                fix="check one after the other",
            )
        plugins[plugin.name] = plugin
    return Chosen(plugins, saved)


def _in_folder(folder: Path) -> Plugin[DetectorManifest]:
    manifest = load_manifest(folder)
    if not isinstance(manifest, DetectorManifest):
        raise AfbenchError(f"the folder holds a {manifest.kind}", where=str(folder))
    return Plugin(manifest.name, "detector", folder.resolve(), manifest)


def plan_cells(settings: RunSettings, folds: Sequence[Fold], chosen: Chosen, bench: Bench) -> Plan:
    """The plan of some detectors on given folds; weights are verified and nothing is computed.

    Raises:
        AfbenchError: an organism or environment is gone or its weights are damaged, or a saved
            detector was fitted on what it is tested on.
    """
    settings = settings.model_copy(
        update={
            "detectors": list(chosen.plugins), "floors": False, "robustness": False,
            "behaviour_reading": False,
        }
    )  # fmt: skip
    catalog = bench.on_model
    plan = plan_over(
        settings,
        catalog,
        list(chosen.plugins.values()),
        Layout(tuple(folds)),
        model=bench.model,
        saved=chosen.saved,
        engine=bench.local.identity,
    )
    split = check_split(settings.split)
    for one in plan.saved.values():
        for fold in plan.folds:
            organisms = [plan.organisms[name] for name in fold.test]
            members = [member_of(plugin, catalog, plan.default_parent) for plugin in organisms]
            one.check_split(members, split)
    return plan


def measure(plan: Plan, bench: Bench) -> Measured:
    """Fit and score the detectors of a plan, as `afbench run` does, without its figures.

    Raises:
        AfbenchError: a model cannot be loaded, a fold lacks a class, a detector breaks its
            contract or cannot run here.
    """
    with _scored(plan, bench) as (source, scoring):
        return _measured(plan, source, scoring)


@contextmanager
def _scored(plan: Plan, bench: Bench) -> Iterator[tuple[CaseSource, Scoring]]:
    with ExitStack() as stack:
        catalog = bench.on_model
        models = stack.enter_context(bench.local.models(catalog, plan.default_parent))
        access = OrganismAccess(models, catalog, bench.store)
        workers = None
        if bench.jobs > 1 and access.engine["backend"] == "transformers":
            workers = stack.enter_context(
                Workers(bench.jobs, catalog, bench.store.root, bench.local.placement)
            )
        source = CaseSource(plan, access, roll_out(plan, access, bench.progress))
        for fold in plan.folds:
            problem = source.problem(fold)
            if problem is not None:
                raise NotEnoughCasesError(f"{fold.name}: {problem}")
        cache = ScoreCache(bench.store, source)
        scorer = Scorer(source, _Unsaid(bench.progress), cache, workers)
        yield source, scorer.run(plan.folds, {})


@dataclass(frozen=True, slots=True)
class _Unsaid:
    """Progress without the line on a detector that broke: here that ends it, with the same line."""

    progress: Progress

    def start(self, stage: str, total: int) -> None:
        self.progress.start(stage, total)

    def advance(self, stage: str, steps: int) -> None:
        self.progress.advance(stage, steps)

    def say(self, line: str) -> None: ...


def _measured(plan: Plan, source: CaseSource, scoring: Scoring) -> Measured:
    shown = plan.settings.show_reasoning
    rows = [(number, row) for number, of in enumerate(scoring.rows) for row in of]
    return Measured(
        settings=plan.settings,
        model=plan.inputs.model,
        versions=plan.inputs.versions,
        folds=[FoldOf.of(fold) for fold in plan.folds],
        organisms={
            name: OrganismOf(
                digest=plan.inputs.organisms[name],
                environment=plugin.manifest.environment or "",
                faker=plugin.manifest.role == "faker",
                lookalike_class=plugin.manifest.lookalike_class,
            )
            for name, plugin in sorted(plan.organisms.items())
        },
        environments=plan.inputs.environments,
        fit={
            name: "".join(case_digest(twin, shown) for twin in source.twins[name]["fit"])
            for name in sorted(plan.fit_organisms)
        },
        cases=_columns(rows, shown),
        detectors={
            name: _detector(name, outcome, plan) for name, outcome in scoring.outcomes.items()
        },
    )


def _columns(rows: Sequence[tuple[int, CaseRow]], shown: bool) -> CaseColumns:
    return CaseColumns(
        fold=[number for number, _ in rows],
        organism=[row.organism for _, row in rows],
        scenario=[row.twin.scenario for _, row in rows],
        cue=[row.twin.observed.cue for _, row in rows],
        label=[row.label for _, row in rows],
        content=[case_digest(row.twin, shown) for _, row in rows],
    )


def case_digest(twin: Twin, show_reasoning: bool) -> str:
    """What a case says and how it is labelled, in `DIGITS` hexadecimal digits.

    The organism's weights and the environment, which a detector can ask more of, have digests of
    their own.
    """
    seen = twin.observed
    reasoning = seen.reasoning if show_reasoning else ""
    content = [list(seen.messages), reasoning, seen.response, str(label_of(twin))]
    return digest_of(content).removeprefix("sha256:")[:DIGITS]


def _detector(name: str, outcome: list[FoldScores] | DetectorError, plan: Plan) -> DetectorScores:
    if isinstance(outcome, DetectorUnavailableError):
        raise AfbenchError(f"'{name}' cannot run here: {outcome}")
    if isinstance(outcome, DetectorError):
        raise AfbenchError(f"'{name}' gives no scores: {outcome}")
    saved: Mapping[str, str] = plan.inputs.saved
    return DetectorScores(
        digest=saved.get(name, plan.inputs.detectors[name]),
        scores=[float(score) for part in outcome for score in part.scores],
        outcomes=[_outcome(part) for part in outcome],
    )


def _outcome(part: FoldScores) -> FoldOutcome:
    negatives = part.held_out_scores[~part.held_out_labels]
    thresholds: dict[str, float | None] = {}
    for fpr in OPERATING_POINTS:
        limit = threshold_at_fpr(negatives, fpr) if len(negatives) else math.inf
        thresholds[f"{fpr:g}"] = limit if math.isfinite(limit) else None
    try:
        scaling = fit_platt(part.held_out_scores, part.held_out_labels)
    except NotEnoughCasesError:
        return FoldOutcome(slope=None, intercept=None, thresholds=thresholds)
    return FoldOutcome(slope=scaling.slope, intercept=scaling.intercept, thresholds=thresholds)
