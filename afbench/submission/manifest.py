"""submission.yaml: what a submission says of itself beside its detector's manifest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from afbench.catalog.fields import Digest, Line, ManifestPart, Name
from afbench.catalog.manifests import Tier
from afbench.catalog.validation import validate
from afbench.catalog.yaml_files import YamlFile, load_yaml

FILE: Final = "submission.yaml"

# Shapes of the SPDX specification 3.0, annex B: `MIT`, `Apache-2.0 OR MIT`, `LicenseRef-own`.
_LICENCE: Final = r"(?:LicenseRef-)?[A-Za-z0-9][A-Za-z0-9.+-]*"
_EXPRESSION: Final = rf"{_LICENCE}(?: (?:AND|OR|WITH) {_LICENCE})*"
# Distributions by their normalised or usual name, and one version: PEP 508 and PEP 440.
_PIN: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*"


def _licence(text: str) -> str:
    if text.lower() in ("none", "unlicensed", "proprietary", "todo"):
        raise ValueError(f"'{text}' is no licence; give an SPDX identifier such as MIT")
    if not re.fullmatch(_EXPRESSION, text):
        raise ValueError(f"'{text}' is no SPDX expression, such as MIT or Apache-2.0 OR MIT")
    return text


def _pin(text: str) -> str:
    if not re.fullmatch(_PIN, text):
        raise ValueError(f"'{text}' is no pin; write NAME==VERSION")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        plain = False
    if not plain or not text.isprintable() or " " in text:
        raise ValueError(f"'{text[:60]}' is no address of a page (http or https)")
    return text


Short = Annotated[Line, StringConstraints(max_length=200)]
Url = Annotated[str, StringConstraints(max_length=500), AfterValidator(_url)]
Licence = Annotated[str, StringConstraints(max_length=100), AfterValidator(_licence)]
Pin = Annotated[str, StringConstraints(max_length=100), AfterValidator(_pin)]


class DeclaredBudget(ManifestPart):
    """What the detector is said to need.

    Attributes:
        seconds: the time limit of each of its calls, as in detector.yaml.
        tokens: the most tokens that organisms read or write for it in one run; None says nothing.
    """

    seconds: float = Field(gt=0, allow_inf_nan=False)
    tokens: int | None = Field(default=None, gt=0)


class SubmissionManifest(ManifestPart):
    """submission.yaml.

    `training_data` says what the detector has seen beside the cases that it is fitted on.
    `code_digest` is that of the folder without submission.yaml, as `afbench submit --init` writes
    it. `dependencies` are libraries beside those of afbench.
    """

    schema_version: Literal[1] = Field(alias="schema")
    detector: Name
    authors: list[Short] = Field(min_length=1, max_length=50)
    licence: Licence
    tier: Tier
    budget: DeclaredBudget
    training_data: Annotated[Line, StringConstraints(max_length=1000)]
    dependencies: list[Pin] = Field(default=[], max_length=50)
    code_digest: Digest
    links: dict[Name, Url] = Field(default={}, max_length=10)


def read_submission(folder: Path) -> tuple[SubmissionManifest, YamlFile]:
    """Read submission.yaml of a folder, with the lines of its fields.

    Raises:
        ManifestError: it is missing or malformed; names file, line and field.
    """
    file = load_yaml(folder / FILE)
    return validate(SubmissionManifest, file), file
