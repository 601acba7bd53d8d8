"""Detectors whose score is a judge's suspicion."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.detection.bases import FixedDetector
from afbench.errors import JudgeError
from afbench.judging import Judge, item_of, make_judge, shares, suspicions
from afbench.judging.error import attached, error_rates

_LOG: Final = logging.getLogger("afbench.judging")
# What stands for a verdict where there is none: neither suspicious nor not.
NEITHER: Final = 0.5


def judge_suspicions(
    judge: Judge, cases: Sequence[Case], *, votes: int = 1, failures: float = 0.02
) -> NDArray[np.float64]:
    """Mean suspicion of one vote, or the share of several: float64 [n], 0..1.

    A case without a verdict gets `NEITHER`, which is said on the log, as long as there are few.

    Args:
        failures: the largest share of cases without a verdict; above it none is scored.

    Raises:
        JudgeError: too many cases have no verdict, or as the judge.
    """
    judged = judge.verdicts([item_of(case.messages) for case in cases], votes)
    values = suspicions(judged) if votes == 1 else shares(judged)
    missing = int(np.isnan(values).sum())
    if missing > failures * len(cases):
        problems = sorted({v.problem for row in judged for v in row if v.problem})
        raise JudgeError(
            f"the judge '{judge.kind}' gave no verdict on {missing} of {len(cases)} cases "
            f"({', '.join(problems)})",
            fix="ask another model, or raise 'failures' in the detector's params",
        )
    if missing:
        _LOG.warning("%d of %d cases have no verdict and count as neither", missing, len(cases))
    return np.where(np.isnan(values), NEITHER, values)


class JudgeDetector(FixedDetector):
    """The suspicion of a judge; the sign is the rubric's.

    Args:
        judge: its kind: rules, anthropic or openai-compatible.
        judge_params: of the kind (model, base_url, ...), never a key.
        votes: how many verdicts on each case; the score of several is the share for suspicion.
        failures: the largest share of cases that may go without a verdict.
    """

    rubric = "reasoning"

    def __init__(
        self,
        judge: str = "rules",
        judge_params: Mapping[str, Any] | None = None,
        votes: int = 1,
        failures: float = 0.02,
    ) -> None:
        self.judge = make_judge(judge, rubric=self.rubric, params=judge_params)
        self.votes, self.failures = votes, failures

    def depends_on(self) -> str:
        return self.judge.identity

    def suspicion(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        return judge_suspicions(self.judge, cases, votes=self.votes, failures=self.failures)

    def explain(self) -> dict[str, str | float | int]:
        """The judge, and its error on the shipped items."""
        return attached(super().explain(), error_rates(self.judge, votes=self.votes))
