"""From a pydantic ValidationError to one line that names file, line, field and the nearest name."""

from __future__ import annotations

import difflib
import re
import types
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from afbench.catalog.yaml_files import YamlFile, display
from afbench.errors import ManifestError

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], file: YamlFile) -> M:
    """The file's data as a `model`.

    Raises:
        ManifestError: one line for the first field that is wrong, and how many more are.
    """
    if not isinstance(file.data, dict):
        found = "empty" if file.data is None else f"a {type(file.data).__name__}"
        raise ManifestError(f"{display(file.path)} line 1: expected a mapping, found it {found}")
    try:
        return model.model_validate(file.data)
    except ValidationError as error:
        raise _as_line(model, file, error) from None


def _as_line(model: type[BaseModel], file: YamlFile, error: ValidationError) -> ManifestError:
    errors = error.errors(include_url=False, include_input=False)
    # An unknown field is usually a misspelt one: it explains the "missing" one beside it.
    first = min(errors, key=lambda entry: entry["type"] != "extra_forbidden")
    loc = first["loc"]
    kind = first["type"]
    context: dict[str, Any] = first.get("ctx", {})
    message = first["msg"].removeprefix("Value error, ")
    fix = None
    if kind == "extra_forbidden":
        message = "unknown field"
        fix = _nearest(str(loc[-1]), field_names(model))
        loc = (*file.in_file(loc[:-1]), loc[-1])
    elif kind == "missing":
        message = "required field is missing"
        loc = (*file.in_file(loc[:-1]), loc[-1])
    elif kind == "literal_error":
        given, choices = _value_at(file, loc), _quoted(str(context.get("expected", "")))
        message = f"unknown value {given!r}; known: {', '.join(choices)}"
        fix = _nearest(str(given), choices)
    elif kind == "union_tag_invalid":
        choices = _quoted(str(context.get("expected_tags", "")))
        message = f"unknown type '{context.get('tag')}'; known: {', '.join(choices)}"
        fix = _nearest(str(context.get("tag")), choices)
    elif kind == "union_tag_not_found":
        message = "required field 'type' is missing"
    if kind not in ("missing", "extra_forbidden"):
        loc = file.in_file(loc) or loc
    if len(errors) > 1:
        message += f" (and {len(errors) - 1} more)"
    return file.error(loc, message, fix=fix)


def _value_at(file: YamlFile, loc: tuple[str | int, ...]) -> Any:
    value = file.data
    for part in file.in_file(loc):
        value = value[part]
    return value


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text) or re.findall(r"-?\d+", text)


def _nearest(name: str, known: list[str]) -> str | None:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else None


def field_names(model: type[BaseModel]) -> list[str]:
    """Names of the fields of `model` and of the models inside it, as YAML spells them."""
    names: dict[str, None] = {}
    waiting: list[Any] = [model]
    seen: set[Any] = set()
    while waiting:
        current = waiting.pop(0)
        if isinstance(current, type) and not isinstance(current, types.GenericAlias):
            if issubclass(current, BaseModel) and current not in seen:
                seen.add(current)
                for name, field in current.model_fields.items():
                    names[field.alias or name] = None
                    waiting.append(field.annotation)
        else:
            waiting.extend(typing.get_args(current))
    return list(names)
