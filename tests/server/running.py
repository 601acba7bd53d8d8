"""A server in this process, and requests to it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from afbench.server.accounts import Accounts
from afbench.server.app import create_app
from afbench.server.database import Database
from afbench.server.serving import PatientProtocol
from afbench.server.settings import Settings
from afbench.submission.bundle import archive_digest
from afbench.submission.client import DIGEST_HEADER, PATH


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    port: int
    settings: Settings
    database: Database

    def token(self, account: str = "ada") -> str:
        return Accounts(self.database).create_token(account)[1]

    def get(self, path: str, token: str | None = None) -> httpx2.Response:
        return httpx2.get(f"{self.url}/api/v1/{path}", headers=bearer(token), timeout=60)

    def send(
        self, bundle: Path | bytes, token: str | None, digest: str | None = None, **headers: bytes
    ) -> httpx2.Response:
        """Send a bundle as it is, whatever the client would say of it."""
        content = bundle if isinstance(bundle, bytes) else bundle.read_bytes()
        if digest is None and isinstance(bundle, Path):
            digest = archive_digest(bundle)
        given: dict[str, Any] = {**bearer(token), **headers}
        given |= {} if digest is None else {DIGEST_HEADER: digest}
        return httpx2.post(f"{self.url}{PATH}", headers=given, content=content, timeout=60)

    def stored(self) -> list[str]:
        """Everything in the server's folder but the database: what an upload left there."""
        folder = self.settings.data
        found = [path for path in folder.rglob("*") if path.is_file()]
        return sorted(path.name for path in found if "sqlite3" not in path.name)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def problem(reply: httpx2.Response, status: int) -> str:
    """The error of an answer that is a problem, and one line."""
    assert reply.status_code == status, reply.text
    content: dict[str, Any] = json.loads(reply.content)
    assert set(content) == {"error", "where", "fix"}
    said = " ".join(str(text) for text in content.values())
    assert "\n" not in said and "/tmp" not in said and "Traceback" not in said
    return str(content["error"])


@contextmanager
def running(settings: Settings, database: Database) -> Iterator[Running]:
    """The server, in a thread, with the protocol that it has in use."""
    config = uvicorn.Config(
        create_app(settings, database), http=PatientProtocol, log_config=None,
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        end = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive() and time.monotonic() < end
            time.sleep(0.01)
        yield Running(f"http://127.0.0.1:{port}", port, settings, database)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
