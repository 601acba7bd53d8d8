"""The handle that a detector in a sandbox holds: every question goes to the host's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from afbench.cases.handle import Budget, Handle
from afbench.cases.tokens import TokenSequence
from afbench.models.interface import TokenActivations
from afbench.sandbox.protocol import Frame
from afbench.sandbox.questions import METHODS, SPENT, TOKENS_AT, answered, question

Ask = Callable[[Frame], Frame]
"""Puts a question to the host and gives its answer; raises what the host refuses it with."""


class RemoteHandle(Handle):
    """Looks like the `Handle` that it stands for and holds nothing but its number.

    Args:
        number: what the host calls it.
        shape: number of decoder blocks and width of the residual stream.
        tier: the detector's.
    """

    __slots__ = ("_number", "_put")

    def __init__(self, ask: Ask, number: int, shape: tuple[int, int], tier: str) -> None:
        # Not Handle's own: there is no model, no store and no bill here.
        self._put, self._number = ask, number
        self._shape = shape
        self._tier = cast(Any, tier)

    @property
    def spent(self) -> Budget:
        """As `Handle.spent`."""
        found = answered(self._put(Frame("ask", {"method": SPENT, "handle": self._number})))
        return cast(Budget, found)

    def token_activations(self, *given: Any, **named: Any) -> Sequence[TokenActivations]:
        """As `Handle.token_activations`: each transcript is fetched when it is looked at."""
        reply = self._put(question("token_activations", self._number, *given, **named))
        number, count = reply.body["sequence"], reply.body["count"]

        def read(index: int) -> TokenActivations:
            body = {"method": TOKENS_AT, "handle": number, "index": index}
            return cast(TokenActivations, answered(self._put(Frame("ask", body))))

        return TokenSequence(read, count)


def _forwarded(method: str) -> Callable[..., Any]:
    def forward(self: RemoteHandle, *given: Any, **named: Any) -> Any:
        return answered(self._put(question(method, self._number, *given, **named)))

    forward.__name__ = method
    forward.__doc__ = f"As `Handle.{method}`."
    return forward


for _method in METHODS:
    if _method not in vars(RemoteHandle):
        setattr(RemoteHandle, _method, _forwarded(_method))

Handles = dict[int, Handle]


def handles_of(body: dict[str, Any], ask: Ask) -> Handles:
    """The handles that a frame of cases announces, by number."""
    make = partial(RemoteHandle, ask)
    return {
        number: make(number, (blocks, width), tier)
        for number, blocks, width, tier in body["handles"]
    }
