"""A judge by the name of its kind, as detectors' params give it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from afbench.errors import JudgeError, UnknownNameError
from afbench.judging.judge import Judge
from afbench.judging.rubrics import RUBRICS
from afbench.store import Store, default_cache

JUDGES: Final = ("rules", "anthropic", "openai-compatible")
_OURS: Final = ("concurrency", "max_requests")


def make_judge(
    kind: str = "rules",
    *,
    rubric: str = "reasoning",
    params: Mapping[str, Any] | None = None,
    store: Store | None = None,
) -> Judge:
    """A judge.

    Args:
        kind: one of `JUDGES`.
        rubric: one of `RUBRICS`.
        params: of the kind: `seed` for rules; `concurrency`, `max_requests` and those of
            `AnthropicTransport` or `OpenAITransport` for the remote ones. Keys are no params.
        store: where answers are kept (default: the cache of AFBENCH_CACHE or the user's).

    Raises:
        UnknownNameError: there is no such kind or rubric.
        JudgeError: params that the kind does not have, or as the transport.
    """
    if rubric not in RUBRICS:
        raise UnknownNameError("rubric", rubric, RUBRICS)
    if kind not in JUDGES:
        raise UnknownNameError("judge", kind, JUDGES)
    given = dict(params or {})
    try:
        if kind == "rules":
            from afbench.judging.rules import RulesJudge

            return RulesJudge(RUBRICS[rubric], **given)
        ours = {name: given.pop(name) for name in _OURS if name in given}
        from afbench.judging.remote import RemoteJudge, Transport

        transport: Transport
        if kind == "anthropic":
            from afbench.judging.claude import AnthropicTransport

            transport = AnthropicTransport(**given)
        else:
            from afbench.judging.openai_compatible import OpenAITransport

            transport = OpenAITransport(**given)
    except TypeError as error:
        raise JudgeError(
            f"the judge '{kind}' does not take these params: {error}",
            fix="see the card of the detector",
        ) from None
    return RemoteJudge(transport, RUBRICS[rubric], store or Store(default_cache()), **ours)
