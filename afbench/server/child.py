"""What scores one submission (`python -m afbench.server.child`): told and answering in JSON lines.

It ends when its worker does. A detector's code runs in a sandbox, started by the main thread.
"""

from __future__ import annotations

import datetime
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from afbench.catalog.discovery import discover
from afbench.errors import (
    AfbenchError,
    DetectorError,
    ManifestError,
    NoScoreError,
    SubmissionError,
)
from afbench.leaderboard.blind import Blind
from afbench.leaderboard.entry import Half
from afbench.leaderboard.keys import load_signing_key
from afbench.leaderboard.release import Ladders
from afbench.leaderboard.season import read_season
from afbench.results.progress import Silent
from afbench.results.run import Options
from afbench.sandbox.choose import Isolation, choose
from afbench.sandbox.host import making
from afbench.server.scoring import BlindScoring
from afbench.store import Store
from afbench.submission.bundle import open_bundle
from afbench.submission.folder import Submission
from afbench.submission.rescore import differences, rescore
from afbench.submission.scored import open_scored

_GRACE: Final = 3.0


class _Refused(Exception):
    """As `scoring.RefusedError`, on this side."""

    def __init__(self, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.fix = fix


class Scored:
    """One submission.

    Args:
        settings: of the season.
        bundle: as it was taken.
        account: whose Ladder.
    """

    def __init__(self, settings: BlindScoring, bundle: Path, account: str) -> None:
        self._settings, self._account, self._path = settings, account, bundle
        self._stack = ExitStack()
        self._opened: tuple[Submission, str | None] | None = None

    def __enter__(self) -> Scored:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self) -> dict[str, Any]:
        """Check what the bundle reports, and run its detector on the sealed set."""
        self._check_figures()
        try:
            self._opened = self._stack.enter_context(open_scored(self._path))
        except (SubmissionError, ManifestError) as error:
            raise _refused(error) from None
        submission, _ = self._opened
        isolation = self._isolation()
        self._check_built(submission, isolation)
        with _blamed():
            self._blind(isolation).record(submission, self._half(), _today())
        return {}

    def release(self, best: float | None) -> dict[str, Any]:
        """The entry, given the best that was released to the account before."""
        assert self._opened is not None
        submission, digest = self._opened
        settings = self._settings
        kept = Ladders.load(settings.sealed).best.get(self._account)
        known = [one for one in (best, kept) if one is not None]
        ladders = Ladders().after(self._account, max(known, default=None))
        with _blamed():
            done = self._blind(self._isolation()).entry(
                submission, self._half(), load_signing_key(settings.key), _today(),
                account=self._account, bundle=digest, ladders=ladders,
            )  # fmt: skip
        return {"entry": done.entry.content(), "best": done.ladders.best.get(self._account)}

    def _check_figures(self) -> None:
        try:
            with open_bundle(self._path) as bundle:
                computed = rescore(bundle.record, bundle.scores(), bundle.evidence())
                found = differences(bundle.record, computed)
        except SubmissionError as error:
            raise _refused(error) from None
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise _Refused(f"its figures are not what its scores give: {found[0]}{more}")

    def _check_built(self, submission: Submission, isolation: Isolation | None) -> None:
        """Have its detector imported and built before it sees anything.

        What it says now may be told to its sender; what it says later may hold what is sealed.
        """
        catalog = discover(self._settings.plugins)
        with making(isolation, catalog, self._store().root) as factory:
            try:
                factory(submission.plugin)()
            except DetectorError as error:
                raise _refused(error) from None

    def _half(self) -> Half:
        rules = read_season(self._settings.board, self._settings.season)
        return "feedback" if _today() <= rules.closes else "final"

    def _blind(self, isolation: Isolation | None) -> Blind:
        settings = self._settings
        return Blind(
            settings.board, settings.season, settings.sealed, self._store(), Silent(),
            Options(isolation=isolation), settings.plugins,
        )  # fmt: skip

    def _store(self) -> Store:
        cache = self._settings.cache
        return Store(cache if cache is not None else self._settings.sealed / "cache")

    def _isolation(self) -> Isolation | None:
        settings = self._settings
        secret = (settings.sealed, settings.key, *settings.secret)
        return choose(settings.sandbox, trust=settings.trust, secret=secret)


def main() -> None:
    """Answer questions until the worker has no more, or is gone."""
    # What else prints shall not stand among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    questions: queue.Queue[dict[str, Any]] = queue.Queue()
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    given = questions.get()
    settings = BlindScoring.of_json(given)
    print("{}", file=answers, flush=True)
    with Scored(settings, Path(given["bundle"]), given["account"]) as scored:
        while True:
            question = questions.get()
            if question["do"] == "measure":
                reply = _answer(scored.measure)
            else:
                reply = _answer(partial(scored.release, question["best"]))
            print(json.dumps(reply, ensure_ascii=False), file=answers, flush=True)


def _answer(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except _Refused as error:
        return {"refused": str(error), "fix": error.fix}
    except AfbenchError as error:
        return {"failed": f"{type(error).__name__}: {error}"}


@contextmanager
def _blamed() -> Iterator[None]:
    """What a submission is to blame for while it runs on what is sealed."""
    try:
        yield
    except NoScoreError as error:
        print(f"no score: {error}", file=sys.stderr)
        raise _Refused(
            "the detector broke its contract on the sealed set; what it said is not told, as it "
            "may hold what is sealed",
            "'afbench submit' runs it on the public zoo",
        ) from None
    except SubmissionError as error:
        raise _refused(error) from None


def _refused(error: AfbenchError) -> _Refused:
    what = f"{error.what} ({error.where})" if error.where else error.what
    return _Refused(" ".join(what.split())[:500], error.fix)


def _listen(questions: queue.Queue[dict[str, Any]]) -> None:
    # Not by sys.stdin, whose lock this thread would hold when the interpreter ends.
    begun = b""
    while chunk := os.read(0, 65_536):
        *lines, begun = (begun + chunk).split(b"\n")
        for line in lines:
            questions.put(json.loads(line))
    # The worker is gone: clean up, and be gone as well.
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_GRACE)
    os._exit(1)


def _end(*_: object) -> NoReturn:
    raise SystemExit(143)


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


if __name__ == "__main__":
    main()
