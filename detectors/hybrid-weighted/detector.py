"""A probe and a judge, summed."""

from __future__ import annotations

from typing import Any

from afbench.detection.cascade import ProbeAndJudge


class HybridWeighted(ProbeAndJudge):
    """Weighted sum of standardised probe and judge."""

    def __init__(self, **params: Any) -> None:
        super().__init__("weighted", **params)
