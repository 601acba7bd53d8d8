"""A judge by any server that speaks the chat-completions format: vLLM, llama.cpp, Ollama, hosts."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from afbench.errors import JudgeError, JudgeUnavailableError
from afbench.judging.keys import host_of, key_from, without
from afbench.judging.remote import Answer
from afbench.remote.wire import PASSING, retry_after

if TYPE_CHECKING:
    import httpx2
    import tenacity

KEY_VARIABLE: Final = "AFBENCH_JUDGE_KEY"
URL_VARIABLE: Final = "AFBENCH_JUDGE_URL"
_LONGEST_WAIT: Final = 60.0

Format = Literal["json_schema", "json_object", "none"]


class _Passing(Exception):
    """A fault that may pass; `after` is how long the server asks to wait, in seconds."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class OpenAITransport:
    """Asks `{base_url}/chat/completions` for one answer.

    Args:
        model: as the server calls it.
        base_url: up to and with `/v1`; from AFBENCH_JUDGE_URL where it is None. The key, which
            local servers need not have, comes from AFBENCH_JUDGE_KEY.
        temperature: not sent where it is None; votes want 1.0.
        response_format: how the schema is enforced, by what the server can.
        tokens_field: what the server calls the limit of an answer.
        max_tokens: that limit.
        timeout: seconds for one attempt.
        max_retries: further attempts after a fault that may pass.

    Raises:
        JudgeUnavailableError: no URL is given, or none that can be one.
    """

    kind = "openai-compatible"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        temperature: float | None = None,
        response_format: Format = "json_schema",
        tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        max_tokens: int = 2048,
        timeout: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        self.model = model
        url = (base_url or os.environ.get(URL_VARIABLE, "")).strip().rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise JudgeUnavailableError(
                "the judge 'openai-compatible' has no URL to ask",
                fix=f"set {URL_VARIABLE}, or base_url in the judge's params, such as "
                "http://localhost:8000/v1",
            )
        self._url, self._host = f"{url}/chat/completions", host_of(url)
        self._body: dict[str, Any] = {"model": model, tokens_field: max_tokens}
        if temperature is not None:
            self._body["temperature"] = temperature
        self._format, self._timeout, self._retries = response_format, timeout, max_retries

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the question."""
        return {
            "kind": self.kind, "host": self._host, "format": self._format, **self._body
        }  # fmt: skip

    @cached_property
    def _client(self) -> httpx2.Client:
        """Made when something has to be asked: answers that were kept need no key."""
        import httpx2

        key = key_from(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Redirects are not followed: they would take the key along.
        return httpx2.Client(timeout=self._timeout, headers=headers, follow_redirects=False)

    def ask(self, system: str, user: str, schema: dict[str, Any]) -> Answer:
        """One answer; see `Transport`."""
        import tenacity

        body = {
            **self._body,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": user},
            ],
            **_enforced(self._format, schema),
        }
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            stop=tenacity.stop_after_attempt(self._retries + 1),
            wait=_wait,
            reraise=True,
        )
        try:
            reply: httpx2.Response = attempts(self._post, body)
        except _Passing as fault:
            raise JudgeUnavailableError(
                str(fault), where=self._where, fix="run it again later: what was answered is kept"
            ) from None
        return _answer(reply)

    def _post(self, body: dict[str, Any]) -> httpx2.Response:
        import httpx2

        try:
            reply = self._client.post(self._url, json=body)
        except httpx2.TimeoutException:
            raise _Passing(f"{self._host} did not answer in time") from None
        except httpx2.TransportError:
            raise _Passing(f"the connection to {self._host} failed") from None
        status = reply.status_code
        if status in PASSING:
            raise _Passing(
                f"{self._host} answered {status} and stays so", retry_after(reply.headers)
            )
        if status in (401, 403):
            raise JudgeUnavailableError(
                f"{self._host} refused the key", where=self._where, fix=f"check {KEY_VARIABLE}"
            )
        if status == 404:
            raise self._error(
                f"{self._host} knows no such model or address", "check 'model' and the URL's path"
            )
        if not reply.is_success:
            said = without(_message(reply), key_from(KEY_VARIABLE))
            raise self._error(
                f"{self._host} refused the request ({status}): {said}", "check the judge's params"
            )
        return reply

    def _error(self, what: str, fix: str) -> JudgeError:
        return JudgeError(what, where=self._where, fix=fix)

    @property
    def _where(self) -> str:
        return f"judge '{self.kind}', {self.model}"


def _message(reply: httpx2.Response) -> str:
    """What the server says of its error, or the start of the body."""
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text


def _enforced(how: Format, schema: dict[str, Any]) -> dict[str, Any]:
    if how == "none":
        return {}
    if how == "json_object":
        return {"response_format": {"type": "json_object"}}
    named = {"name": "verdict", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _wait(state: tenacity.RetryCallState) -> float:
    """As long as the server asks for, up to a minute; otherwise longer every time, with chance."""
    import tenacity

    fault = state.outcome.exception() if state.outcome else None
    after = fault.after if isinstance(fault, _Passing) else None
    if after is not None:
        return min(max(after, 0.0), _LONGEST_WAIT)
    return tenacity.wait_random_exponential(multiplier=0.5, max=8.0)(state)


def _answer(reply: httpx2.Response) -> Answer:
    """What the server's body holds; a body of another shape is an answer that is none."""
    try:
        body = reply.json()
        choice = body["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        usage = body.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        counts = {
            "input_tokens": int(usage.get("prompt_tokens") or 0),
            "cached_tokens": int(details.get("cached_tokens") or 0),
            "output_tokens": int(usage.get("completion_tokens") or 0),
        }
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Answer("", "cut")
    if refusal or ended == "content_filter":
        return Answer("", "refused", **counts)
    if not isinstance(text, str) or ended == "length":
        return Answer("", "cut", **counts)
    return Answer(text, "whole", **counts)
