"""The main job cold, warm (its result is there) and re-evaluated from the cache, in one run.

Exits 1 if the second, identical run is not at least 10 times faster, or computes anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEAST = 10.0


def timed(folder: Path, *extra: str) -> tuple[float, dict[str, object]]:
    """Seconds and record of one run of the main job."""
    command = [
        sys.executable, "-m", "afbench.cli.app", "run", "--detector", "probe",
        "--organism", "helpful-only", "--cache", str(folder / "cache"),
        "--out", str(folder / "runs"), "--json", *extra,
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold, first = timed(folder)
        warm, second = timed(folder)
        again, third = timed(folder, "--fresh")
    cache = third["cache"]
    assert isinstance(cache, dict)
    print(f"cold: {cold:.1f} s; the same again: {warm:.1f} s, {cold / warm:.1f} x faster")
    print(
        f"evaluated again from the cache: {again:.1f} s, {cold / again:.1f} x faster, "
        f"{cache['computed_forward_tokens']} tokens forwarded"
    )
    same = first["digest"] == second["digest"] == third["digest"]
    print(f"digest the same in all three: {same}")
    return int(cold / warm < LEAST or cache["computed_forward_tokens"] != 0 or not same)


if __name__ == "__main__":
    sys.exit(main())
