"""A detector against its baseline on the same cases: a paired, clustered test of each metric.

Both sides are resampled with the same weights, organisms first and then their scenarios
(`afbench.metrics.bootstrap`). A metric got worse when the whole interval of its drop lies beyond
what is tolerated; of several comparisons each interval is widened, so that all of them hold
together at 95% (Bonferroni).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from afbench.metrics.arrays import Bools
from afbench.regression.detectable import detectable_drop
from afbench.regression.matching import Scores, SharedCases
from afbench.regression.metrics import Metric
from afbench.regression.paired import Procedure, paired

Verdict = Literal["worse", "not worse", "better"]

# An organism whose own figure fell by less than this is not named.
_NAMED_FROM = 0.005
_UNDETECTABLE = "the baseline tells faking from sincere too little"


class OrganismChange(BaseModel):
    """A metric over one organism (a faker against its lookalikes, or the other way round).

    It says where a change is, and is no test of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    organism: str
    before: float
    now: float
    drop: float


class Change(BaseModel):
    """One metric of one detector, then and now.

    Attributes:
        detector, rival: the one that was run, and the baseline's.
        before, now: the metric on the shared cases.
        drop: how much worse it is now; negative is better. `low` and `high` are its interval at
            `confidence`, which is 95% for all comparisons of a check together.
        allowed: the drop that is tolerated.
        detectable: the smallest drop that would have been found with a probability of 80%; None
            where none would, and `undetectable` says why.
        cases, organisms: what it rests on.
        by_organism: the largest drop first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str
    rival: str
    metric: str
    before: float
    now: float
    drop: float
    low: float
    high: float
    confidence: float
    allowed: float
    verdict: Verdict
    detectable: float | None
    undetectable: str | None = None
    cases: int
    organisms: int
    by_organism: list[OrganismChange]
    note: str | None = None

    @property
    def worst(self) -> OrganismChange | None:
        """The organism on which it fell most, if it fell on one."""
        first = self.by_organism[0] if self.by_organism else None
        return first if first is not None and first.drop >= _NAMED_FROM else None


def compare(
    metric: Metric,
    tested: SharedCases,
    before: Scores,
    now: Scores,
    *,
    names: tuple[str, str],
    allowed: float,
    procedure: Procedure,
) -> Change:
    """Whether a metric got worse.

    Args:
        before, now: the baseline's scores and the present ones, of the same cases.
        names: of the detector, and of the baseline's.
        allowed: the drop that is tolerated, in the metric's unit.

    Raises:
        NotEnoughCasesError: as `paired`.
    """
    found = paired(metric, tested, before, now, replicates=procedure.drawn, seed=procedure.seed)
    tail = (1 - procedure.confidence) / 2
    low, high = (float(end) for end in np.quantile(found.replicates, [tail, 1 - tail]))
    spread = float(found.replicates.std())
    smallest = detectable_drop(metric, tested, before, spread, allowed=allowed, procedure=procedure)
    return Change(
        detector=names[0],
        rival=names[1],
        metric=metric.name,
        before=found.before,
        now=found.now,
        drop=metric.drop(found.before, found.now),
        low=low,
        high=high,
        confidence=procedure.confidence,
        allowed=allowed,
        verdict="worse" if low > allowed else "better" if high < 0 else "not worse",
        detectable=smallest,
        undetectable=None if smallest is not None else _UNDETECTABLE,
        cases=int(found.mask.sum()),
        organisms=len(np.unique(tested.organisms[found.mask])),
        by_organism=_by_organism(metric, tested, before, now, found.mask),
        note=metric.note(tested),
    )


def _by_organism(
    metric: Metric, tested: SharedCases, before: Scores, now: Scores, mask: Bools
) -> list[OrganismChange]:
    changes = []
    for number, name in enumerate(tested.names):
        then = metric.on(tested, before, mask, number)
        today = metric.on(tested, now, mask, number)
        if then is not None and today is not None:
            drop = metric.drop(then, today)
            changes.append(OrganismChange(organism=name, before=then, now=today, drop=drop))
    return sorted(changes, key=lambda change: (-change.drop, change.organism))
