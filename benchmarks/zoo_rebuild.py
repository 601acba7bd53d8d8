"""How long the shipped zoo takes to rebuild, and what the repository weighs.

By default the seconds are those that each build measured and wrote to its build.json, the base on
every core and organisms two side by side; `--full` rebuilds everything in a copy and times it.
Exits 1 above 60 minutes or 60 MB.
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

ROOT = Path(__file__).parents[1]
MINUTES, MEGABYTES, JOBS = 60.0, 60.0, 2


def measured_minutes() -> float:
    """From the builds' own stamps."""
    base, rest = 0.0, 0.0
    for stamp in ROOT.glob("organisms/*/build.json"):
        seconds = json.loads(stamp.read_text("utf-8"))["seconds"]
        if (stamp.parent / "corpus.yaml").exists():
            base += seconds
        else:
            rest += seconds
    return (base + rest / JOBS) / 60


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
    minutes = rebuilt_minutes() if parser.parse_args().full else measured_minutes()
    listed = subprocess.run(
        ["git", "ls-files", "-z"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    tracked = sum((ROOT / file).stat().st_size for file in listed.split("\0") if file)
    history = sum(f.stat().st_size for f in (ROOT / ".git").rglob("*") if f.is_file())
    megabytes = (tracked + history) / 1e6
    print(f"rebuild of the zoo: {minutes:.1f} min (at most {MINUTES:.0f})")
    print(f"files {tracked / 1e6:.1f} MB and history {history / 1e6:.1f} MB: {megabytes:.1f} MB")
    return int(minutes > MINUTES or megabytes > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
