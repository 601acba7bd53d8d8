"""The README's table of the whole zoo, from the records in leaderboard/results/nano-zoo/.

`--run` makes the records first, by `afbench run -d probe -d prompt-probe -o all` for every split or
for those given by `--splits`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "leaderboard/results/nano-zoo"
SPLITS = ("in-distribution", "organism", "recipe", "environment", "cue")


def make_records(splits: list[str]) -> None:
    """Run splits and keep their records."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for split in splits:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-m", "afbench.cli.app", "run", "-d", "probe",
                 "-d", "prompt-probe", "-o", "all", "--split", split, "--out", folder, "--json"],
                check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            )  # fmt: skip
            shutil.copy(json.loads(done.stdout)["path"], RESULTS / f"{split}.json")
        print(f"{split}: {RESULTS / f'{split}.json'}", file=sys.stderr)


def shown(figure: dict[str, Any]) -> str:
    """A figure with its interval."""
    if figure["value"] is None:
        return "n/a"
    if figure["low"] is None:
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def table() -> str:
    """Detectors by splits, as Markdown."""
    records = {
        split: json.loads((RESULTS / f"{split}.json").read_text("utf-8"))["detectors"]
        for split in SPLITS
    }
    names = sorted(
        (detector["floor"], -(detector["auroc"]["value"] or 0), detector["name"])
        for detector in records["recipe"]
    )
    lines = ["| detector | " + " | ".join(SPLITS) + " |", "|---" * (len(SPLITS) + 1) + "|"]
    for _, _, name in names:
        cells = []
        for split in SPLITS:
            row = next(d for d in records[split] if d["name"] == name)
            cells.append(shown(row["auroc"]))
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cells_table(split: str = "recipe") -> str:
    """AUROC of every detector in every held-out cell, as Markdown."""
    detectors = json.loads((RESULTS / f"{split}.json").read_text("utf-8"))["detectors"]
    ordered = sorted(detectors, key=lambda d: (d["floor"], -(d["auroc"]["value"] or 0), d["name"]))
    folds = sorted(ordered[0]["auroc_by_fold"])
    lines = [
        "| held out | " + " | ".join(f"`{d['name']}`" for d in ordered) + " |",
        "|---" * (len(ordered) + 1) + "|",
    ]
    for fold in folds:
        values = [d["auroc_by_fold"][fold]["value"] for d in ordered]
        cells = ["n/a" if value is None else f"{value:.2f}" for value in values]
        lines.append(f"| {fold} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def robustness_table(split: str = "recipe") -> str:
    """AUROC on evading organisms, kind by kind, as Markdown."""
    detectors = json.loads((RESULTS / f"{split}.json").read_text("utf-8"))["detectors"]
    kinds = sorted({kind for detector in detectors for kind in detector["robustness"]})
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
    arguments = parser.parse_args()
    if arguments.run:
        make_records(arguments.splits)
    print(table())
    print("\nBy held-out recipe family:\n")
    print(cells_table())
    print("\nRobustness row, split recipe:\n")
    print(robustness_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
