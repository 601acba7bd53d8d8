"""Ranks that paired tests allow: a range for each detector, so that ties are seen as ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afbench.results.record import DetectorFigures
from afbench.site.curves import CurveFile


@dataclass(frozen=True, slots=True)
class Place:
    """A rank, or the range of ranks that paired tests leave open.

    Attributes:
        first: one more than there are detectors that clearly beat it.
        last: the number of detectors less those that it clearly beats.
        tested: by paired tests; otherwise it is the order of the values alone.
    """

    first: int
    last: int
    tested: bool

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"

    @property
    def leads(self) -> bool:
        """No detector clearly beats it."""
        return self.tested and self.first == 1


def places(detectors: Sequence[DetectorFigures], curves: CurveFile | None) -> dict[str, Place]:
    """The place of each detector with an AUROC; floors and ceilings have none.

    Args:
        curves: the comparisons of a sweep. Where they do not hold every detector, all places are
            those of the values.
    """
    ranked = [one for one in detectors if one.auroc.value is not None]
    ranked = [one for one in ranked if not one.floor and not one.ceiling]
    names = {one.name for one in ranked}
    if curves is not None and names <= set(curves.beaten_by):
        beaten_by = {name: names & set(curves.beaten_by[name]) for name in names}
        beats = dict.fromkeys(names, 0)
        for others in beaten_by.values():
            for other in others:
                beats[other] += 1
        return {
            one.name: Place(1 + len(beaten_by[one.name]), len(names) - beats[one.name], True)
            for one in ranked
        }
    values = sorted((one.auroc.value or 0.0 for one in ranked), reverse=True)
    order = [1 + values.index(one.auroc.value or 0.0) for one in ranked]
    return {one.name: Place(at, at, False) for one, at in zip(ranked, order, strict=True)}
