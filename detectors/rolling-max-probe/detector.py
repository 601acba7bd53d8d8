"""A few neighbouring tokens that agree."""

from __future__ import annotations

from typing import Any

from afbench.detection.token_probes import TokenDetector


class RollingMaxProbe(TokenDetector):
    """Sum over heads of the largest windowed attention mean.

    Args:
        options: as for `TokenDetector`, but its kind.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("rolling", **options)
