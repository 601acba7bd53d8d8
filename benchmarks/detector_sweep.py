"""Every detector on every split: the records, and the tables that are made from them.

`--run` makes the records in leaderboard/results/nano-zoo/ by `afbench run -d all -o all --split
all`, which goes on where it was when it is killed. The tables in leaderboard/detectors/ are written
from the records that are there; the text around the tables in its README.md is kept. Beside the
records, in leaderboard/curves/, it keeps ROC curves and paired comparisons for the site.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from afbench.cases.splits import SPLITS
from afbench.results.record import load_record
from afbench.results.score_file import NAME, read_scores
from afbench.results.sweep_report import write_report
from afbench.site.curves import CURVES, curves_of
from afbench.store import write_json

ROOT = Path(__file__).parents[1]
LEADERBOARD = ROOT / "leaderboard"
# With some 190 organisms there are cases enough: about 450 on a fit side.
SCENARIOS = ("--fit-scenarios", "4", "--test-scenarios", "8")


def make_records(
    results: Path,
    *,
    detectors: Sequence[str] = ("all",),
    organism: str = "all",
    splits: Sequence[str] = SPLITS,
    jobs: int = 1,
    further: Sequence[str] = (),
) -> list[Path]:
    """Run detectors and keep the record of each split as `<split>.json`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "afbench.cli.app", "run", "-o", organism]
        command += [part for name in detectors for part in ("-d", name)]
        command += [part for name in splits for part in ("--split", name)]
        command += ["--jobs", str(jobs), "--out", folder, "--json", *SCENARIOS, *further]
        # Side by side, several threads for each process would only be in each other's way.
        environment = os.environ | ({"OMP_NUM_THREADS": "1"} if jobs > 1 else {})
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        found = json.loads(done.stdout)
        results.mkdir(parents=True, exist_ok=True)
        kept = []
        for record in found if isinstance(found, list) else [found]:
            kept.append(results / f"{record['settings']['split']}.json")
            shutil.copy(record["path"], kept[-1])
            keep_curves(Path(record["path"]), kept[-1])
    return kept


def keep_curves(source: Path, kept: Path) -> None:
    """What the site needs of scores, which are gone with the run's folder."""
    made = curves_of(load_record(source), read_scores(source.parent / NAME))
    board = kept.parents[2]
    write_json(board / CURVES / kept.parent.name / kept.name, made.model_dump(mode="json"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="make the records first")
    parser.add_argument("--detectors", nargs="+", default=["all"])
    parser.add_argument("--organism", default="all")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--into", type=Path, default=LEADERBOARD)
    parser.add_argument("further", nargs="*", help="after --: more options of `afbench run`")
    arguments = parser.parse_args()
    results = arguments.into / "results" / "nano-zoo"
    if arguments.run:
        for path in make_records(
            results,
            detectors=arguments.detectors,
            organism=arguments.organism,
            splits=arguments.splits,
            jobs=arguments.jobs,
            further=arguments.further,
        ):
            print(path, file=sys.stderr)
    there = [split for split in SPLITS if (results / f"{split}.json").is_file()]
    if not there:
        print(f"{results} holds no record; add --run", file=sys.stderr)
        return 1
    records = {split: load_record(results / f"{split}.json") for split in there}
    for path in write_report(records, arguments.into / "detectors"):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
