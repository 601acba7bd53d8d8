"""Anthropic's Messages API and Message Batches API, through the SDK (`afbench[anthropic]`).

Written for the API's version 2026-10-21, which takes no temperature: a model samples at its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from afbench.errors import BackendError, BackendUnavailableError
from afbench.messages import Conversation
from afbench.models.interface import GenerationSettings
from afbench.remote.provider import BatchState
from afbench.remote.reply import Body, Ended, Reply, Tokens
from afbench.remote.wire import (
    BUSY,
    PASSING,
    Fault,
    checked_url,
    host_of,
    key_from,
    retry_after,
    without,
)

if TYPE_CHECKING:
    import anthropic

KEY_VARIABLE: Final = "ANTHROPIC_API_KEY"
_URL: Final = "https://api.anthropic.com"
# Where a model thinks, its reply may have so many tokens more.
THINKING_ROOM: Final = 2048

# How a model is kept from thinking; "never" where it cannot be. A model that is not here does not
# think unless it is asked to, or is not known.
Off = Literal["disabled", "between_tools", "never"]
_OFF: Final[dict[str, Off]] = {
    "claude-haiku-5-5": "disabled",
    "claude-sonnet-5": "disabled",
    "claude-opus-5": "disabled",
    "claude-sonnet-5-5": "between_tools",
    "claude-opus-5-5": "never",
    "claude-fable-5": "never",
    "claude-fable-5-1": "never",
    "claude-fable-5-2": "never",
}
# These think by a number of tokens; later ones as they see fit.
_BY_BUDGET: Final = re.compile(r"claude-(haiku|sonnet|opus)-4-5(-\d{8})?")
_ENDED: Final[dict[str, Ended]] = {
    "end_turn": "whole",
    "stop_sequence": "whole",
    "refusal": "refused",
}


class AnthropicProvider:
    """One attempt at a time: what is retried, and how many are under way, is the `Exchange`'s.

    Args:
        model: the model's id.
        base_url: of a proxy or a test server; Anthropic's own where it is None.
        timeout: seconds for one attempt.
    """

    kind = "anthropic"

    def __init__(self, model: str, *, base_url: str | None = None, timeout: float = 300.0) -> None:
        self.model = model
        self._url = checked_url(
            base_url or os.environ.get("ANTHROPIC_BASE_URL") or _URL, "--base-url"
        )
        self._timeout = timeout
        self.host = host_of(self._url)

    @property
    def identity(self) -> dict[str, Any]:
        """The service; all else stands in the bodies."""
        return {"kind": self.kind, "host": self.host}

    # --- what is asked ------------------------------------------------------------------------

    def body(
        self, system_prompt: str | None, conversation: Conversation, settings: GenerationSettings
    ) -> Body:
        """The request for one reply; the organism's own prompt is marked for the prompt cache.

        Raises:
            BackendError: the conversation does not end with a user message.
        """
        turns = list(conversation)
        own = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
        if not turns or turns[-1]["role"] != "user":
            raise BackendError(
                "the conversation must end with a user message", where=f"model '{self.model}'"
            )
        thinking, room = self._thinking(settings.reasoning)
        body: Body = {
            "model": self.model,
            "max_tokens": settings.max_new_tokens + room,
            "messages": [{"role": turn["role"], "content": turn["content"]} for turn in turns],
        }
        system = _system(system_prompt, own)
        if system:
            body["system"] = system
        if thinking is not None:
            body["thinking"] = thinking
        return body

    def sample_of(self, settings: GenerationSettings) -> int:
        """The seed, as no temperature or seed can be sent."""
        return settings.seed if settings.temperature > 0 else 0

    def _thinking(self, wanted: bool) -> tuple[dict[str, Any] | None, int]:
        if wanted and _BY_BUDGET.fullmatch(self.model):
            return {"type": "enabled", "budget_tokens": THINKING_ROOM}, THINKING_ROOM
        if wanted:
            return {"type": "adaptive", "display": "summarized"}, THINKING_ROOM
        off = _OFF.get(self.model)
        if off == "never":
            return None, THINKING_ROOM
        return ({"type": off}, 0) if off else (None, 0)

    # --- one attempt --------------------------------------------------------------------------

    @cached_property
    def _client(self) -> anthropic.Anthropic:
        """Made when something has to be asked: replies that were kept need no key.

        Raises:
            BackendUnavailableError: the SDK is not installed, or there is no key.
        """
        try:
            import anthropic
        except ImportError:
            raise BackendUnavailableError(
                "the backend 'anthropic' needs the package anthropic",
                fix="pip install 'afbench[anthropic]'",
            ) from None
        key = key_from(KEY_VARIABLE)
        if key is None:
            raise BackendUnavailableError(
                f"the backend 'anthropic' finds no key in {KEY_VARIABLE}", fix="set it"
            )
        # The key is given, so that the SDK looks for no other credential.
        return anthropic.Anthropic(
            api_key=key, base_url=self._url, timeout=self._timeout, max_retries=0
        )

    def ask(self, body: Body) -> Reply:
        """One attempt; see `Provider`."""
        client = self._client
        with _Faults(self):
            message = client.messages.create(**body)
            return _reply(message, batched=False)

    # --- batches ------------------------------------------------------------------------------

    def send_batch(self, requests: Sequence[tuple[str, Body]]) -> BatchState:
        """See `BatchProvider`."""
        client = self._client
        every: Any = [{"custom_id": id_, "params": body} for id_, body in requests]
        with _Faults(self):
            return _state(client.messages.batches.create(requests=every))

    def batch(self, id_: str) -> BatchState:
        """See `BatchProvider`."""
        client = self._client
        with _Faults(self):
            return _state(client.messages.batches.retrieve(id_))

    def batches_since(self, when: datetime) -> list[BatchState]:
        """See `BatchProvider`."""
        client = self._client
        found = []
        with _Faults(self):
            for one in client.messages.batches.list(limit=100):
                state = _state(one)
                if state.created < when:
                    break  # they come with the newest first
                found.append(state)
        return found[::-1]

    def results(self, id_: str) -> Iterator[tuple[str, Reply | None, str]]:
        """See `BatchProvider`.

        Raises:
            BackendError: as `ask`; or a request was refused as malformed.
        """
        client = self._client
        with _Faults(self):
            for line in client.messages.batches.results(id_):
                result: Any = line.result
                if result.type == "succeeded":
                    yield line.custom_id, _reply(result.message, batched=True), ""
                    continue
                error = getattr(getattr(result, "error", None), "error", None)
                if getattr(error, "type", None) == "invalid_request_error":
                    raise self._refused(str(getattr(error, "message", "")))
                yield line.custom_id, None, str(result.type)

    # --- what goes wrong ----------------------------------------------------------------------

    def explained(self, error: Exception) -> Exception:
        """What an attempt failed with, as a fault that may pass or as one line that says why not.

        The SDK's error would bring the request along, and with it the key.
        """
        import anthropic

        if isinstance(error, anthropic.APITimeoutError):
            return Fault(f"{self.host} did not answer in time", begun=True)
        if isinstance(error, anthropic.APIConnectionError):
            refused = type(error.__cause__).__name__ in ("ConnectError", "ProxyError")
            return Fault(f"the connection to {self.host} failed", begun=not refused)
        if not isinstance(error, anthropic.APIStatusError):
            # A body that is no JSON, or that breaks off: what it said was paid, and is lost.
            return Fault(f"the answer of {self.host} broke off", begun=True)
        status = error.status_code
        if status in PASSING:
            what = f"{self.host} answered {status} and stays so"
            after = retry_after(error.response.headers)
            return Fault(what, after=after, busy=status in BUSY)
        if status in (401, 403):
            return self._error(f"{self.host} refused the key ({status})", f"check {KEY_VARIABLE}")
        if status == 404:
            return self._error(f"{self.host} knows no such model (404)", "check --model")
        if status == 402:
            return self._error(f"{self.host} asks for payment (402)", "check the account's credit")
        return self._refused(str(error.api_message or error.message))

    def _refused(self, said: str) -> BackendError:
        line = without(said, key_from(KEY_VARIABLE))
        return self._error(f"{self.host} refused the request: {line}", "check --model")

    def _error(self, what: str, fix: str) -> BackendError:
        return BackendError(what, where=f"backend '{self.kind}', {self.model}", fix=fix)


class _Faults:
    """Turns whatever the SDK raises into what `AnthropicProvider.explained` makes of it."""

    def __init__(self, provider: AnthropicProvider) -> None:
        self._provider = provider

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        import anthropic
        import httpx2

        odd = ValueError | TypeError | AttributeError  # a body of another shape
        if isinstance(error, anthropic.AnthropicError | httpx2.HTTPError | odd):
            raise self._provider.explained(error) from None


def _system(prompt: str | None, own: str | None) -> list[dict[str, Any]]:
    """The organism's prompt as a block that the cache holds, then the conversation's own.

    A prompt that ends in a space is the start of the sentence after it, and one block with it.
    """
    if prompt and own and prompt.endswith(" "):
        return [{"type": "text", "text": prompt + own}]
    blocks: list[dict[str, Any]] = []
    if prompt:
        cached = {"cache_control": {"type": "ephemeral"}}
        blocks.append({"type": "text", "text": prompt, **cached})
    if own:
        blocks.append({"type": "text", "text": own})
    return blocks


def _reply(message: Any, *, batched: bool) -> Reply:
    """What the API's message holds.

    Raises:
        Fault: it is no whole message: its stream was cut.
    """
    content = getattr(message, "content", None)
    usage = getattr(message, "usage", None)
    reason = getattr(message, "stop_reason", None)
    if not isinstance(content, list) or usage is None or reason is None:
        raise Fault("the answer broke off", begun=True)
    ended = _ENDED.get(str(reason), "cut")
    text = "".join(block.text for block in content if block.type == "text").strip()
    thought = "\n\n".join(block.thinking for block in content if block.type == "thinking")
    return Reply(
        # What the filter cut off is no reply of the model's.
        text="" if ended == "refused" else text,
        reasoning=thought.strip(),
        ended=ended,
        tokens=Tokens(
            input=usage.input_tokens,
            cache_write=usage.cache_creation_input_tokens or 0,
            cache_read=usage.cache_read_input_tokens or 0,
            output=usage.output_tokens,
        ),
        batched=batched,
    )


def _state(batch: Any) -> BatchState:
    counts = batch.request_counts
    return BatchState(
        id=batch.id,
        created=batch.created_at,
        requests=counts.processing
        + counts.succeeded
        + counts.errored
        + counts.canceled
        + counts.expired,
        ended=batch.processing_status == "ended",
        archived=batch.archived_at is not None,
    )
