"""A judge of scratchpads, asked once."""

from __future__ import annotations

from afbench.detection.judged import JudgeDetector


class ReasoningJudge(JudgeDetector):
    """Suspicion of a judge that is shown prompt, scratchpad and reply."""
