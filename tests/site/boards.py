"""A leaderboard for the site: two sweeps cut from shipped records, a season, and hostile text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from afbench.catalog.discovery import Catalog, discover
from afbench.leaderboard.entry import Flag, flagged
from afbench.leaderboard.release import feedback
from afbench.results.record import ResultRecord, load_record
from afbench.site.content import read_content
from afbench.site.curves import STEPS, CurveFile
from afbench.site.pages import Site
from afbench.store import write_json
from tests.leaderboard.boards import TODAY, Small, row, small

SHIPPED = Path(__file__).parents[2] / "leaderboard"
ZOO = "tiny-zoo"
HOSTILE = '<script src="https://evil.example/x.js">alert(1)</script>"><img src=x onerror=alert(1)>'
DETECTORS = (
    "cue-likelihood-contrast", "followup-probe", "attention-probe", "probe", "lda", "lat",
    "self-report", "keyword-monitor", "direct-gap-probe", "floor-finetuned", "floor-length",
)  # fmt: skip
BROKEN = "lat"


@cache
def shipped(split: str) -> ResultRecord:
    return load_record(SHIPPED / "results" / "nano-zoo" / f"{split}.json")


@cache
def catalog() -> Catalog:
    return discover()


def cut(split: str) -> ResultRecord:
    """A few detectors, folds and organisms of a shipped record; one detector is void."""
    record = shipped(split)
    folds = {name: record.folds[name] for name in list(record.folds)[:6]}
    tested = {name for sides in folds.values() for name in sides["test"]}
    kept = [one for one in record.detectors if one.name in DETECTORS]
    empty = kept[0].auroc.refused("void")
    broken = {"error": HOSTILE, "auroc": empty, "tpr_at_5": empty, "excess_over_floor": None,
              "auroc_by_fold": {}}  # fmt: skip
    return record.model_copy(
        update={
            "folds": folds,
            "organisms": [one for one in record.organisms if one.name in tested],
            "detectors": [
                one.model_copy(update=broken if one.name == BROKEN else {}) for one in kept
            ],
        }
    ).with_digest()


def curves(record: ResultRecord) -> CurveFile:
    """Straight lines, and all but the best two detectors beaten by the best."""
    able = [one for one in record.detectors if one.auroc.value is not None]
    able.sort(key=lambda one: (one.ceiling, -(one.auroc.value or 0.0)))
    names = [one.name for one in able]
    return CurveFile(
        record=record.digest,
        roc={name: [step / STEPS for step in range(STEPS + 1)] for name in names},
        beaten_by={name: [] if number < 2 else [names[0]] for number, name in enumerate(names)},
    )


def put_sweep(board: Path, record: ResultRecord, *, with_curves: bool = True) -> Path:
    path = board / "results" / ZOO / f"{record.settings.split}.json"
    write_json(path, record.model_dump(mode="json"))
    if with_curves:
        made = curves(record).model_dump(mode="json")
        write_json(board / "curves" / ZOO / path.name, made)
    return path


def put_entries(own: Small) -> None:
    """Entries of every status; one is flagged, and its authors and reason are hostile."""
    submission = own.signed(name="outsider").content()["submission"]
    hostile = {
        **submission,
        "authors": [HOSTILE, "x" * 200],
        "links": {"paper": "https://example.org/a?b&c"},
    }
    entry = own.signed(name="outsider", number=1, submission=hostile)
    own.put(flagged(entry, Flag(reason=HOSTILE, since=TODAY), own.key))
    own.put(own.signed(number=2))
    link = {"status": "external", "link": "https://example.org/paper"}
    own.put(own.signed(name="probing", number=3, **link))
    own.put(own.verified(number=4))
    told, _ = feedback(row("probing", 0.737), None, 0.02)
    floor, _ = feedback(row("a-floor", 0.6, floor=True), None, 0.02)
    released = {"half": "feedback", "figures": told.model_dump(mode="json"),
                "floors": [floor.model_dump(mode="json")]}  # fmt: skip
    own.put(own.verified(number=5, **released))


def leaderboard(place: Path) -> Path:
    """The whole of it, in a new folder."""
    own = small(place)
    put_sweep(own.board, cut("recipe"))
    put_sweep(own.board, cut("environment"), with_curves=False)
    put_entries(own)
    return own.board


def built(board: Path, **given: Any) -> dict[str, str]:
    """The text of every page, by path."""
    return dict(Site(read_content(board), catalog(), **given).files())


class Outline(HTMLParser):
    """A page as a flat list of its elements, with their attributes and the text in them."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "hr", "path", "use"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()
        self.unbalanced += [self.elements[at][0] for at in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in self.VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self.elements[self._open[-1]][0] != tag:
            self.unbalanced.append(f"/{tag}")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for at in self._open:
            self.elements[at][2].append(data)

    def all(self, tag: str) -> Iterator[tuple[dict[str, str | None], str]]:
        """Attributes and whole text of each element of a kind."""
        for name, attributes, texts in self.elements:
            if name == tag:
                yield attributes, " ".join(" ".join(texts).split())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
