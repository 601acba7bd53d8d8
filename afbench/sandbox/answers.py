"""The host's answers to a detector's questions: from the real handles, which keep tier and bill."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from afbench.cases.handle import Handle
from afbench.errors import AfbenchError, DigestMismatchError, StorageError, TierError
from afbench.models.interface import POOLINGS, TokenActivations
from afbench.sandbox.faults import inexact_refusal, refusal
from afbench.sandbox.limits import Limits
from afbench.sandbox.protocol import Frame, broken
from afbench.sandbox.questions import SPENT, TOKENS_AT, Question, answer, asked

_FLOAT = 4


class Answers:
    """Answers one instance of a detector.

    Args:
        limits: of what it may ask.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._handles: dict[int, Handle] = {}
        self._sequences: dict[int, Sequence[TokenActivations]] = {}
        self._left = limits.answered

    def begin(self) -> None:
        """A call begins, which may be answered so many bytes."""
        self._left = self._limits.answered

    def numbers_of(self, handles: Iterable[Handle]) -> dict[int, int]:
        """A number for each handle by its identity; drawn anew, so that none tells of another call.

        Numbers of earlier calls stay good: a detector may have kept a case.
        """
        found: dict[int, int] = {}
        for handle in handles:
            if id(handle) not in found:
                number = self._unused()
                self._handles[number] = handle
                found[id(handle)] = number
        return found

    def answer(self, frame: Frame) -> Frame:
        """What is sent back: an answer, or why there is none.

        Raises:
            DetectorError: it is no question, or is answered more than one call may be.
            AfbenchError: the host failed.
        """
        question = asked(frame)
        try:
            reply = self._answered(question)
        except (StorageError, DigestMismatchError):
            raise
        except TierError as error:
            return refusal(error)
        except AfbenchError as error:
            if type(error) is not AfbenchError:  # of the host, and may name an organism
                raise
            return refusal(error)
        except Exception as error:  # what a detector asked for made no sense to a model
            return inexact_refusal(error)
        self._left -= reply.size
        if self._left < 0:
            broken("more answers in one call than a detector may have")
        return reply

    def _answered(self, question: Question) -> Frame:
        if question.method == TOKENS_AT:
            sequence = self._known(self._sequences, question.handle)
            return answer(sequence[question.arguments["index"]])
        handle = self._known(self._handles, question.handle)
        if question.method == SPENT:
            return answer(handle.spent)
        self._check_size(handle, question.arguments)
        value: Any = getattr(handle, question.method)(**question.arguments)
        if question.method == "token_activations":
            number = self._unused()
            self._sequences[number] = value
            return Frame("answer", {"form": "sequence", "sequence": number, "count": len(value)})
        return answer(value)

    def _check_size(self, handle: Handle, arguments: Mapping[str, Any]) -> None:
        """Refuse what would take the host's memory before it is computed."""
        count = len(arguments.get("conversations", ()))
        most = self._limits.conversations
        if count > most:
            raise AfbenchError(f"{count} conversations in one question, and {most} are allowed")
        replies = max(arguments.get("samples", 1), arguments.get("max_new_tokens", 1))
        if replies > self._limits.replies:
            raise AfbenchError(
                f"{replies} samples or tokens of a reply, and {self._limits.replies} are allowed"
            )
        if "layers" in arguments and "poolings" in arguments:
            layers = arguments["layers"]
            places = handle.n_layers + 1 if layers is None else len(layers)
            per_case = places * min(len(arguments["poolings"]), 8 * len(POOLINGS)) * handle.width
            if count * per_case * _FLOAT > self._left:
                raise AfbenchError(
                    "more activations in one question than a detector may have",
                    fix="ask for fewer layers, poolings or conversations",
                )

    @staticmethod
    def _known(found: Mapping[int, Any], number: int) -> Any:
        if number not in found:
            broken("a handle that there is not")
        return found[number]

    def _unused(self) -> int:
        while True:
            number = secrets.randbelow(1 << 31)
            if number not in self._handles and number not in self._sequences:
                return number
