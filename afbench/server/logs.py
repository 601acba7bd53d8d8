"""Logs: one JSON object a line on stderr.

What is logged is named field by field, so that no header, token or key gets there with the rest.
"""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import sys
from typing import Any, Final

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)

_NAME: Final = "afbench.server"
_MAX_TEXT: Final = 2000


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line: time, level, event, the request's id, and what else was given."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:_MAX_TEXT],
        }
        given = {"request": request_id.get(), **getattr(record, "fields", {})}
        line |= {key: _short(value) for key, value in given.items() if value is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Stderr(logging.Handler):
    """Prints to what stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """As `Handler.emit`."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def start_logs(level: int = logging.INFO) -> None:
    """Log to stderr as JSON, uvicorn's own messages as well."""
    handler = _Stderr()
    handler.setFormatter(JsonLines())
    for name in (_NAME, "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name == _NAME else logging.WARNING)


def log(event: str, *, level: int = logging.INFO, error: bool = False, **fields: Any) -> None:
    """Log an event.

    Args:
        event: what happened, in a word or two.
        error: with the traceback of the exception that is being handled.
        fields: account, submission and the like; None is left out.
    """
    logging.getLogger(_NAME).log(level, event, exc_info=error, extra={"fields": fields})


def _short(value: Any) -> Any:
    return value[:_MAX_TEXT] if isinstance(value, str) else value
