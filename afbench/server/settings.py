"""What a server and its workers are told when they start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from afbench.submission.archive import DEFAULT, Limits

DATABASE_VARIABLE: Final = "AFBENCH_DATABASE"


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the API.

    Attributes:
        data: the folder of the server: bundles, what is arriving, and SQLite's file.
        board: the leaderboard's folder.
        season: the one that submissions are taken for.
        database: a URL of SQLAlchemy; None for SQLite's file in `data`.
        max_upload: bytes of a bundle.
        rate, burst: requests per second of one token, and how many may come at once.
        idle: seconds without a byte after which an upload is given up.
        upload: seconds that a whole upload may take.
        uploads, own_uploads: that are received at a time, and of one account.
        checks: bundles that are unpacked and checked at a time.
        connections: open ones; further ones are told to come again.
    """

    data: Path
    board: Path
    season: str
    database: str | None = None
    max_upload: int = DEFAULT.packed
    rate: float = 2.0
    burst: int = 60
    idle: float = 20.0
    upload: float = 600.0
    uploads: int = 64
    own_uploads: int = 8
    checks: int = 2
    connections: int = 1000

    @property
    def url(self) -> str:
        """Of the database."""
        return self.database or f"sqlite:///{self.data.absolute() / 'leaderboard.sqlite3'}"

    @property
    def bundles(self) -> Path:
        """Where the bundles that were taken lie."""
        return self.data / "bundles"

    @property
    def incoming(self) -> Path:
        """Where uploads lie until they are taken."""
        return self.data / "incoming"

    @property
    def limits(self) -> Limits:
        """Of a bundle."""
        return Limits(packed=self.max_upload)

    def bundle(self, archive: str) -> Path:
        """Where the bundle with a digest of its bytes lies."""
        return self.bundles / f"{archive.removeprefix('sha256:')}.tar.gz"


@dataclass(frozen=True, slots=True)
class WorkSettings:
    """Of a worker.

    Attributes:
        lease: seconds after which a worker that is not heard of has lost what it works on.
        poll: seconds between two looks at an empty queue.
        attempts: how often a submission may end its worker.
        limit: seconds that the scoring of one submission may take.
    """

    lease: float = 60.0
    poll: float = 1.0
    attempts: int = 3
    limit: float = 4 * 3600.0
