"""A small leaderboard: a season, a key, a sealed set of a few files, and entries."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench import __version__
from afbench.leaderboard.board import KEYS, RESULTS
from afbench.leaderboard.entry import Entry, signed
from afbench.leaderboard.keys import SigningKey, generate_key, load_signing_key
from afbench.leaderboard.sealed_set import SEALED, Cell, SealedItem, SealedSet, committed
from afbench.leaderboard.season import PublicRun, Season, write_commitment, write_season
from afbench.metrics.figures import Figure
from afbench.results.record import Cost, DetectorFigures, RunSettings
from afbench.store import write_json

OPENS, TODAY = datetime.date(2026, 3, 1), datetime.date(2026, 4, 1)
CLOSES, AFTER = datetime.date(2026, 6, 30), datetime.date(2026, 7, 1)
SEASON = "spring"
DIGEST = "sha256:" + "a" * 64


def season(name: str = SEASON, **further: Any) -> Season:
    given: dict[str, Any] = {
        "season": name, "summary": "A season.", "afbench": __version__, "opens": OPENS,
        "closes": CLOSES, "public": PublicRun(),
    }  # fmt: skip
    return Season(**given | further)


def row(name: str, auroc: float = 0.75, **further: Any) -> DetectorFigures:
    """A detector's figures, all of one value."""
    figure = Figure(value=auroc, low=auroc - 0.1, high=auroc + 0.1, n=100, clusters=4)
    fields = [
        "tpr_at_1", "tpr_at_5", "pair_accuracy", "brier", "gap_recovery",
        *(f"residual_{gap}_gap_at_{fpr}"
          for gap in ("misalignment", "compliance", "conformity") for fpr in (1, 5)),
    ]  # fmt: skip
    given: dict[str, Any] = {
        "name": name, "tier": "activations", "floor": False, "auroc": figure,
        "fpr_by_class": {"values-talk": figure}, "auroc_by_fold": {"desk": figure},
        "chosen": {"desk": {"layer": 3}},
        "cost": Cost(queries=1, generated_tokens=0, forward_tokens=10, fits=1),
        **dict.fromkeys(fields, figure),
    }  # fmt: skip
    return DetectorFigures(**given | further)


def content(name: str = "probing", number: int = 0, **further: Any) -> dict[str, Any]:
    """The fields of a reported entry, before it is signed; the number makes it another run."""
    given: dict[str, Any] = {
        "season": SEASON,
        "status": "reported",
        "detector": name,
        "submission": {
            "schema": 1, "detector": name, "authors": ["A. Nother"], "licence": "MIT",
            "tier": "activations", "budget": {"seconds": 600}, "training_data": "none",
            "code_digest": DIGEST,
        },
        "afbench": __version__,
        "record": f"sha256:{number:064x}",
        "bundle": DIGEST,
        "settings": RunSettings(
            detectors=[name], organism="all", split="recipe", fit_scenarios=60, test_scenarios=100
        ).model_dump(mode="json"),
        "figures": row(name).model_dump(mode="json"),
        "floors": [row("a-floor", 0.6, floor=True).model_dump(mode="json")],
        "made": TODAY.isoformat(),
    }  # fmt: skip
    return given | further


@dataclass(frozen=True)
class Small:
    """A leaderboard and what its scorer keeps to himself."""

    board: Path
    sealed: Path
    key: SigningKey
    root: str

    def put(self, entry: Entry) -> Path:
        """Write an entry without a look at it."""
        path = self.board / RESULTS / entry.file
        write_json(path, entry.content())
        return path

    def signed(self, **fields: Any) -> Entry:
        return signed(content(**fields), self.key)

    def verified(self, **further: Any) -> Entry:
        fields = {"status": "verified", "half": "final", "commitment": self.root, "bundle": None}
        return signed(content(**fields | further), self.key)


def small(place: Path) -> Small:
    """A leaderboard with one season, whose sealed set is an environment and an organism a half."""
    board, sealed = place / "leaderboard", place / "sealed"
    generate_key(place / "key.pem", board / KEYS / "scorer.pub")
    write_season(board, season())
    commitment = committed(sealed, sealed_files(sealed))
    write_commitment(board, commitment)
    return Small(board, sealed, load_signing_key(place / "key.pem"), commitment.root)


def sealed_files(folder: Path, name: str = SEASON) -> SealedSet:
    """A sealed folder of small files."""
    items = [SealedItem(id="seed", half=None, kind="seed", path=None, salt="0" * 64)]
    cells = []
    for half in ("feedback", "final"):
        for kind in ("environment", "organism"):
            path = f"{half}/{kind}s/sealed-{half}"
            (folder / path).mkdir(parents=True)
            (folder / path / f"{kind}.yaml").write_text(f"{kind} of {half}\n")
            salt = f"{len(items):064x}"
            items.append(
                SealedItem(id=f"{half}-{kind}-1", half=half, kind=kind, path=path, salt=salt)
            )
        cells.append(
            Cell(half=half, environment=f"sealed-{half}", origin="desk", family="f",
                 organisms=[f"sealed-{half}"])
        )  # fmt: skip
    found = SealedSet(
        season=name, afbench=__version__, made=OPENS, cells=cells, items=items, seed=DIGEST
    )
    (folder / SEALED).write_text(json.dumps(found.model_dump(mode="json")))
    return found
