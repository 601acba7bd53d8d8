"""`afbench run`: the five stages, from a plan to a result record."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from afbench.cases.access import OrganismAccess
from afbench.cases.splits import Fold
from afbench.catalog.discovery import Catalog
from afbench.detection.loading import detector_factory
from afbench.errors import AfbenchError, NotEnoughCasesError
from afbench.models.sources import ModelSource
from afbench.models.user_model import UserModel
from afbench.remote.backend import Backend
from afbench.results.behaviour_reading import read_behaviour
from afbench.results.case_source import CaseSource
from afbench.results.evaluation import Evaluation, Subject, TestRows
from afbench.results.evidence_file import save_evidence
from afbench.results.explanations import Explainer
from afbench.results.figures_of import every_detector, gaps_of, organism_figures
from afbench.results.inputs import ALL, Plan, make_plan
from afbench.results.progress import Progress
from afbench.results.reader import Reader
from afbench.results.record import (
    BehaviourReading,
    CacheUse,
    DetectorFigures,
    OrganismFigures,
    ResultRecord,
    RunSettings,
    Sides,
    Spending,
    Timings,
    load_record,
)
from afbench.results.rollout_stage import collect, roll_out
from afbench.results.score_cache import ScoreCache
from afbench.results.score_file import save_scores
from afbench.results.scoring import Scorer, Scoring
from afbench.results.workers import Workers, WorkerUse
from afbench.sandbox.choose import Isolation
from afbench.sandbox.host import DetectorFactory, making
from afbench.store import Store
from afbench.vllm_backend.choice import Local, choose

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A finished run: its record, where it lies, and whether it was there already."""

    record: ResultRecord
    path: Path
    reused: bool


@dataclass(frozen=True, slots=True)
class Options:
    """How runs are carried out; none of it changes a figure.

    Attributes:
        model: what prompted organisms are put on; they are the whole zoo then.
        fresh: evaluate again even if the result is there; the cache is still used.
        jobs: how many processes score detectors.
        lenient: of several runs, go on after one that has too few cases.
        explain: show where in the organisms each detector that can say so reads its score.
        backend: the remote model that `model` stands for; None runs models on this machine.
        local: what runs them on this machine; None is transformers. Its identity is the run's.
        isolation: how detectors are isolated; None runs them in this process.
    """

    model: UserModel | None = None
    fresh: bool = False
    jobs: int = 1
    lenient: bool = False
    explain: bool = False
    backend: Backend | None = None
    local: Local | None = None
    isolation: Isolation | None = None


def run(
    settings: RunSettings,
    catalog: Catalog,
    store: Store,
    runs: Path,
    progress: Progress,
    options: Options | None = None,
) -> RunOutcome:
    """Run detectors on organisms and write `runs/<id>/result.json`.

    A run of the same inputs that is there already is read back and not repeated. A killed run goes
    on from what the cache holds of it.

    Raises:
        AfbenchError: as `make_plan`, or a file could not be written. A detector that breaks its
            contract does not raise: its figures are void and say why.
    """
    [outcome] = run_each([settings], catalog, store, runs, progress, options)
    return outcome


def run_each(
    every: Sequence[RunSettings],
    catalog: Catalog,
    store: Store,
    runs: Path,
    progress: Progress,
    options: Options | None = None,
) -> list[RunOutcome]:
    """The runs of several splits: models are loaded once, and they share the cache.

    What a run needs is looked up before the first one begins, so that a wrong name shows at once.

    Raises:
        AfbenchError: as `run`.
        NotEnoughCasesError: a run has too few cases; if `lenient`, none has enough.
    """
    options = options or Options()
    if options.explain and options.isolation is not None:
        raise AfbenchError(
            "what explains a detector runs its code here", where="--explain", fix="leave it out"
        )
    if options.model is not None:
        catalog = options.model.added_to(catalog)
    if options.backend is not None:
        catalog = options.backend.reachable(catalog)
    local = options.local or choose()
    engine = local.identity if options.backend is None else {}
    with ExitStack() as stack:
        factory = stack.enter_context(
            making(options.isolation, catalog, store.root, soon=options.jobs == 1)
        )
        plans = _made(
            every, lambda one: make_plan(one, catalog, options.model, engine), options, progress
        )
        models: ModelSource
        if options.backend is not None:
            models = remote = options.backend.models(catalog)
            access = OrganismAccess(models, catalog, store)
            new = [
                plan for plan in plans.values() if options.fresh or not _result(runs, plan).exists()
            ]
            collect(new, access, remote, progress)
        else:
            parent = next(iter(plans.values())).default_parent
            models = stack.enter_context(local.models(catalog, parent))
            access = OrganismAccess(models, catalog, store)

        @functools.cache
        def workers() -> Workers | None:
            # A worker loads models by itself; those of an API or an engine are this process's.
            if options.jobs == 1 or access.engine["backend"] != "transformers":
                return None
            pool = Workers(options.jobs, catalog, store.root, local.placement, options.isolation)
            return stack.enter_context(pool)

        def execute(settings: RunSettings) -> RunOutcome:
            plan = plans[settings.split]
            path = _result(runs, plan)
            one = _Run(plan, access, store, progress, workers, options.backend, factory)
            reused = path.exists() and not options.fresh
            record = load_record(path) if reused else one.execute(path.parent)
            if not reused:
                record.save(path.parent)
            if options.explain:
                one.explain(record, path.parent)
            return RunOutcome(record, path, reused)

        planned = [one for one in every if one.split in plans]
        return list(_made(planned, execute, options, progress).values())


