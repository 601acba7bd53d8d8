"""It learns which tokens to listen to."""

from __future__ import annotations

from typing import Any

from afbench.detection.token_probes import TokenDetector


class AttentionProbe(TokenDetector):
    """Softmax-weighted means of linear scores over the reply's tokens.

    Args:
        options: as for `TokenDetector`, but its kind.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("attention", **options)
