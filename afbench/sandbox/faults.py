"""Errors as they travel: what went wrong, where and what to do, never an object."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final

from afbench.errors import (
    AfbenchError,
    DetectorError,
    DetectorUnavailableError,
    TierError,
    UnavailableError,
)
from afbench.sandbox.protocol import Frame, plain

# By what travels; the first class that an error is an instance of gives its kind.
_KINDS: Final[dict[str, type[AfbenchError]]] = {
    "detector-unavailable": DetectorUnavailableError,
    "detector": DetectorError,
    "unavailable": UnavailableError,
    "tier": TierError,
    "error": AfbenchError,
}
_REFUSED: Final = "refused"


def failure(error: BaseException, folder: Path) -> Frame:
    """What a detector raised, as the child reports it.

    Args:
        folder: the detector's; the last line of its own in the traceback is named.
    """
    if isinstance(error, AfbenchError):
        return _frame("failed", error, error.where)
    what = f"it raised {type(error).__name__}: {error}"
    return _frame("failed", AfbenchError(what), _last_line(error.__traceback__, folder))


def refusal(error: AfbenchError) -> Frame:
    """Why a handle does not answer. Where is left out: it may name an organism."""
    return _frame("refused", error, None)


def inexact_refusal(error: Exception) -> Frame:
    """That a handle could not answer, by an error whose text may name paths of the host."""
    what = f"the handle could not answer ({type(error).__name__})"
    return Frame("refused", {"kind": _REFUSED, "what": what, "where": None, "fix": None})


def fault_of(frame: Frame) -> Exception:
    """The error that a frame tells of; whatever it says is text in one line."""
    body = frame.body
    what = plain(body.get("what"))
    if body.get("kind") == _REFUSED:
        return ValueError(what)
    kind = _KINDS.get(str(body.get("kind")), AfbenchError)
    where, fix = (
        plain(body[name]) if isinstance(body.get(name), str) else None for name in ("where", "fix")
    )
    return kind(what, where=where, fix=fix)


def _frame(kind: str, error: AfbenchError, where: str | None) -> Frame:
    name = next(name for name, one in _KINDS.items() if isinstance(error, one))
    fix = plain(error.fix) if error.fix else None
    body: dict[str, Any] = {"kind": name, "what": plain(error.what), "where": where, "fix": fix}
    return Frame(kind, body)


def _last_line(trace: TracebackType | None, folder: Path) -> str | None:
    where = None
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(folder):
            where = f"{path.relative_to(folder).as_posix()} line {trace.tb_lineno}"
        trace = trace.tb_next
    return where
