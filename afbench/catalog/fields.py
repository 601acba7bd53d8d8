"""Types of single fields that the manifests are made of."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]*$"


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    if "\n" in text.strip():
        raise ValueError("must be one line")
    return text.strip()


def _regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=80)]
Line = Annotated[str, AfterValidator(_one_line)]
Text = Annotated[str, StringConstraints(min_length=1)]
Regex = Annotated[str, AfterValidator(_regex)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class ManifestPart(BaseModel):
    """A block of a manifest: an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
