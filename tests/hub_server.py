"""A model hub on this machine: the endpoints that fetching needs, and every fault on demand.

Large files are served by redirect from a second address, as the public hub does.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

from afbench.errors import AfbenchError
from afbench.models.hub import fetch

TOKEN = "hf_aSecretThatNobodyMaySee"
LARGE = (".safetensors", ".bin", "tokenizer.json")


@dataclass
class Fault:
    """What happens to a request instead of its answer.

    Attributes:
        status: of the answer; 0 for the right one.
        code: the hub's own name of an error (X-Error-Code).
        headers: further ones, such as Retry-After.
        cut_at: the connection breaks after so many bytes of the body.
        content: stands in for the file's.
        times: so many requests; then the next fault, or none.
    """

    status: int = 0
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    content: bytes | None = None
    times: int = 1


FOREVER = 10**6


@dataclass(frozen=True)
class Request:
    """A request that came."""

    server: str
    path: str
    headers: Message


@dataclass
class Repo:
    """One commit of a repository."""

    commit: str
    files: dict[str, bytes]


class FakeHub:
    """The state of the hub; use `serve_hub`."""

    def __init__(self) -> None:
        self.url = self.store_url = ""
        self.ranges = True  # whether a part of a file can be asked for
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self._faults: dict[str, list[Fault]] = {}
        self._lock = threading.Lock()

    def add(self, repo_id: str, files: Path | Mapping[str, bytes]) -> str:
        """Publish a folder's files or the given ones; returns the commit."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes()
                for path in sorted(files.rglob("*"))
                if path.is_file()
            }
        content = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        commit = hashlib.sha1(json.dumps([repo_id, content]).encode()).hexdigest()
        self.repos[repo_id] = Repo(commit, dict(files))
        return commit

    def fail(self, part: str, *faults: Fault) -> None:
        """Requests whose path ends with `part` meet these faults, one after the other.

        A large file's own name means where it is stored; with `/resolve/<commit>/` before it, the
        hub's answer that sends one there.
        """
        self._faults[part] = [Fault(**vars(fault)) for fault in faults]

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()

    def asked(self, part: str) -> list[Request]:
        """The requests whose path ends with `part`."""
        return [request for request in self.requests if request.path.endswith(part)]

    def listed(self, repo_id: str) -> dict[str, Any]:
        """What the hub's API says of a repository."""
        repo = self.repos[repo_id]
        siblings = []
        for name, data in repo.files.items():
            head = f"blob {len(data)}\0".encode()
            row: dict[str, Any] = {
                "rfilename": name,
                "size": len(data),
                "blobId": hashlib.sha1(head + data).hexdigest(),
            }
            if name.endswith(LARGE):
                sha256 = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"size": len(data), "sha256": sha256, "pointerSize": 134}
            siblings.append(row)
        return {"id": repo_id, "sha": repo.commit, "siblings": siblings}

    def fault(self, path: str) -> Fault | None:
        """The fault that a request meets, used up by one."""
        redirected = "/resolve/" in path and path.endswith(LARGE)
        with self._lock:
            for part, faults in self._faults.items():
                if path.endswith(part) and faults and (not redirected or "/resolve/" in part):
                    faults[0].times -= 1
                    return faults.pop(0) if faults[0].times <= 0 else faults[0]
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    server_name: str

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.server_name, path, self.headers))
        fault = self.hub.fault(path)
        if fault is not None and fault.status:
            body = json.dumps({"error": "no"}).encode()
            named = {"X-Error-Code": fault.code} if fault.code else {}
            self._answer(fault.status, body, {**named, **fault.headers})
        elif path.startswith("/api/models/"):
            self._list(path.removeprefix("/api/models/"), fault)
        elif "/resolve/" in path:
            self._resolve(path, fault)
        else:
            self._send_file(path.removeprefix("/"), fault)

    def _list(self, path: str, fault: Fault | None) -> None:
        repo_id, _, revision = path.partition("/revision/")
        repo = self.hub.repos.get(repo_id)
        if repo is None:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("", repo.commit):
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif fault is not None and fault.content is not None:
            self._answer(200, fault.content, {"Content-Type": "text/html"})
        else:
            body = json.dumps(self.hub.listed(repo_id)).encode()
            self._answer(200, body, {"Content-Type": "application/json"})

    def _resolve(self, path: str, fault: Fault | None) -> None:
        repo_id, _, rest = path.removeprefix("/").partition("/resolve/")
        name = rest.partition("/")[2]
        if name.endswith(LARGE):
            self._answer(302, b"", {"Location": f"{self.hub.store_url}/{repo_id}/{name}"})
        else:
            self._send_file(f"{repo_id}/{name}", fault)

    def _send_file(self, path: str, fault: Fault | None) -> None:
        owner, repo, name = path.split("/", 2)
        content = self.hub.repos[f"{owner}/{repo}"].files[name]
        if fault is not None and fault.content is not None:
            content = fault.content
        cut_at = fault.cut_at if fault is not None else None
        given = self.headers.get("Range", "") if self.hub.ranges else ""
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        if given and start >= len(content):
            self._answer(416, b"", {})
            return
        extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._answer(206 if given else 200, content[start:], extra if given else {}, cut_at)

    def _answer(
        self, status: int, body: bytes, headers: Mapping[str, str], cut_at: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut_at])
        if cut_at is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve_hub() -> Iterator[FakeHub]:
    """A hub that listens while the block runs."""
    hub = FakeHub()
    servers = []
    for name in ("hub", "store"):
        handler = type("Handler", (_Handler,), {"hub": hub, "server_name": name})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
    hub.url, hub.store_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@contextmanager
def use_hub(cache: Path, patch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that this process and its children go to, with a token, and a cache of its own."""
    with serve_hub() as hub:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        environment = {
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_CACHE": str(cache),
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        huggingface_hub.close_session()  # it may have been made with another proxy
        yield hub
        huggingface_hub.close_session()


REPO = "maker/tiny"
WEIGHTS = "model.safetensors"
# No model: what matters here are bytes. Large enough to come in several pieces.
CONTENT = os.urandom(300_000)
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    WEIGHTS: CONTENT,
    "tokenizer.json": b"{}" * 500,
    "chat_template.jinja": b"{{ messages }}",
    "additional_chat_templates/tools.jinja": b"{{ tools }}",
    "README.md": b"# A model",
    "pytorch_model.bin": b"a pickle",
    "modeling_tiny.py": b"raise SystemExit",
    "optimizer.pt": b"a pickle",
    "checkpoint-5/model.safetensors": b"an older one",
}
WANTED = {
    "config.json", WEIGHTS, "tokenizer.json", "chat_template.jinja",
    "additional_chat_templates/tools.jinja",
}  # fmt: skip


class Fetcher:
    """Calls `fetch`, by default for REPO as it is; keeps the lines that are said."""

    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub
        self.said: list[str] = []

    def __call__(self, repo_id: str = REPO, revision: str | None = None, **options: Any) -> Path:
        commit = revision or self.hub.repos[repo_id].commit
        where = "organism 'tiny'"
        return fetch(repo_id, commit, where=where, announce=self.said.append, **options)

    def fails(self, *parts: str, **options: Any) -> None:
        """It fails with one line, which holds these parts and never the token."""
        with pytest.raises(AfbenchError) as caught:
            self(**options)
        line = str(caught.value)
        for part in (*parts, "organism 'tiny'"):
            assert part in line
        assert "\n" not in line
        assert TOKEN not in line
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def sha256_of(content: bytes) -> str:
    """A digest as manifests pin it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def names_in(folder: Path) -> set[str]:
    """The files below a folder, by their relative POSIX path."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
