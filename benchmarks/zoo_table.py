"""The README's table of the whole zoo, from the records in leaderboard/results/nano-zoo/.

Of the detectors in them it shows those given by `--detectors`, and every floor. `--run` makes the
records first, as `detector_sweep.py --run` does, for every split or for those given by `--splits`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from detector_sweep import make_records

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "leaderboard/results/nano-zoo"
SPLITS = ("in-distribution", "organism", "recipe", "environment", "cue")
SHOWN = ["probe", "lda", "difference-of-means", "prompt-probe"]


def detectors_of(split: str, chosen: list[str]) -> list[dict[str, Any]]:
    """The rows of a split's record: the chosen detectors and the floors."""
    content = json.loads((RESULTS / f"{split}.json").read_text("utf-8"))
    return [one for one in content["detectors"] if one["floor"] or one["name"] in chosen]


def shown(figure: dict[str, Any]) -> str:
    """A figure with its interval."""
    if figure["value"] is None:
        return "n/a"
    if figure["low"] is None:
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def table(chosen: list[str]) -> str:
    """Detectors by splits, as Markdown."""
    there = [split for split in SPLITS if (RESULTS / f"{split}.json").is_file()]
    records = {split: {d["name"]: d for d in detectors_of(split, chosen)} for split in there}
    names = sorted(
        (detector["floor"], -(detector["auroc"]["value"] or 0), detector["name"])
        for detector in records["recipe"].values()
    )
    lines = ["| detector | " + " | ".join(there) + " |", "|---" * (len(there) + 1) + "|"]
    for _, _, name in names:
        rows = [records[split].get(name) for split in there]
        cells = ["not run" if row is None else shown(row["auroc"]) for row in rows]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cells_table(chosen: list[str], split: str = "recipe") -> str:
    """AUROC of every detector in every held-out cell, as Markdown."""
    detectors = detectors_of(split, chosen)
    ordered = sorted(detectors, key=lambda d: (d["floor"], -(d["auroc"]["value"] or 0), d["name"]))
    folds = sorted(ordered[0]["auroc_by_fold"])
    lines = [
        "| held out | " + " | ".join(f"`{d['name']}`" for d in ordered) + " |",
        "|---" * (len(ordered) + 1) + "|",
    ]
    for fold in folds:
        values = [d["auroc_by_fold"].get(fold, {"value": None})["value"] for d in ordered]
        cells = ["n/a" if value is None else f"{value:.2f}" for value in values]
        lines.append(f"| {fold} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def robustness_table(chosen: list[str], split: str = "recipe") -> str:
    """AUROC on evading organisms, kind by kind, as Markdown."""
    detectors = detectors_of(split, chosen)
    kinds = sorted({kind for detector in detectors for kind in detector.get("robustness", {})})
    if not kinds:
        return "No evading organism was scored."
    lines = ["| detector | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for detector in detectors:
        found = detector["robustness"]
        cells = [shown(found[kind]["auroc"]) if kind in found else "n/a" for kind in kinds]
        lines.append(f"| `{detector['name']}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--detectors", nargs="+", default=SHOWN)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.run:
        chosen = {"detectors": arguments.detectors, "splits": arguments.splits}
        make_records(RESULTS, **chosen, jobs=arguments.jobs)
    print(table(arguments.detectors))
    print("\nBy held-out recipe family:\n")
    print(cells_table(arguments.detectors))
    print("\nRobustness row, split recipe:\n")
    print(robustness_table(arguments.detectors))
    return 0


if __name__ == "__main__":
    sys.exit(main())
