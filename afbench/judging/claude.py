"""A judge by Anthropic's Messages API, through its SDK (the extra `afbench[anthropic]`)."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NoReturn

from afbench.errors import JudgeError, JudgeUnavailableError
from afbench.judging.keys import host_of, key_from, needed_key, without
from afbench.judging.remote import Answer

if TYPE_CHECKING:
    import anthropic

KEY_VARIABLE: Final = "ANTHROPIC_API_KEY"
DEFAULT_MODEL: Final = "claude-haiku-5-5"
_URL_VARIABLE: Final = "ANTHROPIC_BASE_URL"
_URL: Final = "https://api.anthropic.com"


class AnthropicTransport:
    """Asks for one structured answer; the SDK retries 408, 409, 429, 5xx and broken connections.

    The instructions are marked for the provider's prompt cache, which takes effect from a length
    that depends on the model. The API takes no temperature (version 2026-10-21): models sample at
    their own, so that votes differ by themselves.

    Args:
        model: the model's id.
        base_url: of a proxy or a test server; the SDK's default where it is None.
        max_tokens: of an answer, thinking included where the model thinks.
        timeout: seconds for one attempt.
        max_retries: further attempts by the SDK, which waits as `retry-after` says.
    """

    kind = "anthropic"

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        base_url: str | None = None,
        max_tokens: int = 4096,
        timeout: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        self.model = model
        self._max_tokens, self._timeout, self._retries = max_tokens, timeout, max_retries
        self._url = base_url or os.environ.get(_URL_VARIABLE) or _URL
        self._host = host_of(self._url)

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the question."""
        return {
            "kind": self.kind,
            "host": self._host,
            "model": self.model,
            "max_tokens": self._max_tokens,
        }

    @cached_property
    def _client(self) -> anthropic.Anthropic:
        """Made when something has to be asked: answers that were kept need no key.

        Raises:
            JudgeUnavailableError: the SDK is not installed, or there is no key.
        """
        try:
            import anthropic
        except ImportError:
            raise JudgeUnavailableError(
                "the judge 'anthropic' needs the package anthropic",
                fix="pip install 'afbench[anthropic]', or use the judge 'rules'",
            ) from None
        # The key is given, so that the SDK looks for no other credential.
        return anthropic.Anthropic(
            api_key=needed_key(KEY_VARIABLE, self.kind),
            base_url=self._url,
            timeout=self._timeout,
            max_retries=self._retries,
        )

    def ask(self, system: str, user: str, schema: dict[str, Any]) -> Answer:
        """One answer; see `Transport`."""
        client = self._client
        import anthropic

        try:
            message = client.messages.create(
                model=self.model,
                max_tokens=self._max_tokens,
                system=[{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
                messages=[{"role": "user", "content": user}],
                output_config={"format": {"type": "json_schema", "schema": schema}},
            )
        except anthropic.AnthropicError as error:
            self._fail(error)
        except ValueError:  # a body that is no JSON: the answer is there, and is none
            return Answer("", "cut")
        return _answer(message)

    def _fail(self, error: anthropic.AnthropicError) -> NoReturn:
        """One line that holds no key; the SDK's error would bring the request along.

        Raises:
            JudgeError: always.
        """
        import anthropic

        passing = True
        fix = "run it again later: what was answered is kept"
        if isinstance(error, anthropic.AuthenticationError | anthropic.PermissionDeniedError):
            what, fix = f"{self._host} refused the key", f"check {KEY_VARIABLE}"
        elif isinstance(error, anthropic.RateLimitError):
            what = f"{self._host} is over its rate limit (429) and stays so"
        elif isinstance(error, anthropic.APITimeoutError):
            what = f"{self._host} did not answer in time"
        elif isinstance(error, anthropic.APIConnectionError):
            what = f"the connection to {self._host} failed"
        elif isinstance(error, anthropic.InternalServerError):
            what = f"{self._host} answered {error.status_code} and stays so"
        elif isinstance(error, anthropic.NotFoundError):
            passing = False
            what, fix = f"{self._host} knows no such model", "check 'model' in the judge's params"
        else:
            passing = False
            said = getattr(error, "api_message", None) or getattr(error, "message", "")
            what = f"{self._host} refused the request: {without(str(said), key_from(KEY_VARIABLE))}"
            fix = "check the judge's params"
        kind = JudgeUnavailableError if passing else JudgeError
        raise kind(what, where=f"judge '{self.kind}', {self.model}", fix=fix) from None


def _answer(message: Any) -> Answer:
    """What the API's message holds; a body of another shape is an answer that is none."""
    if getattr(message, "type", None) != "message" or not isinstance(message.content, list):
        return Answer("", "cut")
    usage = message.usage
    cached = (usage.cache_read_input_tokens or 0) if usage else 0
    written = (usage.cache_creation_input_tokens or 0) if usage else 0
    ended = {"end_turn": "whole", "stop_sequence": "whole", "refusal": "refused"}
    return Answer(
        text="".join(block.text for block in message.content if block.type == "text"),
        ended=ended.get(str(message.stop_reason), "cut"),  # type: ignore[arg-type]
        # The API counts what the cache gave or took apart from the rest.
        input_tokens=(usage.input_tokens + cached + written) if usage else 0,
        cached_tokens=cached,
        output_tokens=usage.output_tokens if usage else 0,
    )
