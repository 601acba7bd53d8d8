"""An entry of the leaderboard: what a detector reached in a season, signed by who scored it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from afbench.catalog.fields import Digest, Line, Name
from afbench.errors import LeaderboardError
from afbench.leaderboard.keys import SigningKey, VerifyingKey
from afbench.results.json_file import first_problem, parse_model, read_bytes
from afbench.results.record import DetectorFigures, RunSettings
from afbench.store import digest_of
from afbench.submission.manifest import SubmissionManifest, Url

MAX_BYTES: Final = 4_000_000

# What is signed begins with this, so that a signature of anything else is none of an entry.
_DOMAIN: Final = b"afbench-entry-1\n"
# What may change without the entry being another one.
_NOT_MEASURED: Final = ("made", "unreliable", "key", "signature")

Status = Literal["verified", "reported", "external"]
Half = Literal["feedback", "final"]
Reason = Annotated[Line, StringConstraints(max_length=500)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Flag(_Part):
    """Why a figure is not to be relied on, and since when that is known."""

    reason: Reason
    since: datetime.date


class Entry(_Part):
    """One detector in one season.

    `verified` was scored blind by the scorer, on a half of the season's sealed set (`commitment` is
    the digest of all of it); `reported` are figures of the authors' own bundle, `external` those
    that somebody else found, with a link. `record` and `bundle` are digests.
    """

    schema_version: Literal[1] = 1
    kind: Literal["afbench-entry"] = "afbench-entry"
    season: Name
    status: Status
    half: Half | None = None
    detector: Name
    submission: SubmissionManifest
    afbench: str
    record: Digest
    bundle: Digest | None = None
    commitment: Digest | None = None
    settings: RunSettings
    figures: DetectorFigures
    floors: list[DetectorFigures] = Field(max_length=50)
    link: Url | None = None
    unreliable: Flag | None = None
    made: datetime.date
    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    signature: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        blind = self.status == "verified"
        if blind != (self.commitment is not None) or blind != (self.half is not None):
            raise ValueError("'half' and 'commitment' are for 'verified', which must give both")
        if not blind and self.bundle is None:
            raise ValueError(f"the status '{self.status}' needs a 'bundle'")
        if self.status == "external" and self.link is None:
            raise ValueError("the status 'external' needs a 'link'")
        if {self.figures.name, self.submission.detector} != {self.detector}:
            raise ValueError("the figures or the submission are another detector's")
        return self

    @property
    def digest(self) -> str:
        """The identity of what was measured; a flag, the date and the signer are no part of it."""
        content = self.content()
        return digest_of({k: v for k, v in content.items() if k not in _NOT_MEASURED})

    @property
    def file(self) -> Path:
        """Where it lies below leaderboard/results."""
        name = self.digest.removeprefix("sha256:")
        return Path(self.season, self.detector, f"{name}.json")

    def content(self) -> dict[str, Any]:
        """As JSON."""
        content: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return content


def signed(content: Mapping[str, Any], key: SigningKey) -> Entry:
    """An entry of all fields but `key` and `signature`, signed.

    Raises:
        LeaderboardError: the fields make no entry.
    """
    whole = {**content, "key": key.id, "signature": f"{'A' * 86}=="}
    try:
        entry = Entry.model_validate(whole)
    except ValidationError as error:
        raise LeaderboardError(f"not an entry: {first_problem(error)}") from None
    return entry.model_copy(update={"signature": key.sign(_message(entry))})


def flagged(entry: Entry, flag: Flag | None, key: SigningKey) -> Entry:
    """The entry with a flag, or without one, signed anew."""
    left_out = ("key", "signature", "unreliable")
    content = {name: value for name, value in entry.content().items() if name not in left_out}
    content["unreliable"] = None if flag is None else flag.model_dump(mode="json")
    return signed(content, key)


def verify(entry: Entry, keys: Mapping[str, VerifyingKey]) -> None:
    """Check an entry's signature.

    Raises:
        LeaderboardError: its key is none of these, or it was altered after it was signed.
    """
    key = keys.get(entry.key)
    if key is None:
        raise LeaderboardError(f"signed by the key {entry.key}, which is none of the leaderboard's")
    if not key.verifies(_message(entry), entry.signature):
        raise LeaderboardError("the signature does not fit: the entry was altered")


def read_entry(path: Path) -> Entry:
    """Read an entry; its signature is not looked at.

    Raises:
        AfbenchError: it cannot be read, or is malformed.
    """
    return parse_model(Entry, read_bytes(path, MAX_BYTES), path.name)


def _message(entry: Entry) -> bytes:
    content = {name: value for name, value in entry.content().items() if name != "signature"}
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return _DOMAIN + text.encode()
