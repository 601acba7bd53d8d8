"""Continuations as a tree of tokens: what they share is asked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

# vLLM's own limit of tokens whose log-probabilities one request may name.
MOST_TOKENS: Final = 128


class Tree:
    """The prefixes of some continuations, and the tokens that follow each.

    One request for each prefix, in which only the last position's logits are computed, scores all
    continuations; for answers of one token each that is one request.

    Args:
        continuations: token ids; none is empty.

    Attributes:
        requests: each one's prefix, which it adds to a prompt, and the tokens that it asks about;
            a prefix with more than `MOST_TOKENS` followers has several.
        depth: tokens of the longest continuation.
    """

    def __init__(self, continuations: Sequence[Sequence[int]]) -> None:
        self._continuations = [tuple(row) for row in continuations]
        after: dict[tuple[int, ...], dict[int, None]] = {}
        for row in self._continuations:
            for at, token in enumerate(row):
                after.setdefault(row[:at], {})[token] = None
        self.requests = [
            (prefix, tuple(tokens)[start : start + MOST_TOKENS])
            for prefix, tokens in sorted(after.items(), key=lambda item: (len(item[0]), item[0]))
            for start in range(0, len(tokens), MOST_TOKENS)
        ]
        self.depth = max(map(len, self._continuations))

    def scores(self, answers: Sequence[Mapping[int, Any]]) -> list[float]:
        """Log-probability of each continuation.

        Args:
            answers: by token, what vLLM says after each request's prefix.
        """
        known = {
            (prefix, token): float(answer[token].logprob)
            for (prefix, tokens), answer in zip(self.requests, answers, strict=True)
            for token in tokens
        }
        return [
            sum(known[row[:at], token] for at, token in enumerate(row))
            for row in self._continuations
        ]
