"""A server on this machine that speaks the wire formats of remote backends, and faults on demand.

Messages and Message Batches (version 2026-10-21), chat completions, and what vLLM has beyond these.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-aKeyThatNobodyMaySee"
CLAUDE = "claude-haiku-5-5"
SERVED = "served-model"
FOREVER = 10**6


@dataclass
class Fault:
    """What happens to a request instead of its answer.

    Attributes:
        status: of the answer; 0 for the right one.
        headers: further ones, such as retry-after.
        sleep: seconds before anything is sent.
        cut_at: the connection breaks after so many bytes of the body.
        stop: why the model stopped, in the words of the Messages API.
        body: stands in for the whole body.
        times: so many requests; then the next fault, or none.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: float = 0.0
    cut_at: int | None = None
    stop: str = "end_turn"
    body: bytes | None = None
    times: int = 1


@dataclass(frozen=True)
class Request:
    """A request that came."""

    method: str
    path: str
    headers: Message
    body: dict[str, Any]


@dataclass
class Batch:
    """A batch that came.

    Attributes:
        polls: looks at it until it has ended.
        outcomes: of requests, by their place, that do not succeed.
    """

    id: str
    requests: list[dict[str, Any]]
    created: datetime
    polls: int = 1
    outcomes: dict[int, str] = field(default_factory=dict)
    archived: bool = False


