"""A judge of scratchpads, asked many times."""

from __future__ import annotations

from afbench.detection.judged import JudgeDetector


class ReasoningJudgeVotes(JudgeDetector):
    """Share of a judge's votes that find faking in prompt, scratchpad and reply."""
