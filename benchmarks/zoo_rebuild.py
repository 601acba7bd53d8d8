"""How long the shipped zoo takes to rebuild, and what the repository weighs.

By default the seconds are those that each build measured and wrote to its build.json, the base on
every core and organisms two side by side; `--full` rebuilds everything in a copy and times it.
Exits 1 above 60 minutes for the zoo of one base, or 150 MB in all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MINUTES, MEGABYTES, JOBS = 60.0, 150.0, 2


def measured_minutes() -> dict[str, float]:
    """By base, from the builds' own stamps."""
    minutes: dict[str, float] = {}
    for stamp in ROOT.glob("organisms/*/build.json"):
        seconds = json.loads(stamp.read_text("utf-8"))["seconds"]
        source = yaml.safe_load((stamp.parent / "organism.yaml").read_text("utf-8"))["source"]
        side_by_side = 1 if source["type"] == "base" else JOBS
        name = source.get("parent", stamp.parent.name)
        minutes[name] = minutes.get(name, 0.0) + seconds / side_by_side / 60
    return minutes


def rebuilt_minutes() -> float:
    """By rebuilding a copy from nothing."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for part in ("afbench", "environments", "detectors", "organisms"):
            shutil.copytree(ROOT / part, copy / part)
        shutil.copy(ROOT / "pyproject.toml", copy)
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "afbench.cli.app", "organisms", "build", "--force",
             "--jobs", str(JOBS), "--cache", str(copy / "cache")],
            check=True, cwd=copy,
        )  # fmt: skip
        return (time.perf_counter() - started) / 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    minutes = {"everything": rebuilt_minutes()} if parser.parse_args().full else measured_minutes()
    listed = subprocess.run(
        ["git", "ls-files", "-z"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    tracked = sum((ROOT / file).stat().st_size for file in listed.split("\0") if file)
    history = sum(f.stat().st_size for f in (ROOT / ".git").rglob("*") if f.is_file())
    megabytes = (tracked + history) / 1e6
    for name, taken in sorted(minutes.items()):
        print(f"rebuild of the zoo of {name}: {taken:.1f} min (at most {MINUTES:.0f})")
    print(f"files {tracked / 1e6:.1f} MB and history {history / 1e6:.1f} MB: {megabytes:.1f} MB")
    limit = MINUTES * (len(measured_minutes()) if len(minutes) == 1 else 1)
    return int(max(minutes.values()) > limit or megabytes > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