class Provider:
    """The state of the server; use `serve`.

    Attributes:
        answer: the text of a reply, from the system prompt and the last user message.
        answered: bodies of the requests that were answered in full, which is what is paid for.
        hold_after: after so many answers further requests wait, and are never answered.
        most: the most requests that were under way at once.
        polls, outcomes, lose: of the next batch; `lose` breaks the connection after it was made.
    """

    def __init__(self) -> None:
        self.url = ""
        self.key: str | None = KEY
        self.vllm = False
        self.models = [SERVED]
        self.answer: Callable[[str, str], str] = lambda system, user: f"Sure. Here is: {user}"
        self.thought = ""
        self.complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self.tokenize: Callable[[dict[str, Any]], list[int]] | None = None
        self.score: Callable[[list[int]], list[Any]] | None = None
        self.requests: list[Request] = []
        self.answered: list[dict[str, Any]] = []
        self.hold_after: int | None = None
        self.holding = threading.Event()
        self.most = self._active = 0
        self.work = 0.0
        self.batches: dict[str, Batch] = {}
        self.polls = 1
        self.outcomes: dict[int, str] = {}
        self.lose = False
        self._faults: list[Fault] = []
        self.lock = threading.Lock()

    def fail(self, *faults: Fault) -> None:
        """The next requests meet these faults, one after the other."""
        self._faults = [Fault(**vars(fault)) for fault in faults]

    def fault(self) -> Fault:
        """The fault that a request meets, used up by one."""
        with self.lock:
            if not self._faults:
                return Fault()
            fault = self._faults[0]
            fault.times -= 1
            return self._faults.pop(0) if fault.times <= 0 else fault

    def sent(self, path: str) -> list[Request]:
        """The requests to a path."""
        return [request for request in self.requests if request.path == path]

    def enter(self) -> None:
        with self.lock:
            self._active += 1
            self.most = max(self.most, self._active)

    def leave(self) -> None:
        with self.lock:
            self._active -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: Provider

    def do_GET(self) -> None:
        self._handle("GET", {})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._handle("POST", json.loads(self.rfile.read(length)))

    def _handle(self, method: str, body: dict[str, Any]) -> None:
        served = self.provider
        path = self.path.partition("?")[0]
        served.requests.append(Request(method, path, self.headers, body))
        claude = path.startswith("/v1/messages")
        given = self.headers.get("Authorization", "")
        if served.key is not None and given != f"Bearer {served.key}":
            # Some providers repeat the key that they refuse.
            self._error(401, claude, "authentication_error", f"invalid key: {given}")
            return
        served.enter()
        try:
            time.sleep(served.work)
            self._answer(method, path, body, claude)
        finally:
            served.leave()

    def _answer(self, method: str, path: str, body: dict[str, Any], claude: bool) -> None:
        served = self.provider
        if path == "/v1/models":
            owner = "vllm" if served.vllm else "library"
            listed = [{"id": name, "object": "model", "owned_by": owner} for name in served.models]
            self._send(200, {"object": "list", "data": listed})
            return
        if path.startswith("/v1/messages/batches"):
            self._batches(method, path, body)
            return
        if path == "/tokenize" and served.tokenize is not None:
            tokens = served.tokenize(body)
            self._send(200, {"tokens": tokens, "count": len(tokens), "max_model_len": 4096})
            return
        if path == "/v1/completions" and served.score is not None:
            rows = served.score(body["prompt"])
            self._send(200, {"choices": [{"text": "", "prompt_logprobs": rows}]})
            return
        if path not in ("/v1/messages", "/v1/chat/completions"):
            self._error(404, claude, "not_found_error", "no such path")
            return
        problem = _problem(body, self.headers) if claude else None
        if problem is not None:
            self._error(400, claude, "invalid_request_error", problem)
            return
        if body["model"] not in ([CLAUDE] if claude else served.models):
            self._error(404, claude, "not_found_error", f"model: {body['model']}")
            return
        self._reply(body, claude)

    def _reply(self, body: dict[str, Any], claude: bool) -> None:
        served = self.provider
        fault = served.fault()
        time.sleep(fault.sleep)
        if fault.status:
            kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(fault.status, "api_error")
            self._error(fault.status, claude, kind, f"no ({KEY})", fault.headers)
            return
        with served.lock:
            full = served.hold_after is not None and len(served.answered) >= served.hold_after
            if not full:
                served.answered.append(body)
        if full:
            served.holding.set()
            time.sleep(600)
            self.close_connection = True
            return
        content = message(served, body, fault.stop) if claude else _chat(served, body, fault.stop)
        self._send(200, content, {}, fault.cut_at, fault.body)

    # --- batches ------------------------------------------------------------------------------

    def _batches(self, method: str, path: str, body: dict[str, Any]) -> None:
        served = self.provider
        parts = path.split("/")[4:]
        if method == "POST" and not parts:
            self._new_batch(body["requests"])
        elif not parts:
            newest = sorted(served.batches.values(), key=lambda one: one.created, reverse=True)
            data = [_batch(served, one) for one in newest]
            self._send(200, {"data": data, "has_more": False, "first_id": None, "last_id": None})
        elif parts[0] not in served.batches:
            self._error(404, True, "not_found_error", "no such batch")
        elif parts[1:] == ["results"]:
            self._results(served.batches[parts[0]])
        else:
            found = served.batches[parts[0]]
            found.polls -= 1
            self._send(200, _batch(served, found))

    def _new_batch(self, requests: list[dict[str, Any]]) -> None:
        served = self.provider
        fault = served.fault()
        if fault.status:
            self._error(fault.status, True, "api_error", f"no ({KEY})", fault.headers)
            return
        for one in requests:
            problem = _problem(one["params"], self.headers)
            if problem is not None or len(one["custom_id"]) > 64:
                self._error(400, True, "invalid_request_error", problem or "custom_id")
                return
        made = Batch(
            f"msgbatch_{len(served.batches)}",
            requests,
            datetime.now(UTC),
            served.polls,
            served.outcomes,
        )
        served.batches[made.id] = made
        served.answered += [
            one["params"] for at, one in enumerate(requests) if at not in served.outcomes
        ]
        if served.lose:
            self.close_connection = True
            self.connection.close()
            return
        self._send(200, _batch(served, made))

    def _results(self, batch: Batch) -> None:
        lines = []
        for at, one in reversed(list(enumerate(batch.requests))):  # in another order than sent
            outcome = batch.outcomes.get(at, "succeeded")
            result: dict[str, Any] = {"type": outcome}
            if outcome == "succeeded":
                result["message"] = message(self.provider, one["params"], "end_turn")
            elif outcome == "errored":
                inner = {"type": "api_error", "message": "Internal server error"}
                result["error"] = {"type": "error", "error": inner, "request_id": "r1"}
            lines.append(json.dumps({"custom_id": one["custom_id"], "result": result}))
        self._send(200, None, {}, None, ("\n".join(lines) + "\n").encode(), "application/x-jsonl")

    # --- the wire -----------------------------------------------------------------------------

    def _error(
        self, status: int, claude: bool, kind: str, text: str, headers: Mapping[str, str] = {}
    ) -> None:  # fmt: skip
        if claude:
            inner = {"type": kind, "message": text}
            content = {"type": "error", "error": inner, "request_id": "r1"}
        else:
            content = {"error": {"message": text, "type": kind, "param": None, "code": None}}
        self._send(status, content, headers)

    def _send(
        self,
        status: int,
        content: Any,
        headers: Mapping[str, str] = {},
        cut_at: int | None = None,
        body: bytes | None = None,
        kind: str = "application/json",
    ) -> None:
        data = json.dumps(content).encode() if body is None else body
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut_at])
        except OSError:  # the client has given up
            self.close_connection = True
        if cut_at is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _problem(body: dict[str, Any], headers: Message) -> str | None:
    """What the Messages API refuses of a request."""
    if headers.get("anthropic-version") != "2026-10-21":
        return "anthropic-version: header is required"
    for name in ("temperature", "top_p", "top_k", "seed"):
        if name in body:
            return f"{name}: Extra inputs are not permitted"
    missing = [name for name in ("model", "max_tokens", "messages") if name not in body]
    if missing:
        return f"{missing[0]}: Field required"
    if body["messages"][-1]["role"] != "user":
        return "This model does not support assistant message prefill"
    return None


