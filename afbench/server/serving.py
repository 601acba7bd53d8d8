"""Runs the API by uvicorn, and workers by themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from afbench.errors import ServerError
from afbench.server.app import create_app
from afbench.server.database import Database
from afbench.server.deciding import Decisions
from afbench.server.logs import log, start_logs
from afbench.server.queue import Queue
from afbench.server.scoring import Scorer
from afbench.server.settings import DATABASE_VARIABLE, Settings, WorkSettings
from afbench.server.supervisor import Workers
from afbench.server.worker import Tell, Worker, told

_HEAD_SECONDS: Final = 15.0
_HEAD_BYTES: Final = 32_768
_STOP_SECONDS: Final = 10
_BACKLOG: Final = 2048


class PatientProtocol(H11Protocol):
    """HTTP/1.1 for clients of any pace, up to a limit.

    uvicorn waits without end for the head of a request, and for the rest of a body that nobody
    reads any more. Here such a connection is closed.
    """

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's, and watch it."""
        super().connection_made(transport)
        self._quiet = False
        self._watch = self.loop.call_later(_HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        cycle: Any = self.cycle
        waiting = cycle is None or cycle.response_complete
        if waiting and self._quiet:
            self.transport.close()
            return
        # Closed at the second look: it may have begun to wait just before the first.
        self._quiet = waiting
        self._watch = self.loop.call_later(_HEAD_SECONDS / 2, self._look)


def serve(
    settings: Settings,
    host: str,
    port: int,
    worker: Sequence[str] = (),
    count: int = 0,
) -> None:
    """Serve the API until SIGTERM or an interrupt, with some workers beside it.

    Args:
        worker: the command of a worker; it works until its standard input ends.
        count: how many of them.

    Raises:
        ServerError: the address is taken, or the database cannot be used.
    """
    start_logs()
    database = Database(settings.url)
    database.migrate()
    # Not on the command line, which others can read: it may hold a password.
    environment = {DATABASE_VARIABLE: settings.url}
    app = create_app(settings, database, beside=lambda: Workers(worker, count, environment))
    run_app(app, settings, host, port)


def run_app(app: FastAPI, settings: Settings, host: str, port: int) -> None:
    """Serve an application until SIGTERM or an interrupt. Raises ServerError: no such address."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ServerError(
            f"cannot listen: {error.strerror or error}", where=f"{host}:{port}", fix="--port"
        ) from None
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=settings.connections,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    host, port = listening.getsockname()[:2]
    log("listening", url=f"http://{host}:{port}", season=settings.season)
    # uvicorn repeats the signal that it stopped at, which is no failure here.
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _end)
    with listening:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


def work(
    settings: Settings,
    scorer: Scorer,
    sealed: Path,
    times: WorkSettings | None = None,
    *,
    with_parent: bool = False,
    tell: Tell = told,
) -> None:
    """Work until SIGTERM or an interrupt; what is worked on then goes back into the queue.

    Args:
        scorer: what scores.
        sealed: where ladder.json lies.
        times: how long things may take.
        with_parent: stop when the standard input ends.
        tell: told of each step.

    Raises:
        ServerError: the database cannot be used.
    """
    start_logs()
    database, work_settings = Database(settings.url), times or WorkSettings()
    database.migrate()
    worker = Worker(
        Queue(database, settings.season, work_settings),
        Decisions(database, settings.season, work_settings),
        scorer,
        settings,
        work_settings,
        sealed,
        name=f"{socket.gethostname()}:{os.getpid()}",
        tell=tell,
    )
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: worker.stopping.set())
    if with_parent:
        threading.Thread(target=_until_alone, args=(worker,), daemon=True).start()
    log("worker-started", season=settings.season)
    worker.run()
    log("worker-stopped")
    database.close()


def _until_alone(worker: Worker) -> None:
    # Not by sys.stdin, whose lock a thread would hold when the interpreter ends.
    with suppress(OSError):
        while os.read(0, 1):
            pass
    worker.stopping.set()


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)
