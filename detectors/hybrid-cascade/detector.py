"""A probe, and a judge where the probe is not sure."""

from __future__ import annotations

from typing import Any

from afbench.detection.cascade import ProbeAndJudge


class HybridCascade(ProbeAndJudge):
    """The judge is asked between two thresholds on the probe."""

    def __init__(self, **params: Any) -> None:
        super().__init__("cascade", **params)
