"""What a client is told when something is not as it should be: always {error, where, fix}."""

from __future__ import annotations

import logging
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from afbench.errors import AfbenchError, StorageError
from afbench.server.logs import log, request_id

_SOON: Final = {"Retry-After": "5"}
_MAX_TEXT: Final = 500


class Problem(BaseModel):
    """What is wrong, where, and what to do about it; each is one line."""

    error: str
    where: str | None = None
    fix: str | None = None


class ProblemError(Exception):
    """A refusal with its status.

    Args:
        status: of HTTP.
        error, where, fix: as for `AfbenchError`.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        error: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.headers = status, headers
        self.problem = Problem(error=_line(error), where=_line(where), fix=_line(fix))

    @classmethod
    def of(cls, status: int, error: AfbenchError) -> ProblemError:
        """A refusal for an error's reason."""
        return cls(status, error.what, where=error.where, fix=error.fix)


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems of a route, for its documentation."""
    told = {
        400: "What arrived is not what was announced.",
        401: "No token, or an unknown one.",
        403: "A revoked token.",
        404: "There is no such submission of this account.",
        408: "It took too long; send it again.",
        409: "It was submitted before, by somebody else or as another bundle; or the season is "
        "not open.",
        413: "Too large.",
        422: "Malformed, refused by a check, or of another season or version.",
        429: "Too many requests (then with Retry-After), or the season's quota is used up.",
        500: "A fault of the server's.",
        503: "The server cannot work now; try again.",
    }
    return {one: {"model": Problem, "description": told[one]} for one in (*statuses, 500, 503)}


def show_problems(app: FastAPI) -> None:
    """Have every error of an application answered as a problem."""

    @app.exception_handler(ProblemError)
    async def _refused(_: Request, error: ProblemError) -> JSONResponse:
        log("refused", status=error.status, reason=error.problem.error)
        return _answer(error.status, error.problem, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _answer(422, Problem(error=_line(first["msg"]), where=_line(where)))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        known = {404: "there is nothing here", 405: "that cannot be done here"}
        what = known.get(error.status_code, _line(error.detail) or "it cannot be done")
        problem = Problem(error=what, fix="see /api/v1/openapi.json")
        return _answer(error.status_code, problem, dict(error.headers or {}))

    async def gone(_: Request, error: Exception) -> JSONResponse:
        log("database-gone", level=logging.ERROR, reason=_line(str(getattr(error, "orig", error))))
        problem = Problem(error="the database does not answer", fix="try again later")
        return _answer(503, problem, _SOON)

    for kind in (OperationalError, InterfaceError, PoolTimeoutError):
        app.add_exception_handler(kind, gone)

    @app.exception_handler(StorageError)
    async def _full(_: Request, error: StorageError) -> JSONResponse:
        log("storage", level=logging.ERROR, reason=str(error))
        problem = Problem(error="the server cannot store anything now", fix="try again later")
        return _answer(503, problem, _SOON)


def unexpected() -> JSONResponse:
    """The answer to a fault of the server's, which is logged; without a word on what it was."""
    log("unexpected", level=logging.ERROR, error=True)
    return _answer(
        500,
        Problem(
            error="something went wrong in the server",
            fix=f"tell who runs it, with the number {request_id.get()}",
        ),
    )


def _answer(status: int, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(problem.model_dump(), status, headers)


def _line(text: Any) -> Any:
    """A text as one printable line of some length; None stays None."""
    if text is None:
        return None
    line = "".join(char if char.isprintable() else " " for char in str(text))
    return " ".join(line.split())[:_MAX_TEXT]
