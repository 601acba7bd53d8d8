"""The tables as files: CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from afbench.results.sweep_report import report_csv
from afbench.site.content import Content, SeasonEntries, Sweep
from afbench.site.standing import Place
from afbench.site.views import worst_lookalikes

Standing = Sequence[Mapping[str, Place]]


def downloads(content: Content, standing: Standing) -> dict[str, str]:
    """The files' names below data/ and their text.

    Args:
        standing: the places of every sweep in `content.sweeps`.
    """
    files = {}
    for zoo in content.zoos:
        sweeps = content.of_zoo(zoo)
        places = [p for s, p in zip(content.sweeps, standing, strict=True) if s.zoo == zoo]
        files[f"{zoo}.csv"] = report_csv({sweep.split: sweep.record for sweep in sweeps})
        files[f"{zoo}.json"] = _json([_sweep(*pair) for pair in zip(sweeps, places, strict=True)])
    for season in content.seasons:
        if season.entries:
            name = season.rules.season
            files[f"season-{name}.json"] = _json(_season(season))
            files[f"season-{name}.csv"] = _season_csv(season)
    return files


def _sweep(sweep: Sweep, places: Mapping[str, Place]) -> dict[str, Any]:
    return {
        "zoo": sweep.zoo,
        "split": sweep.split,
        "afbench": sweep.version,
        "record": sweep.record.digest,
        "detectors": [
            {
                "rank": _rank(places.get(one.name)),
                "worst_lookalikes": worst[0] if (worst := worst_lookalikes(one)) else None,
                **one.model_dump(mode="json", exclude={"auroc_by_fold", "chosen"}),
            }
            for one in sweep.record.detectors
        ],
    }


def _rank(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {"first": place.first, "last": place.last, "paired_tests": place.tested}


def _season(season: SeasonEntries) -> dict[str, Any]:
    return {
        "season": season.rules.season,
        "afbench": season.rules.afbench,
        "entries": [one.content() for one in season.entries],
    }


def _season_csv(season: SeasonEntries) -> str:
    out = io.StringIO()
    names = [
        "detector", "status", "half", "unreliable", "tier", "auroc", "auroc_low", "auroc_high",
        "forward_tokens", "generated_tokens", "record",
    ]  # fmt: skip
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for one in season.entries:
        auroc, cost = one.figures.auroc, one.figures.cost
        ends = zip(("auroc", "auroc_low", "auroc_high"), (auroc.value, auroc.low, auroc.high),
                   strict=True)  # fmt: skip
        writer.writerow(
            {
                "detector": one.detector,
                "status": one.status,
                "half": one.half or "",
                "unreliable": "yes" if one.unreliable else "no",
                "tier": one.submission.tier,
                **{key: "" if value is None else f"{value:.6g}" for key, value in ends},
                "forward_tokens": cost.forward_tokens,
                "generated_tokens": cost.generated_tokens,
                "record": one.record,
            }
        )
    return out.getvalue()


def _json(value: Any) -> str:
    # ASCII only: text of strangers may hold characters that are no UTF-8.
    return json.dumps(value, ensure_ascii=True, allow_nan=False) + "\n"
