"""`afbench run -d probe` with and without `--sandbox`, in turn, from a filled cache, in one run.

    python benchmarks/sandbox_overhead.py [--cache DIR] [--organism all] [--rounds 3]

Rollouts and activations are cached before the clock is started; scores are not, so that each run
fits and scores. A run is the whole command, the start of the sandbox included. Exits 1 if the
median with the sandbox is more than 1.10 times the other, or a figure differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from afbench.store import default_cache

LIMIT = 1.10
KEPT_SCORES = "fold-scores"
# As the records of the leaderboard are made.
SCENARIOS = ("--fit-scenarios", "10", "--test-scenarios", "30")


def without_scores(cache: Path, place: Path) -> Path:
    """A cache that shares all entries of another one, but the scores of folds."""
    place.mkdir()
    for kind in cache.iterdir():
        if kind.name != KEPT_SCORES:
            (place / kind.name).symlink_to(kind)
    return place


def timed(cache: Path, folder: Path, organism: str, *extra: str) -> tuple[float, dict[str, Any]]:
    """Seconds and record of one run."""
    folder.mkdir()
    command = [
        sys.executable, "-m", "afbench.cli.app", "run", "-d", "probe", "-o", organism, *SCENARIOS,
        "--no-floors", "--no-robustness", "--no-behaviour-reading", "--json",
        "--cache", str(without_scores(cache, folder / "cache")), "--out", str(folder / "runs"),
        *extra,
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--organism", default="all")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cache = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)

    kinds = {"in process": (), "sandbox": ("--sandbox",)}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    scoring: dict[str, list[float]] = {kind: [] for kind in kinds}
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed(cache, folder / "first", options.organism)
        for number in range(options.rounds):
            for kind, extra in kinds.items():
                place = folder / f"{number}-{kind}"
                took, record = timed(cache, place, options.organism, *extra)
                assert record["cache"]["computed_forward_tokens"] == 0
                seconds[kind].append(took)
                scoring[kind].append(record["timings"]["detectors"]["probe"])
                digests.add(record["digest"])
    print(f"{len(record['folds'])} folds, {options.rounds} rounds")
    for kind in kinds:
        print(
            f"{kind:10}  run {statistics.median(seconds[kind]):7.2f} s   "
            f"fits and scores {statistics.median(scoring[kind]):7.2f} s"
        )
    ratio = statistics.median(seconds["sandbox"]) / statistics.median(seconds["in process"])
    part = statistics.median(scoring["sandbox"]) / statistics.median(scoring["in process"])
    print(f"ratio: run {ratio:.3f} (at most {LIMIT}), fits and scores {part:.3f}")
    print(f"the same figures: {len(digests) == 1}")
    return int(ratio > LIMIT or len(digests) != 1)


if __name__ == "__main__":
    sys.exit(main())
