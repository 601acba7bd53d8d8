"""Blind scoring: a submission on a half of a season's sealed set, and its entry."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from afbench import __version__
from afbench.cases.splits import Fold, Layout, Member
from afbench.catalog.discovery import Catalog, discover
from afbench.errors import LeaderboardError, NoScoreError, NotEnoughCasesError
from afbench.leaderboard.entry import Entry, Half, signed
from afbench.leaderboard.release import Ladders, feedback
from afbench.leaderboard.sealed_set import Cell, SealedSet, check_sealed
from afbench.leaderboard.season import Season, read_season
from afbench.results.inputs import ALL, Plan, plan_over, resolve_detectors
from afbench.results.record import DetectorFigures, ResultRecord, RunSettings, load_record
from afbench.results.run import Options, run_plan
from afbench.results.zoo import zoo_of
from afbench.submission.submit import added_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afbench.leaderboard.keys import SigningKey
    from afbench.results.progress import Progress
    from afbench.store import Store
    from afbench.submission.folder import Submission

SPLIT: Final = "sealed"
"""How such a record names its split: fitted on the public zoo, tested on what is sealed."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A signed entry, and what has been released to each account once it is published."""

    entry: Entry
    ladders: Ladders


@dataclass(frozen=True, slots=True)
class Blind:
    """Scores submissions on the sealed set of one season.

    Args:
        board: the leaderboard's folder.
        season: the season's name.
        folder: the sealed set.
        store: the cache; it will hold what sealed organisms said.
        progress: told of each step.
        options: how the run is carried out; what runs a stranger's code is among them.
        plugins: further plug-ins.
    """

    board: Path
    season: str
    folder: Path
    store: Store
    progress: Progress
    options: Options
    plugins: Sequence[Path] = ()

    def record(self, submission: Submission, half: Half, today: datetime.date) -> ResultRecord:
        """The record of a submission on a half; it stays in the sealed folder.

        The same submission is not run twice.

        Raises:
            LeaderboardError: it is not the time for this half, or the sealed set is not the one
                that was committed to.
            NoScoreError: the detector has no score.
            AfbenchError: as for a run.
        """
        rules = read_season(self.board, self.season)
        rules.check_half(half, today)
        if rules.afbench != __version__:
            raise LeaderboardError(
                f"season '{self.season}' scores by afbench {rules.afbench}, not {__version__}",
                fix="install that version",
            )
        sealed, _ = check_sealed(self.board, self.folder, self.season)
        plan, catalog = self._plan(submission, rules, sealed, half)
        runs = self.folder / "runs" / plan.id
        if (runs / "result.json").is_file() and not self.options.fresh:
            record = load_record(runs / "result.json")
        else:
            record = run_plan(plan, catalog, self.store, runs, self.progress, self.options)
        row = row_of(record, submission.plugin.name)
        problem = row.error or row.unavailable
        if problem:
            raise NoScoreError(f"it has no score: {problem}", where=row.name)
        return record

    def entry(
        self,
        submission: Submission,
        half: Half,
        key: SigningKey,
        today: datetime.date,
        *,
        account: str | None = None,
        bundle: str | None = None,
        ladders: Ladders | None = None,
    ) -> Scored:
        """A signed entry of the status `verified`; of the feedback half, with what is released.

        The ladders are to be saved when the entry is published, and by one scorer at a time.

        Args:
            account: whose submissions share one Ladder; the detector's name if None.
            bundle: the digest of the bundle that it came in.
            ladders: what was released before; None for what ladder.json says.

        Raises:
            LeaderboardError, AfbenchError: as `record`.
        """
        rules = read_season(self.board, self.season)
        record = self.record(submission, half, today)
        _, commitment = check_sealed(self.board, self.folder, self.season)
        name = submission.plugin.name
        row = row_of(record, name)
        floors = [one for one in record.detectors if one.floor and one.name != name]
        ladders = Ladders.load(self.folder) if ladders is None else ladders
        if half == "feedback":
            account = account or name
            row, best = feedback(row, ladders.best.get(account), rules.step)
            # A floor is nobody's to improve: its one release is the first.
            floors = [feedback(one, None, rules.step)[0] for one in floors]
            ladders = ladders.after(account, best)
        entry = signed(
            {
                "season": self.season,
                "status": "verified",
                "half": half,
                "detector": name,
                "submission": submission.manifest.model_dump(mode="json", by_alias=True),
                "afbench": record.inputs.versions["afbench"],
                "record": record.digest,
                "bundle": bundle,
                "commitment": commitment.root,
                "settings": record.settings.model_dump(mode="json"),
                "figures": row.model_dump(mode="json"),
                "floors": [one.model_dump(mode="json") for one in floors],
                "made": today.isoformat(),
            },
            key,
        )
        return Scored(entry, ladders)

    def _plan(
        self, submission: Submission, rules: Season, sealed: SealedSet, half: Half
    ) -> tuple[Plan, Catalog]:
        from afbench.vllm_backend.choice import choose

        public = discover(self.plugins)
        catalog = added_to(discover([*self.plugins, self.folder / half]), submission)
        settings = RunSettings(
            detectors=[submission.plugin.name],
            organism=ALL,
            split=SPLIT,
            fit_scenarios=rules.fit_scenarios,
            test_scenarios=rules.test_scenarios,
            robustness=False,
        )
        members = {member.name: member for member in zoo_of(public).members}
        folds = [_fold(cell, rules, members, catalog) for cell in sealed.of_half(half)]
        detectors = resolve_detectors(settings, catalog)
        engine = (self.options.local or choose()).identity
        return plan_over(settings, catalog, detectors, Layout(tuple(folds)), engine=engine), catalog


def row_of(record: ResultRecord, detector: str) -> DetectorFigures:
    """A record's row of a detector, which it must have."""
    return next(one for one in record.detectors if one.name == detector)


def _fold(cell: Cell, rules: Season, members: Mapping[str, Member], catalog: Catalog) -> Fold:
    """Fitted on public organisms of the same base, tested on the sealed ones of a cell.

    Raises:
        NotEnoughCasesError: no public organism is left to fit on.
    """
    parent = catalog.get("organism", cell.organisms[0]).manifest.source
    base = getattr(parent, "parent", "")
    fit = tuple(
        member.name
        for member in members.values()
        if member.base == base and (rules.fit == "base" or member.environment == cell.origin)
    )
    if not fit:
        raise NotEnoughCasesError(
            f"no public organism of '{base}' is left to fit on", where=cell.environment
        )
    return Fold(cell.environment, fit, tuple(cell.organisms))
