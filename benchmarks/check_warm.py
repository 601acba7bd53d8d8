"""How long `afbench check` takes once its organisms' replies and activations are in the cache.

    python benchmarks/check_warm.py [--zoo]

On the shipped baselines; with --zoo also on a baseline of the probe over the whole zoo, with the
same probe and with another seed, which has to be fitted and scored anew. Exits 1 above two minutes
of processor time: the machine may have other work.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_SECONDS = 120.0
ROOT = Path(__file__).parents[1]
SCENARIOS = ("--fit-scenarios", "10", "--test-scenarios", "30")


def timed(*arguments: str, cwd: Path) -> tuple[float, float]:
    """Seconds of processor and of wall-clock time of one command; it must end well."""
    command = [sys.executable, "-m", "afbench.cli.app", *arguments]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=cwd)
    passed = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, passed


def reseeded(folder: Path) -> Path:
    """A copy of the probe with another seed of its cross-validation."""
    target = folder / "probe"
    target.mkdir()
    for name in ("detector.py", "detector.yaml"):
        text = (ROOT / "detectors" / "probe" / name).read_text("utf-8")
        # A seed of its own, so that its scores are in no cache.
        seed = f"params:\n  seed: {time.time_ns() % 2**31}\n"
        (target / name).write_text(text.replace("params:\n", seed), "utf-8")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo", action="store_true")
    zoo = parser.parse_args().zoo
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = sorted((ROOT / "leaderboard" / "baselines").glob("*.json"))
        shipped = [part for path in paths for part in ("--baseline", str(path))]
        timed("check", *shipped, cwd=folder)
        found[f"{len(paths)} shipped baselines"] = timed("check", *shipped, cwd=folder)
        if zoo:
            whole = ("-d", "probe", "-o", "all", *SCENARIOS, "--into", "zoo.json")
            timed("baseline", "save", *whole, cwd=folder)
            check = ("check", "--baseline", "zoo.json", "--max-drop", "1")
            found["the zoo, same detector"] = timed(*check, cwd=folder)
            other = ("--detector", str(reseeded(folder)))
            found["the zoo, another seed"] = timed(*check, *other, cwd=folder)
    for what, (busy, passed) in found.items():
        print(f"{what}: {busy:.1f} s of processor time (at most {MOST_SECONDS:g}), {passed:.1f} s")
    return int(max(busy for busy, _ in found.values()) > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
