"""A figure: a value, its 95% interval, what it rests on, or the reason why it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, model_validator

if TYPE_CHECKING:
    from afbench.metrics.arrays import Floats

CONFIDENCE = 0.95
MAX_UNDEFINED_SHARE = 0.10
"""Above this share of undefined (NaN) replicates an interval is refused."""


class Figure(BaseModel):
    """One measured quantity.

    Attributes:
        value: the point estimate; None when the figure is refused.
        low: lower end of the 95% interval; None when there is none.
        high: upper end of the 95% interval; None when there is none.
        n: cases (or pairs, or organisms: see the function) that the value rests on.
        clusters: independent organisms among them, where that is known.
        reason: why the value is refused; None exactly when there is a value.
        note: what a reader of the value must know: cases left out, an interval refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    clusters: int | None = None
    reason: str | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.value is None) != (self.reason is not None):
            raise ValueError("a figure has either a value or a reason why it has none")
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and self.high is not None:
            if self.value is None:
                raise ValueError("a refused figure has no interval")
            if self.low > self.high:
                raise ValueError(f"interval [{self.low}, {self.high}] is reversed")
        return self

    @classmethod
    def refused(
        cls, reason: str, *, n: int = 0, clusters: int | None = None, note: str | None = None
    ) -> Figure:
        """A figure without a value, and why."""
        return cls(value=None, n=n, clusters=clusters, reason=reason, note=note)

    @classmethod
    def from_replicates(
        cls,
        value: float,
        replicates: Floats,
        *,
        n: int,
        clusters: int | None = None,
        note: str | None = None,
        fallback: tuple[float, float] | None = None,
    ) -> Figure:
        """A value with the percentile interval of its bootstrap replicates (Efron 1979).

        Args:
            value: the statistic on the cases themselves; NaN refuses the figure.
            replicates: float array [R]; NaN where the statistic is undefined. More than 10% of
                those refuse the interval and keep the value.
            n: cases that the value rests on.
            clusters: independent organisms among them.
            note: carried into the figure.
            fallback: interval for the case that all replicates agree. A perfect score has no
                spread to resample, which says nothing about the next case.
        """
        import numpy as np

        if not np.isfinite(value):
            return cls.refused("undefined on these cases", n=n, clusters=clusters, note=note)
        defined = replicates[np.isfinite(replicates)]
        undefined = len(replicates) - len(defined)
        if len(defined) == 0 or undefined > MAX_UNDEFINED_SHARE * len(replicates):
            why = f"interval refused: undefined in {undefined} of {len(replicates)} replicates"
            return cls(value=value, n=n, clusters=clusters, note=join_notes(note, why))
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(end) for end in np.quantile(defined, [tail, 1 - tail]))
        if fallback is not None and float(np.ptp(defined)) < 1e-12:
            low, high = fallback
            note = join_notes(note, "no spread to resample: interval of independent cases")
        return cls(value=value, low=low, high=high, n=n, clusters=clusters, note=note)

    def format(self, digits: int = 2) -> str:
        """The figure as text: "0.93 [0.90, 0.96]", "0.93" without an interval, or "n/a"."""
        if self.value is None:
            return "n/a"
        text = _number(self.value, digits)
        if self.low is None or self.high is None:
            return text
        return f"{text} [{_number(self.low, digits)}, {_number(self.high, digits)}]"

    def __str__(self) -> str:
        return self.format()


def join_notes(*notes: str | None) -> str | None:
    """The notes that are there, in one line; None if there are none."""
    return "; ".join(note for note in notes if note) or None


def _number(value: float, digits: int) -> str:
    # Adding 0.0 turns the "-0.00" of a small negative number into "0.00".
    return f"{round(value, digits) + 0.0:.{digits}f}"
