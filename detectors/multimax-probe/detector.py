"""One token can be enough."""

from __future__ import annotations

from typing import Any

from afbench.detection.token_probes import TokenDetector


class MultimaxProbe(TokenDetector):
    """Sum over heads of the largest linear score of any token.

    Args:
        options: as for `TokenDetector`, but its kind.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("multimax", **options)
