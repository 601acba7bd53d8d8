"""Scores a bundle in a process of its own, so that nothing of it can end the worker."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from afbench.errors import AfbenchError
from afbench.leaderboard.entry import Entry
from afbench.server.logs import log
from afbench.server.queue import Job
from afbench.server.settings import DATABASE_VARIABLE
from afbench.submission.client import TOKEN_VARIABLE

_SECRET: Final = (DATABASE_VARIABLE, TOKEN_VARIABLE)
_GRACE: Final = 5.0  # seconds between asking a process to end and ending it


class RefusedError(Exception):
    """The submission is at fault.

    Args:
        reason: as its sender is told.
        fix: what to do about it.
    """

    def __init__(self, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


class DiedError(AfbenchError):
    """The scoring ended without a result, through no fault of the submission that is known."""


@dataclass(frozen=True, slots=True)
class Released:
    """A signed entry, and the best figure released to its account once it is published."""

    entry: Entry
    best: float | None


class Scoring(Protocol):
    """One submission that is being scored."""

    def measure(self) -> None:
        """The long part: run it. To do so twice gives the same.

        Raises:
            RefusedError: the submission is at fault.
            AfbenchError: something else is.
        """

    def release(self, best: float | None) -> Released:
        """The short part: what is told of it, where `best` was released to its account before.

        Raises:
            RefusedError, AfbenchError: as `measure`.
        """

    def stop(self) -> None:
        """Have `measure` end soon, in a DiedError; asked by another thread."""


class Scorer(Protocol):
    """Scores submissions, one after the other."""

    def begin(self, bundle: Path, job: Job) -> AbstractContextManager[Scoring]:
        """Begin with a submission."""


@dataclass(frozen=True, slots=True)
class BlindScoring:
    """What blind scoring needs; all paths.

    Attributes:
        secret: further folders that no detector may see.
        cache: None for one inside the sealed set.
        trust: run it unprotected where nothing isolates.
    """

    board: Path
    season: str
    sealed: Path
    key: Path
    secret: tuple[Path, ...] = ()
    cache: Path | None = None
    plugins: tuple[Path, ...] = ()
    sandbox: str = "auto"
    trust: bool = False

    def as_json(self) -> dict[str, Any]:
        """For a child process."""
        return {
            "board": str(self.board), "season": self.season, "sealed": str(self.sealed),
            "key": str(self.key), "secret": [str(path) for path in self.secret],
            "cache": None if self.cache is None else str(self.cache),
            "plugins": [str(path) for path in self.plugins], "sandbox": self.sandbox,
            "trust": self.trust,
        }  # fmt: skip

    @classmethod
    def of_json(cls, given: dict[str, Any]) -> BlindScoring:
        """What `as_json` wrote."""
        cache = given["cache"]
        return cls(
            Path(given["board"]), given["season"], Path(given["sealed"]), Path(given["key"]),
            tuple(map(Path, given["secret"])), None if cache is None else Path(cache),
            tuple(map(Path, given["plugins"])), given["sandbox"], given["trust"],
        )  # fmt: skip


class ChildScorer:
    """Scores each submission in a fresh process (`afbench.server.child`).

    Args:
        settings: of the season.
        command: the process.
    """

    def __init__(self, settings: BlindScoring, command: Sequence[str] | None = None) -> None:
        self._settings = settings
        self._command = list(command or (sys.executable, "-P", "-m", "afbench.server.child"))

    @contextmanager
    def begin(self, bundle: Path, job: Job) -> Iterator[Scoring]:
        """As `Scorer.begin`; the process ends with the context."""
        environment = {name: text for name, text in os.environ.items() if name not in _SECRET}
        # A session of its own: an interrupt from the terminal is for the worker to act on.
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        assert process.stderr is not None
        teller = threading.Thread(target=_tell, args=(process.stderr, job.id), daemon=True)
        teller.start()
        scoring = _Child(process)
        try:
            scoring.ask({**self._settings.as_json(), "bundle": str(bundle), "account": job.account})
            yield scoring
        finally:
            scoring.stop()
            teller.join(1.0)
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                with suppress(OSError):  # of what it was not told any more
                    pipe.close()


class _Child:
    """The worker's side of a scoring process: a line of JSON each way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._ending = threading.Lock()

    def measure(self) -> None:
        self.ask({"do": "measure"})

    def release(self, best: float | None) -> Released:
        reply = self.ask({"do": "release", "best": best})
        return Released(Entry.model_validate(reply["entry"]), reply["best"])

    def stop(self) -> None:
        with self._ending:
            if self._process.poll() is not None:
                return
            self._process.terminate()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to a question.

        Raises:
            RefusedError, DiedError: as its answer says; it ended without one.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{json.dumps(question)}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        if not line:
            code = self._process.wait()
            raise DiedError(f"the scoring process ended with {code}")
        try:
            reply: dict[str, Any] = json.loads(line)
        except ValueError:
            raise DiedError("the scoring process answers something else") from None
        if "refused" in reply:
            raise RefusedError(reply["refused"], reply.get("fix"))
        if "failed" in reply:
            raise DiedError(reply["failed"])
        return reply


def _tell(stderr: IO[str], submission: str) -> None:
    """Log what a scoring process prints, line by line."""
    for line in stderr:
        if line.strip():
            log("scorer", level=logging.WARNING, submission=submission, text=line.rstrip())
