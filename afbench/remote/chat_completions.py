"""Servers that speak the chat-completions format: `vllm serve`, other servers, hosts.

What a server can beyond that format is asked of it once: vLLM also gives log-probabilities of given
tokens, takes the options of a chat template, and says the tokens of its replies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from afbench.errors import BackendError, UnknownNameError
from afbench.messages import Conversation, Message
from afbench.models.interface import GenerationSettings
from afbench.models.texts import join_prompts, split_reasoning
from afbench.remote.pacing import patiently
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
    import httpx2

KEY_VARIABLE: Final = "AFBENCH_OPENAI_KEY"
URL_VARIABLE: Final = "AFBENCH_OPENAI_URL"
# What a checkpoint ships in its generation config must not become part of the measurement.
_NEUTRAL: Final = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
_OWN_HOST: Final = "api.openai.com"


class OpenAIProvider:
    """One attempt at a time: what is retried, and how many are under way, is the `Exchange`'s.

    Args:
        model: as the server calls it: a base, or an adapter that it serves under a name. None is
            whichever the server lists first, where each request names its own.
        base_url: up to and with `/v1`; from AFBENCH_OPENAI_URL where it is None. The key, which
            local servers need not have, comes from AFBENCH_OPENAI_KEY.
        timeout: seconds for one attempt.

    Raises:
        BackendError: no URL is given, or none that can be one.
    """

    kind = "openai"

    def __init__(
        self, model: str | None, *, base_url: str | None = None, timeout: float = 300.0
    ) -> None:
        self._given = model
        given = base_url or os.environ.get(URL_VARIABLE, "")
        if not given.strip():
            raise BackendError(
                "the backend 'openai' has no server to ask",
                where="--base-url",
                fix=f"give it, such as http://localhost:8000/v1, or set {URL_VARIABLE}",
            )
        self._url = checked_url(given, "--base-url")
        self._timeout = timeout
        self.host = host_of(self._url)

    @property
    def identity(self) -> dict[str, Any]:
        """The service; all else stands in the bodies."""
        return {"kind": self.kind, "host": self.host}

    @cached_property
    def model(self) -> str:
        """The model's name on the server.

        Raises:
            BackendError: none was given, and the server lists none; or as `served`.
        """
        if self._given is not None:
            return self._given
        if not self.served:
            raise BackendError(f"{self.host} lists no model", where="--backend", fix="give --model")
        return next(iter(self.served))

    @cached_property
    def served(self) -> dict[str, str]:
        """Who owns each model that the server lists; it is asked once. Empty if it has no list.

        Raises:
            BackendError: it cannot be reached, refuses the key or serves no such model.
        """
        where = f"{self._given} at {self.host}" if self._given else self.host
        listed = patiently(self._models, attempts=4, where=where)
        if listed is None:
            return {}  # the first request tells
        names = {str(one.get("id")): str(one.get("owned_by")) for one in listed}
        if self._given is not None and self._given not in names:
            raise UnknownNameError("model", self._given, names)
        return names

    @property
    def is_vllm(self) -> bool:
        """Whether the server is vLLM.

        Raises:
            BackendError: as `served`.
        """
        return "vllm" in self.served.values()

    # --- what is asked ------------------------------------------------------------------------

    def body(
        self, system_prompt: str | None, conversation: Conversation, settings: GenerationSettings
    ) -> Body:
        """The request for one reply.

        Raises:
            BackendError: the conversation does not end with a user message; or as `is_vllm`.
        """
        if not conversation or conversation[-1]["role"] != "user":
            raise BackendError(
                "the conversation must end with a user message", where=f"model '{self.model}'"
            )
        limit = "max_completion_tokens" if self.host == _OWN_HOST else "max_tokens"
        body: Body = {
            "model": self.model,
            "messages": with_system(system_prompt, conversation),
            limit: settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
        }
        if settings.temperature > 0:
            body["seed"] = settings.seed
        if self.is_vllm:
            body |= {**_NEUTRAL, "return_token_ids": True, **_template(settings.reasoning)}
        return body

    def sample_of(self, settings: GenerationSettings) -> int:
        """Always 0: the seed stands in the body."""
        return 0

    # --- one attempt --------------------------------------------------------------------------

    def ask(self, body: Body) -> Reply:
        """One attempt; see `Provider`."""
        template = body.get("chat_template_kwargs") or {}
        return _reply(
            self._json(self._post("/chat/completions", body)),
            reasoning=bool(template.get("enable_thinking")),
        )

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without special ones (vLLM)."""
        return self._tokenised({"prompt": text, "add_special_tokens": False})

    def prompt_tokens(self, messages: Sequence[Message], *, reasoning: bool) -> list[int]:
        """The tokens of a conversation up to where the reply starts (vLLM)."""
        body = {"messages": list(messages), "add_generation_prompt": True}
        return self._tokenised({**body, **_template(reasoning)})

    def score(
        self, prompt: Sequence[int], continuation: Sequence[int], model: str | None = None
    ) -> float:
        """Log-probability of tokens after others, in nats (vLLM).

        Args:
            model: another one that the server has.

        Raises:
            Fault, BackendError: as `ask`.
        """
        ids = [*prompt, *continuation]
        body = {
            "model": model or self.model, "prompt": ids, "max_tokens": 1, "temperature": 0,
            "prompt_logprobs": 0,
        }  # fmt: skip
        answer = self._json(self._post("/completions", body))
        try:
            found = answer["choices"][0]["prompt_logprobs"][len(prompt) :]
            return float(
                sum(
                    row[str(token)]["logprob"]
                    for row, token in zip(found, continuation, strict=True)
                )
            )
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._error(
                f"{self.host} gave no log-probabilities of a prompt",
                "use a server that does, such as vLLM",
            ) from None

    def _tokenised(self, body: Body) -> list[int]:
        root = self._url.removesuffix("/v1")
        answer = self._json(self._post("/tokenize", {"model": self.model, **body}, root))
        try:
            return [int(token) for token in answer["tokens"]]
        except (KeyError, TypeError, ValueError):
            raise self._error(f"{self.host} gave no tokens", "use a server such as vLLM") from None

    @cached_property
    def _client(self) -> httpx2.Client:
        """Made when something has to be asked."""
        import httpx2

        key = key_from(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Redirects are not followed: they would take the key along.
        return httpx2.Client(timeout=self._timeout, headers=headers, follow_redirects=False)

    def _models(self) -> list[dict[str, Any]] | None:
        reply = self._sent("GET", f"{self._url}/models", None)
        if reply.status_code in (404, 405):
            return None
        self._check(reply)
        found = self._json(reply).get("data")
        return found if isinstance(found, list) else None

    def _post(self, path: str, body: Body, root: str | None = None) -> httpx2.Response:
        reply = self._sent("POST", f"{root or self._url}{path}", body)
        self._check(reply)
        return reply

    def _sent(self, method: str, url: str, body: Body | None) -> httpx2.Response:
        import httpx2

        try:
            return self._client.request(method, url, json=body)
        except httpx2.TimeoutException:
            raise Fault(f"{self.host} did not answer in time", begun=True) from None
        except (httpx2.ConnectError, httpx2.ProxyError):
            raise Fault(f"{self.host} cannot be reached") from None
        except httpx2.HTTPError:
            raise Fault(f"the connection to {self.host} failed", begun=True) from None

    def _check(self, reply: httpx2.Response) -> None:
        status = reply.status_code
        if reply.is_success:
            return
        if status in PASSING:
            what = f"{self.host} answered {status} and stays so"
            raise Fault(what, after=retry_after(reply.headers), busy=status in BUSY)
        if status in (401, 403):
            raise self._error(f"{self.host} refused the key ({status})", f"check {KEY_VARIABLE}")
        if status == 404:
            raise self._error(
                f"{self.host} knows no such model or address (404)", "check --model and --base-url"
            )
        said = without(_message(reply), key_from(KEY_VARIABLE))
        raise self._error(f"{self.host} refused the request ({status}): {said}", "check --model")

    def _json(self, reply: httpx2.Response) -> dict[str, Any]:
        try:
            found = reply.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Fault(f"the answer of {self.host} broke off", begun=True)
        return found

    def _error(self, what: str, fix: str) -> BackendError:
        return BackendError(
            what, where=f"backend '{self.kind}', {self._given or self.host}", fix=fix
        )


def with_system(system_prompt: str | None, conversation: Conversation) -> list[Message]:
    """A conversation with the organism's own prompt before its system message."""
    turns: list[Message] = [{"role": m["role"], "content": m["content"]} for m in conversation]
    if not system_prompt:
        return turns
    own = turns.pop(0)["content"] if turns[0]["role"] == "system" else None
    return [{"role": "system", "content": join_prompts(system_prompt, own)}, *turns]


def opens_thought(prompt: Sequence[int], think: Sequence[int]) -> bool:
    """Whether a prompt ends with the tokens that open a thought, and at most one more."""
    return any(
        list(prompt[len(prompt) - len(think) - after : len(prompt) - after]) == list(think)
        for after in (0, 1)
    )


def _template(reasoning: bool) -> dict[str, Any]:
    return {"chat_template_kwargs": {"enable_thinking": reasoning}}


def _message(reply: httpx2.Response) -> str:
    """What the server says of its error, or the start of the body."""
    try:
        found = reply.json()
        return str(found["error"]["message"] if "error" in found else found["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text


def _reply(answer: dict[str, Any], *, reasoning: bool) -> Reply:
    """What the server's body holds.

    Raises:
        Fault: it is no whole answer.
    """
    try:
        choice = answer["choices"][0]
        message, reason = choice["message"], choice["finish_reason"]
        usage = answer.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        cached = int(details.get("cached_tokens") or 0)
        tokens = Tokens(
            input=int(usage.get("prompt_tokens") or 0) - cached,
            cache_read=cached,
            output=int(usage.get("completion_tokens") or 0),
        )
        # `refusal` is what the model says in place of a reply, in its own words.
        said = str(message.get("content") or message.get("refusal") or "")
        thought = message.get("reasoning_content") or message.get("reasoning")
        ids = tuple(int(token) for token in choice.get("token_ids") or ())
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Fault("the answer broke off", begun=True) from None
    if reason is None:
        raise Fault("the answer broke off", begun=True)
    if reason == "content_filter":
        return Reply("", "", "refused", tokens)
    ended: Ended = "whole" if reason == "stop" else "cut"
    closed = True
    if thought:
        text = said.strip()
    else:
        thought, text, closed = split_reasoning(said, reasoning)
    if ended == "whole" and ids and choice.get("stop_reason") is None:
        ids = ids[:-1]  # the end-of-turn token
    return Reply(text, str(thought).strip(), ended if closed else "cut", tokens, ids)
