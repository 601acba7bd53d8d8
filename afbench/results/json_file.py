"""Reading JSON files that strangers may have written: sizes first, then the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from afbench.errors import AfbenchError

MAX_BYTES: Final = 256_000_000

M = TypeVar("M", bound=BaseModel)


def read_model(model: type[M], path: Path, max_bytes: int = MAX_BYTES) -> M:
    """A JSON file as a `model`.

    Raises:
        AfbenchError: it is missing, too large, no JSON, or breaks the schema; names the field.
    """
    return parse_model(model, read_bytes(path, max_bytes), path.name)


def parse_model(model: type[M], content: bytes, where: str) -> M:
    """JSON text as a `model`.

    Raises:
        AfbenchError: it is no JSON (NaN and infinity are none), or breaks the schema.
    """
    try:
        # Not model_validate_json: it takes a key that is given twice, and says not which.
        data = json.loads(content, parse_constant=_no_constant, object_pairs_hook=_once)
        return model.model_validate(data)
    except ValidationError as error:
        raise AfbenchError(first_problem(error), where=where) from None
    except (ValueError, RecursionError) as error:
        raise AfbenchError(f"not JSON: {_short(str(error))}", where=where) from None


def first_problem(error: ValidationError) -> str:
    """The first thing that breaks a schema, as one line that names the field."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return _short(f"field '{field}': {message}" if field else message)


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """A file's content.

    Raises:
        AfbenchError: it is missing, no plain file, or too large.
    """
    try:
        if not path.is_file():
            raise AfbenchError("there is no such file", where=path.name)
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise AfbenchError(f"cannot read: {error.strerror or error}", where=path.name) from None
    if len(content) > max_bytes:
        raise AfbenchError(f"larger than {max_bytes:,} bytes", where=path.name)
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}..."
