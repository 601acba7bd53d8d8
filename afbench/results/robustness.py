"""The robustness row: how detectors do on organisms that were made hard to detect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afbench.errors import DetectorError
from afbench.metrics.detection_figures import auroc_figure, tpr_figure
from afbench.metrics.figures import Figure
from afbench.results.evaluation import Subject, TestRows
from afbench.results.record import RobustnessFigures, RunSettings
from afbench.results.scoring import EvasionScores


def robustness_of(
    evasions: Mapping[str, EvasionScores], subjects: dict[str, Subject], settings: RunSettings
) -> dict[str, dict[str, RobustnessFigures]]:
    """Figures by detector, then evasion.

    Args:
        subjects: of every tested organism.
    """
    found: dict[str, dict[str, RobustnessFigures]] = {}
    for evasion, given in evasions.items():
        rows = TestRows.of(given.rows, subjects)
        for detector, scores in given.scores.items():
            found.setdefault(detector, {})[evasion] = _figures(rows, scores, settings)
    return found


def _figures(
    rows: TestRows, scores: NDArray[np.float64] | DetectorError, settings: RunSettings
) -> RobustnessFigures:
    mask = rows.scored
    count = int(mask.sum())
    if isinstance(scores, DetectorError):
        refused = Figure.refused("void")
        return RobustnessFigures(auroc=refused, tpr_at_5=refused, n=count, error=str(scores))
    given: dict[str, Any] = {
        **rows.where(mask),
        "folds": rows.folds[mask],
        "replicates": settings.replicates,
        "seed": settings.seed,
    }
    return RobustnessFigures(
        auroc=auroc_figure(scores[mask], rows.labels[mask], **given),
        tpr_at_5=tpr_figure(scores[mask], rows.labels[mask], fpr=0.05, **given),
        n=count,
    )