def run_plan(
    plan: Plan,
    catalog: Catalog,
    store: Store,
    folder: Path,
    progress: Progress,
    options: Options | None = None,
) -> ResultRecord:
    """Carry out a plan whose folds were laid out by hand, in this process.

    Args:
        plan: made for `options.local`'s identity.
        folder: where result.json and the files beside it are written.
        options: of these only `local` and `isolation` are looked at.

    Raises:
        AfbenchError: as `run`.
    """
    options = options or Options()
    local = options.local or choose()
    with (
        making(options.isolation, catalog, store.root) as factory,
        local.models(catalog, plan.default_parent) as models,
    ):
        access = OrganismAccess(models, catalog, store)
        one = _Run(plan, access, store, progress, lambda: None, factory=factory)
        record = one.execute(folder)
        record.save(folder)
        return record


def _result(runs: Path, plan: Plan) -> Path:
    return runs / plan.id / "result.json"


def _made(
    every: Sequence[RunSettings],
    make: Callable[[RunSettings], T],
    options: Options,
    progress: Progress,
) -> dict[str, T]:
    """What is made of each run, by its split.

    Raises:
        NotEnoughCasesError: a run has too few cases; if `lenient`, none has enough.
    """
    made: dict[str, T] = {}
    for settings in every:
        try:
            made[settings.split] = make(settings)
        except NotEnoughCasesError as error:
            if not options.lenient or (settings is every[-1] and not made):
                raise
            progress.say(f"split {settings.split} is left out: {error}")
    return made


@dataclass(slots=True)
class _Run:
    plan: Plan
    access: OrganismAccess
    store: Store
    progress: Progress
    workers: Callable[[], Workers | None]
    backend: Backend | None = None
    factory: DetectorFactory = detector_factory
    left_out: list[str] = field(default_factory=list)

    def execute(self, folder: Path) -> ResultRecord:
        started = time.perf_counter()
        before = self._use()
        plan, settings = self.plan, self.plan.settings
        source = self._source()
        rollout_seconds = time.perf_counter() - started
        organisms = organism_figures(plan, source.twins)
        folds, robustness = self._usable(source, organisms)
        cache = ScoreCache(self.store, source)
        reader = Reader(source, self.store) if settings.behaviour_reading else None
        scorer = Scorer(source, self.progress, cache, self.workers(), reader, self.factory)
        scoring = scorer.run(folds, robustness)
        evaluation = self._evaluation(scoring, gaps_of(organisms))
        readings = read_behaviour(scoring, evaluation)
        detectors = self._figures(evaluation, scoring, readings)
        scores = save_scores(folder, scoring)
        save_evidence(folder, scoring, source.twins)
        spent = self._use().since(before)
        seconds = round(time.perf_counter() - started, 3)
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
                total=seconds,
            ),
            cache=CacheUse(
                hits=spent.hits,
                misses=spent.misses,
                computed_forward_tokens=spent.forward_tokens,
            ),
            spending=self._spending(spent, seconds),
        ).with_digest()

    def explain(self, record: ResultRecord, folder: Path) -> None:
        """Write where detectors read their scores beside the record, for its folds."""
        cues = {fold.name: (fold.fit_cues, fold.test_cues) for fold in self.plan.folds}
        folds = [
            Fold(name, tuple(sides["fit"]), tuple(sides["test"]), *cues[name])
            for name, sides in record.folds.items()
        ]
        Explainer(self._source(), folder).explain(folds, self.progress)

    def _use(self) -> WorkerUse:
        """What the caches answered and models read until now, here and in the workers."""
        use = WorkerUse.of(self.store, self.access)
        workers = self.workers()
        if workers is not None:
            use.add(workers.use)
        return use

    def _spending(self, use: WorkerUse, seconds: float) -> Spending:
        if self.backend is not None:
            kind = self.backend.exchange.provider.kind
            return Spending(backend=kind, seconds=seconds, **self.backend.spending())
        return Spending(
            backend=self.access.engine["backend"],
            calls=use.calls,
            input_tokens=use.forward_tokens,
            output_tokens=use.generated_tokens,
            seconds=seconds,
        )

    def _source(self) -> CaseSource:
        twins = roll_out(self.plan, self.access, self.progress)
        return CaseSource(self.plan, self.access, twins)

    # -- stage 2 ---------------------------------------------------------------------------------

    def _usable(
        self, source: CaseSource, organisms: Sequence[OrganismFigures]
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
            problem = source.problem(fold)
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
                problem = source.problem(fold) or self._missing_role(fold)
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

    def _figures(
        self,
        evaluation: Evaluation,
        scoring: Scoring,
        readings: Mapping[str, BehaviourReading],
    ) -> list[DetectorFigures]:
        manifests = {plugin.name: plugin.manifest for plugin in self.plan.detectors}
        every = every_detector(
            scoring, evaluation, readings, manifests, self._subjects(), self.plan.settings
        )
        figures = []
        self.progress.start("figures", len(scoring.outcomes))
        for one in every:
            figures.append(one)
            self.progress.advance("figures", 1)
        return figures


def _sides(folds: Sequence[Fold]) -> Sides:
    return {fold.name: {"fit": list(fold.fit), "test": list(fold.test)} for fold in folds}


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
