"""A server on this machine that takes bundles as the real one does, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "afb-aTokenThatNobodyMaySee"
PATH = "/api/v1/submissions"


@dataclass
class Fault:
    """What happens to one request instead of its answer.

    Attributes:
        status: of the answer; 0 is the right one.
        body: of the answer.
        read: so many bytes of the request are read before the connection breaks; None is all.
        silent: what came is kept, and the connection breaks before the answer.
        headers: of the answer.
    """

    status: int = 0
    body: bytes = b"{}"
    read: int | None = None
    silent: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class UploadServer:
    """What the server has, and what goes wrong next."""

    url: str = ""
    stored: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, digest: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Take a bundle; one that is there already is the same submission."""
        if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
            return 400, {"error": "the body is not what its digest says", "where": "body",
                         "fix": "send it again"}  # fmt: skip
        known = digest in self.stored
        self.stored[digest] = body
        number = str(list(self.stored).index(digest) + 1)
        return (200 if known else 201), self.shown(number)

    def shown(self, number: str) -> dict[str, Any]:
        return {"id": number, "status": "queued", "url": f"{self.url}/submissions/{number}"}


@contextmanager
def upload_server(*faults: Fault) -> Iterator[UploadServer]:
    """A server that is there for a while."""
    state = UploadServer(faults=list(faults))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            state.requests.append(dict(self.headers.items()))
            fault = state.faults.pop(0) if state.faults else Fault()
            length = int(self.headers["Content-Length"])
            if fault.read is not None:
                self.rfile.read(min(fault.read, length))
                self.close_connection = True
                self.connection.close()
                return
            body = self.rfile.read(length)
            if fault.status:
                self._send(fault.status, fault.body, fault.headers)
                return
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(401, json.dumps({"error": "the token is not known"}).encode())
                return
            status, content = state.answer(self.headers["X-Bundle-Digest"], body)
            if fault.silent:
                self.connection.close()
                return
            self._send(status, json.dumps(content).encode())

        def do_GET(self) -> None:
            number = self.path.removeprefix(f"{PATH}/")
            if not number.isdigit() or int(number) > len(state.stored):
                problem = {"error": f"there is no submission {number}", "where": "id"}
                self._send(404, json.dumps(problem).encode())
                return
            self._send(200, json.dumps(state.shown(number) | {"status": "scored"}).encode())

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
