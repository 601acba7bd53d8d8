"""The site of 500 results: seconds of `afbench leaderboard build`, and bytes of its first page.

    python benchmarks/site_build.py [--results 500] [--keep DIR]

The results are those of a real record, varied: that many detectors on one split, with ROC curves
and paired comparisons, so that the first page holds all of them. Exits 1 if the build takes 10 s
or more, or the first page 300 kB or more. Three builds, the median counts; each is a whole command.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from afbench.metrics.figures import Figure
from afbench.results.record import DetectorFigures, ResultRecord, load_record
from afbench.site.curves import CURVES, STEPS, CurveFile
from afbench.store import write_json

RECORD = Path(__file__).parents[1] / "leaderboard" / "results" / "nano-zoo" / "recipe.json"
SECONDS = 10.0
BYTES = 300_000


def synthetic_board(board: Path, record: ResultRecord, results: int) -> None:
    """A leaderboard with a sweep of that many detectors, and its curves."""
    made = varied(record, results)
    place = Path("synthetic", f"{made.settings.split}.json")
    write_json(board / "results" / place, made.model_dump(mode="json"))
    write_json(board / CURVES / place, synthetic_curves(made).model_dump(mode="json"))


def varied(record: ResultRecord, results: int) -> ResultRecord:
    """A record with more detectors, or fewer: copies whose AUROC is moved a little."""
    draws = random.Random(0)
    kinds = sorted(record.detectors, key=lambda one: (not one.floor, not one.ceiling, one.name))
    made = []
    for number in range(results):
        one = kinds[number % len(kinds)]
        name = one.name if number < len(kinds) else f"{one.name}-{number // len(kinds)}"
        shift = 0.0 if number < len(kinds) else draws.uniform(-0.1, 0.05)
        made.append(_moved(one, name[:80], shift))
    return record.model_copy(update={"detectors": made}).with_digest()


def synthetic_curves(record: ResultRecord) -> CurveFile:
    """Curves of the right area, and comparisons by the ends of intervals."""
    able = [one for one in record.detectors if one.auroc.value is not None]
    return CurveFile(
        record=record.digest,
        roc={one.name: _curve(one.auroc.value or 0.5) for one in able},
        beaten_by={
            one.name: [o.name for o in able if (o.auroc.low or 0.0) > (one.auroc.high or 1.0)]
            for one in able
        },
    )


def _curve(area: float) -> list[float]:
    power = (1 - min(0.99, max(0.01, area))) / min(0.99, max(0.01, area))
    return [round((step / STEPS) ** power, 3) for step in range(STEPS + 1)]


def _moved(one: DetectorFigures, name: str, shift: float) -> DetectorFigures:
    auroc = one.auroc
    if auroc.value is not None and auroc.low is not None and auroc.high is not None:
        value, low, high = (min(1.0, max(0.0, end + shift)) for end in
                            (auroc.value, auroc.low, auroc.high))  # fmt: skip
        auroc = Figure(value=value, low=low, high=high, n=auroc.n, clusters=auroc.clusters)
    cost = one.cost.model_copy(
        update={"forward_tokens": round(one.cost.forward_tokens * (1 + 10 * abs(shift)))}
    )
    return one.model_copy(update={"name": name, "auroc": auroc, "cost": cost})


def timed(board: Path, out: Path) -> float:
    """Seconds of a whole command."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "afbench.cli.app", "leaderboard", "build"]
    started = time.perf_counter()
    subprocess.run(
        [*command, "--board", str(board), "--out", str(out)], check=True, capture_output=True
    )
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="a new folder to keep board and site in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        synthetic_board(place / "leaderboard", load_record(RECORD), options.results)
        seconds = [timed(place / "leaderboard", place / "site") for _ in range(3)]
        first_page = (place / "site" / "index.html").stat().st_size
        pages = sum(1 for _ in (place / "site").rglob("*.html"))
    median = statistics.median(seconds)
    print(f"results: {options.results}, pages: {pages}")
    each = ", ".join(f"{one:.1f}" for one in seconds)
    print(f"seconds: {median:.1f} (of {each}), limit {SECONDS}")
    print(f"first page: {first_page} bytes, limit {BYTES}")
    return 0 if median < SECONDS and first_page < BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
