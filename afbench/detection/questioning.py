"""Yes/no questions to an organism: one by one, or one after the other as an interrogation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.features import answer_margins, answer_shares, per_handle
from afbench.detection.state import Fitted, fields
from afbench.messages import Conversation, Message

_ANSWER_TOKENS = 4


class Questioner(Fitted):
    """How far an organism leans to yes on each question, by one scale for fit and test.

    Log-probabilities where every organism of the fit has them, otherwise shares of sampled answers.

    Args:
        questions: each is put on its own after the transcript.
        samples: how many answers are sampled where there are no log-probabilities.
        seed: of the samples.
    """

    fitted = fields(questions=list, samples=int, seed=int, sampled=bool)

    def __init__(self, questions: Sequence[str], samples: int = 16, seed: int = 0) -> None:
        self.questions, self.samples, self.seed = list(questions), samples, seed

    def choose_scale(self, cases: Sequence[Case]) -> None:
        """Decide by the fit cases: one organism without log-probabilities decides for all."""
        self.sampled = not all(case.handle.can("logprobs") for case in cases)

    def margins(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Log-odds of yes over no: float64 [n, q]."""
        if self.sampled:
            return answer_shares(cases, self.questions, samples=self.samples, seed=self.seed)
        return answer_margins(cases, self.questions)

    def explain(self) -> dict[str, str | float | int]:
        """Which scale was chosen."""
        return {"answers": "sampled" if self.sampled else "log-probabilities"}


def interrogate(
    cases: Sequence[Case], questions: Sequence[str], *, samples: int, seed: int
) -> NDArray[np.float64]:
    """Put questions one after the other, each after the organism's answers to the former.

    Answers are sampled at temperature 1, `samples` to each question; the first of them goes into
    the conversation.

    Returns:
        float64 [n, q, 2]: log-odds of yes over no with half a count added to each side (Haldane
        1956), and the share of answers that are neither.
    """

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[np.float64]:
        open_talks: list[list[Message]] = [list(talk) for talk in talks]
        columns = []
        for number, question in enumerate(questions):
            for talk in open_talks:
                talk.append(Message(role="user", content=question))
            answers = handle.generate(
                open_talks,
                max_new_tokens=_ANSWER_TOKENS,
                temperature=1.0,
                samples=samples,
                seed=seed + number * samples,
            )
            for talk, row in zip(open_talks, answers, strict=True):
                talk.append(Message(role="assistant", content=row[0]))
            columns.append([_leaning(row) for row in answers])
        return np.array(columns, dtype=np.float64).transpose(1, 0, 2)

    return per_handle(cases, ask)


def flips(margins: NDArray[np.float64], questions: Sequence[str]) -> NDArray[np.float64]:
    """How far the answers to a question that is put again move: float64 [n].

    Args:
        margins: float64 [n, q], of `questions`; equal texts are one question put again.
    """
    moved = [np.zeros(len(margins))]
    first: dict[str, int] = {}
    for column, question in enumerate(questions):
        if question in first:
            moved.append(np.abs(margins[:, column] - margins[:, first[question]]))
        first.setdefault(question, column)
    return np.asarray(np.sum(moved, axis=0))


def _leaning(answers: Sequence[str]) -> tuple[float, float]:
    words = [answer.strip().lower() for answer in answers]
    yes = sum(word.startswith("yes") for word in words)
    no = sum(word.startswith("no") for word in words)
    return float(np.log((yes + 0.5) / (no + 0.5))), 1 - (yes + no) / len(words)
