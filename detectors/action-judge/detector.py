"""A judge of actions."""

from __future__ import annotations

from afbench.detection.judged import JudgeDetector


class ActionJudge(JudgeDetector):
    """Suspicion of a judge that is shown prompt and reply, and never a scratchpad."""

    rubric = "action"
