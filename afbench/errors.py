"""Every error that a user can see: what went wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AfbenchError(Exception):
    """An expected failure, shown as one line.

    Args:
        what: what went wrong, in one clause.
        where: the file and field, or the object, it went wrong in.
        fix: what the user can do.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        line = self.what
        if self.where:
            line += f" ({self.where})"
        if self.fix:
            line += f"; {self.fix}"
        return " ".join(line.split())


class ManifestError(AfbenchError):
    """A manifest or data file of a plug-in is malformed."""


class DuplicateNameError(AfbenchError):
    """Two plug-ins of one kind carry the same name."""


class DigestMismatchError(AfbenchError):
    """Weights on disk are not the ones that the manifest pins."""


class TierError(AfbenchError):
    """A detector asked its handle for more than its access tier allows."""


class UnavailableError(TierError):
    """What a detector asks for is allowed, and not to be had here: by this backend, or by no judge.

    A detector may raise it itself. Its row then says `unavailable` and why, and is not void.
    """


class BudgetError(AfbenchError):
    """A detector spent more than its budget."""


class DetectorError(AfbenchError):
    """A detector broke its contract; its scores are void."""


class DetectorUnavailableError(DetectorError):
    """A detector cannot run here, through no fault of its own; `what` says why."""


class SandboxError(AfbenchError):
    """Code cannot be isolated here, or what isolates it has failed."""


class JudgeError(AfbenchError):
    """A judge was set up wrongly, refused what it was asked, or gave too few verdicts."""


class JudgeUnavailableError(JudgeError, UnavailableError):
    """A judge cannot be asked here or now: no key, no connection, no patience left."""


class BackendError(AfbenchError):
    """A remote backend was set up wrongly, or refused what it was asked."""


class BackendUnavailableError(BackendError, UnavailableError):
    """A remote backend cannot be asked here or now: no key, no connection, no patience left.

    Args:
        begun: the last request may have been worked on, and billed.
    """

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, begun: bool = False
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.begun = begun


class SpendingLimitError(BackendUnavailableError):
    """The next request could take a run over the money that it may spend."""


class NotEnoughCasesError(AfbenchError):
    """There are too few cases of a class to go on."""


class StorageError(AfbenchError):
    """A file could not be written or read back."""


class SubmissionError(AfbenchError):
    """A submission is not what it says, or cannot be read, run or sent."""


class ArchiveError(SubmissionError):
    """An archive is damaged, or holds what is not unpacked; nothing of it was."""


class BundleError(SubmissionError):
    """A bundle is incomplete or was altered, or its parts disagree."""


class LeaderboardError(AfbenchError):
    """An entry, a key or a season of the leaderboard is not what it should be."""


class ReplayError(LeaderboardError):
    """The same run stands on the leaderboard already."""


class NoScoreError(LeaderboardError):
    """A detector broke its contract where it was scored; `what` may tell what it was shown."""


class ServerError(AfbenchError):
    """The leaderboard's server cannot do what its operator asks."""


class UnknownNameError(AfbenchError):
    """No plug-in (or option value) of that name; the nearest ones are suggested."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        if near:
            fix = "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"
        elif known:
            fix = f"known: {', '.join(known[:12])}" + (", ..." if len(known) > 12 else "")
        else:
            fix = "none is installed"
        self.name, self.near = name, near
        super().__init__(f"unknown {kind} '{name}'", fix=fix)
