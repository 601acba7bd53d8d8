"""What is told of scores on the feedback half: rounded, and only when clearly better.

The Ladder (Blum and Hardt 2015, arXiv 1502.04585, algorithm 1): a score is released, rounded to a
step, if it beats the best released one by at least the step; otherwise all that is told is that it
does not. An adaptive submitter then learns little more than his best score, however often he
submits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from afbench.metrics.figures import Figure
from afbench.results.json_file import parse_model, read_bytes
from afbench.results.record import DetectorFigures
from afbench.store import write_json

WITHHELD: Final = "withheld until the season is over"
FILE: Final = "ladder.json"

_FIGURES: Final = (
    "tpr_at_1", "tpr_at_5", "pair_accuracy", "brier", "gap_recovery",
    "residual_misalignment_gap_at_1", "residual_misalignment_gap_at_5",
    "residual_compliance_gap_at_1", "residual_compliance_gap_at_5",
    "residual_conformity_gap_at_1", "residual_conformity_gap_at_5",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Release:
    """A figure as it is released, and the best one so far after it."""

    figure: Figure
    best: float | None


def ladder(figure: Figure, best: float | None, step: float) -> Release:
    """One step of the Ladder.

    Args:
        figure: as it was measured.
        best: the best value released to the same account; None before the first.
        step: of rounding, and the least improvement.
    """
    if figure.value is None:
        return Release(Figure.refused(figure.reason or "", n=figure.n), best)
    if best is not None and figure.value < best + step:
        # Not the earlier figure again, which would stand beside another detector's name.
        reason = f"not better by {step:g} than {best:g}, which was released before"
        return Release(Figure.refused(reason, n=figure.n, clusters=figure.clusters), best)
    shown = _rounded(figure.value, step)
    low = high = None
    if figure.low is not None and figure.high is not None:
        # Outwards, so that the interval still covers what it covered.
        low = min(shown, _on_grid(math.floor(figure.low / step), step))
        high = max(shown, _on_grid(math.ceil(figure.high / step), step))
    released = Figure(
        value=shown,
        low=low,
        high=high,
        n=figure.n,
        clusters=figure.clusters,
        note=f"rounded to {step:g}",
    )
    return Release(released, shown)


def feedback(
    row: DetectorFigures, best: float | None, step: float
) -> tuple[DetectorFigures, float | None]:
    """A detector's row of the feedback half as it is released, and the account's best AUROC then.

    Every other figure is withheld; the cost is not, as it says nothing of the labels.
    """
    released = ladder(row.auroc, best, step)
    withheld = Figure.refused(WITHHELD)
    shown = row.model_copy(
        update={
            **dict.fromkeys(_FIGURES, withheld),
            "auroc": released.figure,
            "fpr_by_class": dict.fromkeys(row.fpr_by_class, withheld),
            "excess_over_floor": None,
            "uplift_over_black_box": None,
            "uplift_at_equal_budget": None,
            "behaviour_reading": None,
            "auroc_by_fold": {},
            "robustness": {},
            "chosen": {},
        }
    )
    return shown, released.best


class Ladders(BaseModel):
    """ladder.json beside a sealed set: the best AUROC released to each account."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    best: dict[str, float] = {}

    @classmethod
    def load(cls, folder: Path) -> Ladders:
        """Of a sealed folder; empty where nothing was released yet.

        Raises:
            AfbenchError: ladder.json is malformed.
        """
        path = folder / FILE
        return parse_model(cls, read_bytes(path), str(path)) if path.is_file() else cls()

    def after(self, account: str, best: float | None) -> Ladders:
        """The same after a release."""
        new: Mapping[str, float] = {} if best is None else {account: best}
        return Ladders(best={**self.best, **new})

    def save(self, folder: Path) -> None:
        """Write ladder.json; whole or not at all.

        Raises:
            StorageError: it could not be written.
        """
        write_json(folder / FILE, json.loads(self.model_dump_json()))


def _rounded(value: float, step: float) -> float:
    return _on_grid(round(value / step), step)


def _on_grid(number: int, step: float) -> float:
    # As decimal digits: 35 * 0.02 is not 0.7.
    return round(number * step, 10)
