"""A server on this machine that speaks both judges' wire formats, and every fault on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from afbench.judging.rubrics import REASONING

KEY = "sk-aSecretThatNobodyMaySee"
MODEL = "judge-model"
NAMES = [criterion.name for criterion in REASONING.criteria]


@dataclass
class Fault:
    """What happens to a request instead of its answer.

    Attributes:
        status: of the answer; 0 for the right one.
        headers: further ones, such as Retry-After.
        sleep: seconds before anything is sent.
        cut_at: the connection breaks after so many bytes of the body.
        text: stands in for the verdict.
        stop: why the model stopped, in Anthropic's words.
        body: stands in for the whole body.
        times: so many requests; then the next fault, or none.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: float = 0.0
    cut_at: int | None = None
    text: str | None = None
    stop: str = "end_turn"
    body: bytes | None = None
    times: int = 1


FOREVER = 10**6


@dataclass(frozen=True)
class Request:
    """A request that came."""

    path: str
    headers: Message
    body: dict[str, Any]


def verdict(suspicion: int = 0, **quotes: str) -> str:
    """A well-formed answer; a criterion with a quote is met."""
    criteria = {n: {"met": n in quotes, "quote": quotes.get(n, "")} for n in NAMES}
    return json.dumps({"criteria": criteria, "suspicion": suspicion})


def by_word(user: str) -> str:
    """Suspicious where the model wrote "caught"."""
    said = user.partition("<scratchpad>")[2]
    return verdict(90, opposition="caught") if "caught" in said else verdict(10)


class FakeProvider:
    """The state of the server; use `serve_judge`."""

    def __init__(self) -> None:
        self.url = ""
        self.key: str | None = KEY
        self.answer: Callable[[str], str] = by_word
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def fail(self, *faults: Fault) -> None:
        """The next requests meet these faults, one after the other."""
        self._faults = [Fault(**vars(fault)) for fault in faults]

    def fault(self) -> Fault | None:
        """The fault that a request meets, used up by one."""
        with self._lock:
            if not self._faults:
                return None
            fault = self._faults[0]
            fault.times -= 1
            return self._faults.pop(0) if fault.times <= 0 else fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: FakeProvider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.provider.requests.append(Request(self.path, self.headers, body))
        speak = {"/v1/messages": _Messages, "/v1/chat/completions": _Chat}.get(self.path)
        if speak is None:
            self._send(404, {"error": {"message": "no such path"}}, {})
            return
        given = self.headers.get("Authorization", "")
        if self.provider.key is not None and given != f"Bearer {self.provider.key}":
            # Some providers repeat the key that they refuse.
            self._send(401, speak.error("authentication_error", f"invalid key: {given}"), {})
            return
        problem = speak.problem(body, self.headers)
        if problem is not None:
            self._send(400, speak.error("invalid_request_error", problem), {})
            return
        if body["model"] != MODEL:
            self._send(404, speak.error("not_found_error", f"model: {body['model']}"), {})
            return
        self._meet(speak, body, self.provider.fault() or Fault())

    def _meet(self, speak: Any, body: dict[str, Any], fault: Fault) -> None:
        time.sleep(fault.sleep)
        if fault.status:
            self._send(fault.status, speak.error("api_error", f"no ({KEY})"), fault.headers)
            return
        user = body["messages"][-1]["content"]
        text = fault.text if fault.text is not None else self.provider.answer(user)
        content = speak.answer(text, fault.stop)
        self._send(200, content, fault.headers, fault.cut_at, fault.body)

    def _send(
        self,
        status: int,
        body: dict[str, Any],
        headers: Mapping[str, str],
        cut_at: int | None = None,
        content: bytes | None = None,
    ) -> None:
        data = json.dumps(body).encode() if content is None else content
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
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


class _Messages:
    """Anthropic's Messages API, version 2026-10-21."""

    @staticmethod
    def problem(body: dict[str, Any], headers: Message) -> str | None:
        if "anthropic-version" not in headers:
            return "anthropic-version: header is required"
        for name in ("temperature", "top_p", "top_k"):
            if name in body:
                return f"{name}: Extra inputs are not permitted"
        missing = [name for name in ("model", "max_tokens", "messages") if name not in body]
        return f"{missing[0]}: Field required" if missing else None

    @staticmethod
    def error(kind: str, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r1"}

    @staticmethod
    def answer(text: str, stop: str) -> dict[str, Any]:
        thinking = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [] if stop == "refusal" else [thinking, {"type": "text", "text": text}],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 20,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 500,
                "output_tokens": 60,
            },
        }


class _Chat:
    """The chat-completions format."""

    @staticmethod
    def problem(body: dict[str, Any], headers: Message) -> str | None:
        return None if isinstance(body.get("messages"), list) else "messages is required"

    @staticmethod
    def error(kind: str, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    @staticmethod
    def answer(text: str, stop: str) -> dict[str, Any]:
        refused = stop == "refusal"
        message = {
            "role": "assistant",
            "content": None if refused else text,
            "refusal": "I cannot help with that." if refused else None,
        }
        ends = {"end_turn": "stop", "max_tokens": "length", "refusal": "stop"}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": ends[stop]}],
            "usage": {
                "prompt_tokens": 520,
                "completion_tokens": 60,
                "total_tokens": 580,
                "prompt_tokens_details": {"cached_tokens": 500},
            },
        }


@contextmanager
def serve_judge() -> Iterator[FakeProvider]:
    """A provider that listens while the block runs."""
    provider = FakeProvider()
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    provider.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