def message(served: Provider, body: dict[str, Any], stop: str) -> dict[str, Any]:
    """A message of the Messages API; every word is a token."""
    blocks = body.get("system", [])
    system = "\n\n".join(block["text"] for block in blocks)
    cached = sum(len(b["text"].split()) for b in blocks if b.get("cache_control"))
    user = body["messages"][-1]["content"]
    text = served.answer(system, user)
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if (body.get("thinking") or {}).get("type") in ("adaptive", "enabled"):
        thought = {"type": "thinking", "thinking": served.thought, "signature": "c2ln"}
        content.insert(0, thought)
    if stop == "refusal":
        content = [{"type": "text", "text": "Sure. Here is"}]
    warm = any(b.get("system", [])[:1] == blocks[:1] for b in served.answered[:-1])
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": len(system.split()) - cached + len(user.split()),
            "cache_creation_input_tokens": 0 if warm else cached,
            "cache_read_input_tokens": cached if warm else 0,
            "output_tokens": len(text.split()),
        },
    }


def _batch(served: Provider, batch: Batch) -> dict[str, Any]:
    ended = batch.polls <= 0
    count = len(batch.requests)
    counts = dict.fromkeys(("canceled", "errored", "expired", "succeeded"), 0)
    counts["processing"] = 0 if ended else count
    if ended:
        for at in range(count):
            counts[batch.outcomes.get(at, "succeeded")] += 1
    now = batch.created.isoformat()
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts,
        "created_at": now,
        "expires_at": now,
        "ended_at": now if ended else None,
        "archived_at": now if batch.archived else None,
        "cancel_initiated_at": None,
        "results_url": f"{served.url}/v1/messages/batches/{batch.id}/results" if ended else None,
    }


def _chat(served: Provider, body: dict[str, Any], stop: str) -> dict[str, Any]:
    if served.complete is not None:
        return served.complete(body)
    first = body["messages"][0]
    system = first["content"] if first["role"] == "system" else ""
    text = served.answer(system, body["messages"][-1]["content"])
    ends = {"end_turn": "stop", "max_tokens": "length", "refusal": "content_filter"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": ends[stop],
            }
        ],
        "usage": {"prompt_tokens": 50, "completion_tokens": len(text.split()), "total_tokens": 60},
    }


@contextmanager
def serve() -> Iterator[Provider]:
    """A provider that listens while the block runs."""
    provider = Provider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    provider.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
