"""`afbench detectors save | load`: fit a detector on many organisms at once, and score by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from afbench.cases.access import OrganismAccess
from afbench.cases.splits import Fold, Layout, Member, matched_lookalikes
from afbench.detection.harness import fit_detector, score_fold
from afbench.detection.loading import detector_factory
from afbench.errors import AfbenchError, NotEnoughCasesError
from afbench.metrics.calibration import threshold_at_fpr
from afbench.models.loading import ModelStore
from afbench.results.case_source import CaseSource
from afbench.results.evaluation import OPERATING_POINTS
from afbench.results.figures_of import organism_figures
from afbench.results.inputs import ALL, Plan, plan_over
from afbench.results.record import RunSettings
from afbench.results.rollout_stage import roll_out
from afbench.results.saved import FittedOn, SavedDetector, read_saved, save_detector
from afbench.results.zoo import member_of, zoo_of

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog
    from afbench.results.progress import Progress
    from afbench.store import Store


@dataclass(frozen=True, slots=True)
class OrganismScores:
    """What a saved detector says of one organism.

    Attributes:
        cases: how many observed cases were scored.
        mean: of the scores.
        flagged: share of cases over the threshold of each false-positive rate; None without one.
        fitted: the detector was fitted on this organism, on other scenarios.
    """

    name: str
    role: str
    cases: int
    mean: float
    flagged: dict[str, float | None]
    fitted: bool


@dataclass(frozen=True, slots=True)
class SavedScores:
    """What a saved detector says of some organisms.

    `auroc` is over all their faking and sincere cases, None without cases of both: a figure
    without an interval, for a look; `afbench run` gives the benchmark's.
    """

    organisms: tuple[OrganismScores, ...]
    auroc: float | None


@dataclass(frozen=True, slots=True)
class Fitter:
    """Fits and scores on organisms that are chosen by hand.

    Args:
        catalog, store, progress: as for a run.
    """

    catalog: Catalog
    store: Store
    progress: Progress

    def save(
        self,
        detector: str,
        selection: Sequence[str],
        folder: Path,
        *,
        base: str | None = None,
        scenarios: int = 60,
        seed: int = 0,
    ) -> SavedDetector:
        """Fit a detector on the fit side of some organisms and write it to a folder.

        Args:
            selection: names of organisms; one faker alone comes with its matched lookalikes;
                `all` is the zoo.
            base: only organisms of this base.
            scenarios: fit scenarios of each.

        Raises:
            AfbenchError: organisms are of several bases, one failed certification, the folder
                holds a saved detector already, or as for a run.
        """
        plugin = self.catalog.get("detector", detector)
        if folder.exists() and any(folder.iterdir()):
            raise AfbenchError("the folder is not empty", where=str(folder), fix="name another")
        members = self._members(selection, base)
        settings = _settings(detector, scenarios, seed)
        fold = Fold("saved", tuple(member.name for member in members), ())
        plan = plan_over(settings, self.catalog, [plugin], Layout((fold,)))
        source = self._source(plan)
        fold = _certified(fold, plan, source, self.progress)
        handles = source.access.handles(plugin.manifest, fold.fit)
        fit, _ = source.sides(fold, handles, contrast=plugin.manifest.sees_contrast)
        seconds = plugin.manifest.limits.seconds
        fitted = fit_detector(detector, detector_factory(plugin), seconds, fit, source.families())
        negatives = fitted.held_out_scores[~fitted.held_out_labels]
        return save_detector(
            folder,
            plugin,
            fitted,
            shape=source.access.shape(fold.fit[0]),
            organisms={
                member.name: FittedOn(
                    digest=plan.inputs.organisms[member.name],
                    base=member.base,
                    environment=member.environment,
                    family=member.family,
                    seed=member.seed,
                    faker=member.faker,
                )
                for member in members
                if member.name in fold.fit
            },
            environments=plan.inputs.environments,
            scenarios=scenarios,
            seed=seed,
            versions=plan.inputs.versions,
            thresholds={
                f"{fpr:g}": threshold_at_fpr(negatives, fpr) if len(negatives) else None
                for fpr in OPERATING_POINTS
            },
        )

    def score(
        self, folder: Path, selection: Sequence[str], *, scenarios: int = 100, seed: int = 0
    ) -> SavedScores:
        """Score organisms by a saved detector, on test scenarios.

        Raises:
            AfbenchError: as `read_saved`, or the base of an organism is of another shape.
        """
        saved = read_saved(folder, self.catalog)
        base = next(iter(saved.about.organisms.values())).base
        members = self._members(selection, base if list(selection) == [ALL] else None)
        settings = _settings(saved.name, scenarios, seed)
        fold = Fold("scored", (), tuple(member.name for member in members))
        plan = plan_over(settings, self.catalog, [saved.plugin], Layout((fold,)))
        source = self._source(plan)
        for name in fold.test:
            saved.check_shape(name, source.access.shape(name))
        manifest = saved.plugin.manifest
        handles = source.access.handles(manifest, fold.test)
        test = source.test_side(fold, handles, contrast=manifest.sees_contrast)
        scores = score_fold(
            saved.name, saved.fitted(), manifest.limits.seconds, test, handles
        ).scores
        scored = np.array([row.scored for row in test.rows], np.bool_)
        labels = test.labels[scored]
        both = bool(labels.any()) and not labels.all()
        auroc = float(roc_auc_score(labels, scores[scored])) if both else None
        found = tuple(
            _summed_up(name, scores[test.organisms == name], plan, saved.about)
            for name in fold.test
            if name in test.organisms
        )
        return SavedScores(found, auroc)

    def _members(self, selection: Sequence[str], base: str | None) -> list[Member]:
        zoo = zoo_of(self.catalog)
        if list(selection) == [ALL]:
            members = list(zoo.members)
        else:
            plugins = [self.catalog.get("organism", name) for name in dict.fromkeys(selection)]
            for plugin in plugins:
                if plugin.manifest.role == "base":
                    raise AfbenchError(
                        f"'{plugin.name}' is a base",
                        where="--organism",
                        fix="name what is made from it",
                    )
            members = [member_of(plugin, self.catalog) for plugin in plugins]
            if len(members) == 1 and members[0].faker:
                members += matched_lookalikes(members[0], zoo.members)
        if base is not None:
            self.catalog.get("organism", base)
            members = [member for member in members if member.base == base]
        bases = sorted({member.base for member in members})
        if len(bases) > 1:
            raise AfbenchError(
                f"the organisms are of {len(bases)} bases ({', '.join(bases)}), whose activations "
                "are not comparable",
                fix=f"choose one by --base {bases[0]}",
            )
        if not members:
            raise NotEnoughCasesError("no organism is left", fix="name others, or another --base")
        return members

    def _source(self, plan: Plan) -> CaseSource:
        access = OrganismAccess(ModelStore(self.catalog), self.catalog, self.store)
        return CaseSource(plan, access, roll_out(plan, access, self.progress))


def _settings(detector: str, scenarios: int, seed: int) -> RunSettings:
    return RunSettings(
        detectors=[detector],
        organism="chosen",
        split="in-distribution",
        fit_scenarios=scenarios,
        test_scenarios=scenarios,
        seed=seed,
    )


def _certified(fold: Fold, plan: Plan, source: CaseSource, progress: Progress) -> Fold:
    """The fold without organisms that failed certification, as a run leaves them out."""
    failed = {one.name: one.reason for one in organism_figures(plan, source.twins) if one.reason}
    for name, reason in sorted(failed.items()):
        progress.say(f"{name} is left out: {reason}")
    return replace(fold, fit=tuple(name for name in fold.fit if name not in failed))


def _summed_up(
    name: str, scores: NDArray[np.float64], plan: Plan, about: SavedDetector
) -> OrganismScores:
    return OrganismScores(
        name=name,
        role=plan.organisms[name].manifest.role,
        cases=len(scores),
        mean=float(scores.mean()),
        flagged={
            fpr: None if limit is None else float((scores > limit).mean())
            for fpr, limit in about.thresholds.items()
        },
        fitted=name in about.organisms,
    )
