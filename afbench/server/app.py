"""The HTTP API: uploads, what has become of them, and results."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Annotated, Any, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from afbench import __version__
from afbench.leaderboard.entry import Entry
from afbench.server.accounts import Accounts, Caller
from afbench.server.database import Database
from afbench.server.intake import Intake, Status
from afbench.server.logs import log, request_id
from afbench.server.problems import answers, show_problems, unexpected
from afbench.server.queue import Queue
from afbench.server.results import Results
from afbench.server.settings import Settings
from afbench.server.uploads import Slots, announced, received, sweep
from afbench.submission.client import PATH

API: Final = "/api/v1"
_THREADS: Final = 16

T = TypeVar("T")


class Receipt(BaseModel):
    """A submission that was taken: its number, its status, and where to look for both."""

    id: str
    status: str
    url: str


class Submitted(Receipt):
    """What has become of a submission.

    `status` is queued, running, done, refused (its fault) or failed (not its fault); `reason` says
    why for the last two. `position` is its place in the queue, `received` seconds since 1970.
    """

    detector: str
    season: str
    received: float
    position: int | None = None
    reason: str | None = None
    fix: str | None = None
    entry: Entry | None = None


class Submissions(BaseModel):
    """An account's submissions in the season."""

    submissions: list[Submitted]


class SeasonShown(BaseModel):
    """A season: `status` is soon, open or closed; `used` counts an account's submissions."""

    season: str
    summary: str
    afbench: str
    opens: str
    closes: str
    status: str
    quota: int
    public: dict[str, Any]


class Seasons(BaseModel):
    """The seasons that this server takes submissions for."""

    seasons: list[SeasonShown]


class EntriesShown(BaseModel):
    """Every entry of the season with a sound signature."""

    season: str
    entries: list[Entry]


class Health(BaseModel):
    """Whether the server works; `oldest` is how long the first in the queue waits, in seconds."""

    status: str
    version: str
    queued: int
    running: int
    publishing: int
    oldest: float | None


async def known(request: Request) -> Caller:
    """Who asks. Raises ProblemError where that is nobody who may."""
    header = request.headers.get("Authorization")
    caller: Caller = await to_thread.run_sync(request.app.state.accounts.caller, header)
    request.scope["account"] = caller.name
    return caller


Asking = Annotated[Caller, Depends(known)]


def create_app(
    settings: Settings,
    database: Database | None = None,
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> FastAPI:
    """The application. Its database is migrated when it starts.

    Args:
        settings: of the API.
        database: another one than the settings name.
        beside: entered while the application runs: workers, for instance.
    """
    own = database if database is not None else Database(settings.url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(own.migrate)
        sweep(settings)
        with beside():
            log("started", version=__version__, season=settings.season)
            yield
        own.close()
        log("stopped")

    app = FastAPI(
        title="afbench leaderboard",
        version=__version__,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # these pages load scripts of another host
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(_Requests)
    show_problems(app)
    _add_submissions(app, settings, own)
    _add_public(app, settings, own)
    return app


def _add_submissions(app: FastAPI, settings: Settings, database: Database) -> None:
    intake = Intake(database, settings)
    app.state.accounts = Accounts(database, settings.rate, settings.burst)
    threads, checks = CapacityLimiter(_THREADS), CapacityLimiter(settings.checks)
    slots = Slots(settings)

    @app.post(
        PATH,
        status_code=201,
        response_model=Receipt,
        responses={
            200: {"model": Receipt, "description": "It was taken before; the same receipt."},
            **answers(400, 401, 403, 408, 409, 413, 422, 429),
        },
        openapi_extra={
            "parameters": [
                {"name": "X-Bundle-Digest", "in": "header", "required": True,
                 "schema": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}}
            ],
            "requestBody": {"required": True, "content": {"application/gzip": {}}},
        },
    )  # fmt: skip
    async def submit(request: Request, caller: Asking) -> JSONResponse:
        """Take a bundle (a .tar.gz of `afbench submit`), of the digest in X-Bundle-Digest."""
        digest = announced(request, settings)
        await to_thread.run_sync(intake.admit, caller, digest, limiter=threads)
        async with slots.of(caller.account), received(request, digest, settings) as path:
            checked = await to_thread.run_sync(intake.check, path, limiter=checks)
            status, new = await to_thread.run_sync(
                intake.store, caller, digest, checked, path, limiter=threads
            )
        request.scope["submission"] = status.id
        url = str(request.url_for("look", number=status.id))
        receipt = Receipt(id=status.id, status=status.status, url=url)
        return JSONResponse(receipt.model_dump(), 201 if new else 200)

    @app.get(PATH, response_model=Submissions, responses=answers(401, 403, 429))
    def listed(request: Request, caller: Asking) -> Submissions:
        """Your submissions in the season."""
        return Submissions(submissions=[_shown(request, one) for one in intake.listed(caller)])

    @app.get(
        PATH + "/{number}", response_model=Submitted, responses=answers(401, 403, 404, 422, 429)
    )
    def look(
        request: Request, number: Annotated[str, Path(max_length=32)], caller: Asking
    ) -> Submitted:
        """What has become of a submission of yours."""
        return _shown(request, intake.status(caller, number))


def _add_public(app: FastAPI, settings: Settings, database: Database) -> None:
    intake, results = Intake(database, settings), Results(settings.board, settings.season)
    queue = Queue(database, settings.season)

    @app.get(f"{API}/health", response_model=Health, responses=answers())
    def health() -> Health:
        """Whether the server works, and how much waits."""
        counts, oldest = queue.counts()
        return Health(
            status="ok",
            version=__version__,
            queued=counts.get("queued", 0),
            running=counts.get("running", 0),
            publishing=counts.get("publishing", 0),
            oldest=oldest,
        )

    @app.get(f"{API}/seasons", response_model=Seasons, responses=answers())
    def seasons() -> Seasons:
        """The season that submissions are taken for, and its rules."""
        rules, today = intake.rules(), time.strftime("%Y-%m-%d", time.gmtime())
        opens, closes = rules.opens.isoformat(), rules.closes.isoformat()
        status = "soon" if today < opens else "closed" if today > closes else "open"
        shown = SeasonShown(
            season=rules.season, summary=rules.summary, afbench=rules.afbench, opens=opens,
            closes=closes, status=status, quota=rules.quota, public=rules.public.model_dump(),
        )  # fmt: skip
        return Seasons(seasons=[shown])

    @app.get(f"{API}/results", response_model=EntriesShown, responses=answers())
    def every_result() -> JSONResponse:
        """Every entry of the season on the leaderboard."""
        return JSONResponse({"season": settings.season, "entries": results.entries()})


def _shown(request: Request, status: Status) -> Submitted:
    return Submitted(
        id=status.id,
        status=status.status,
        url=str(request.url_for("look", number=status.id)),
        detector=status.detector,
        season=status.season,
        received=status.received,
        position=status.position,
        reason=status.reason,
        fix=status.fix,
        entry=None if status.entry is None else Entry.model_validate(status.entry),
    )


class _Requests:
    """Gives each request a number, logs it, and keeps what goes wrong from its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        number, started, status = secrets.token_hex(8), time.monotonic(), 0
        request_id.set(number)

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()), (b"x-request-id", number.encode())
                ]  # fmt: skip
            await send(message)

        try:
            await self._app(scope, receive, answered)
        except Exception:
            answer = unexpected()
            if not status:
                await answer(scope, receive, answered)
        log(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            seconds=round(time.monotonic() - started, 4),
            account=scope.get("account"),
            submission=scope.get("submission"),
        )
