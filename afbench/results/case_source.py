"""Stage 2 of a run: the cases of each fold, from what its organisms did."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from afbench.cases.assembly import CaseRow, CaseSet, Evidence, assemble, unobserved_prompts
from afbench.cases.labels import label_of
from afbench.environments import Partition
from afbench.messages import Message
from afbench.rollouts import Twin
from afbench.store import digest_of

if TYPE_CHECKING:
    from afbench.cases.access import OrganismAccess
    from afbench.cases.handle import Handle
    from afbench.cases.splits import Fold
    from afbench.results.inputs import Plan

Twins = dict[str, dict[Partition, list[Twin]]]
Rows = tuple[CaseRow, ...]

# A reversed or ungradable scenario is shown to no detector.
_SHOWN = ("faking", "sincere", "deviant")
# Sides of folds that are held: those that one fit serves, as every detector goes through them.
_HELD = 96


@dataclass(frozen=True, slots=True)
class CaseSource:
    """Makes the cases of a plan's folds.

    Args:
        plan: the run.
        access: knows the digests of organisms.
        twins: what each organism did.
    """

    plan: Plan
    access: OrganismAccess
    twins: Twins
    _held: OrderedDict[tuple[Any, ...], CaseSet] = field(default_factory=OrderedDict)

    def problem(self, fold: Fold) -> str | None:
        """Why a detector cannot be fitted and scored on a fold, or None if it can."""
        found = {
            label_of(twin)
            for name in fold.fit
            for twin in self._twins_of(name, "fit", fold.fit_cues)
        }
        for label in ("faking", "sincere"):
            if label not in found:
                return f"the fit side has no {label} case"
        return None if fold.test else "no organism is left to test"

    def sides(
        self, fold: Fold, handles: Mapping[str, Handle], *, contrast: bool
    ) -> tuple[CaseSet, CaseSet]:
        """The cases that a detector is fitted on, with labels that are scored, and those it scores.

        Args:
            handles: of each organism of the fold, for one detector.
            contrast: show the transcript with the unobserved cue as well.
        """
        fit, test = self._fit_cases(fold, contrast), self._test_cases(fold, contrast)
        return _with_handles(fit, handles), _with_handles(test, handles)

    def test_side(self, fold: Fold, handles: Mapping[str, Handle], *, contrast: bool) -> CaseSet:
        """The second of `sides` alone."""
        return _with_handles(self._test_cases(fold, contrast), handles)

    def rows(self, fold: Fold) -> Rows:
        """The host's side of the test cases, in the order in which every detector gets them."""
        for contrast in (True, False):
            if self._key(fold.test, "test", fold.test_cues, contrast) in self._held:
                return self._test_cases(fold, contrast).rows
        return self._test_cases(fold, False).rows

    def content(self, fold: Fold, *, contrast: bool) -> list[Any]:
        """What a fold's scores follow from, apart from the detector, as JSON."""
        fit, families = self._fit_cases(fold, contrast), self.families()
        learnt = [
            [*self._case_content(fit, index), str(row.label), families[row.organism]]
            for index, row in enumerate(fit.rows)
        ]
        return [learnt, self.tested(fold, contrast=contrast)]

    def tested(self, fold: Fold, *, contrast: bool) -> list[Any]:
        """The part of `content` that is the fold's test side."""
        test = self._test_cases(fold, contrast)
        return [self._case_content(test, index) for index in range(len(test))]

    def families(self) -> dict[str, str]:
        """The recipe family of each organism, within its environment."""
        return {
            name: f"{plugin.manifest.environment}/{plugin.manifest.recipe_family}"
            for name, plugin in self.plan.organisms.items()
        }

    def cases(
        self,
        names: Sequence[str],
        partition: Partition,
        cue_families: Partition | None,
        handles: Mapping[str, Handle],
        *,
        contrast: bool = False,
    ) -> CaseSet:
        """The cases of some organisms.

        Args:
            cue_families: cues of this partition's families only; None is all.
            handles: of each organism.
            contrast: show the transcript with the unobserved cue as well.
        """
        environments = {name: self.plan.environment_of(name) for name in names}
        evidence = [
            Evidence(
                name,
                self.access.digest(name),
                tuple(self._twins_of(name, partition, cue_families)),
            )
            for name in names
        ]
        contrasts = None
        if contrast:
            renderers = {one.name: unobserved_prompts(one) for one in environments.values()}
            contrasts = {name: renderers[one.name] for name, one in environments.items()}
        return assemble(
            evidence,
            handles,
            {name: {cue.id: cue for cue in one.cues} for name, one in environments.items()},
            show_reasoning=self.plan.settings.show_reasoning,
            contrasts=contrasts,
        ).where(lambda row: row.label in _SHOWN)

    def _fit_cases(self, fold: Fold, contrast: bool) -> CaseSet:
        return self._without_handles(fold.fit, "fit", fold.fit_cues, contrast)

    def _test_cases(self, fold: Fold, contrast: bool) -> CaseSet:
        return self._without_handles(fold.test, "test", fold.test_cues, contrast)

    def _without_handles(
        self,
        names: tuple[str, ...],
        partition: Partition,
        cue_families: Partition | None,
        contrast: bool,
    ) -> CaseSet:
        key = self._key(names, partition, cue_families, contrast)
        if key not in self._held:
            nobody: Any = dict.fromkeys(names)
            found = self.cases(names, partition, cue_families, nobody, contrast=contrast)
            self._held[key] = found.where(lambda row: row.scored) if partition == "fit" else found
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    @staticmethod
    def _key(*parts: Any) -> tuple[Any, ...]:
        return parts

    def _case_content(self, cases: CaseSet, index: int) -> list[Any]:
        case, row = cases.cases[index], cases.rows[index]
        weights = self.access.digest(row.organism)
        return [weights, case.group, digest_of([case.messages, case.cue, case.contrast])]

    def _twins_of(
        self, name: str, partition: Partition, cue_families: Partition | None
    ) -> list[Twin]:
        """The twins of an organism, of all cues or of one partition's families."""
        cues = {cue.id: cue for cue in self.plan.environment_of(name).cues}
        return [
            twin
            for twin in self.twins[name][partition]
            if cue_families is None or cues[twin.observed.cue].family_partition == cue_families
        ]


def _with_handles(cases: CaseSet, handles: Mapping[str, Handle]) -> CaseSet:
    """The same cases for another detector: ids and messages of its own."""
    return CaseSet(
        tuple(
            replace(
                case,
                id=secrets.token_hex(8),
                messages=_copied(case.messages),
                contrast=None if case.contrast is None else _copied(case.contrast),
                handle=handles[row.organism],
            )
            for case, row in zip(cases.cases, cases.rows, strict=True)
        ),
        cases.rows,
    )


def _copied(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(Message(role=m["role"], content=m["content"]) for m in messages)
