"""`afbench --help` and `afbench list` against `python -c "import typer, rich"`, in one run.

Exits 1 if either takes more than 4 times as long (medians of interleaved runs).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

FLOOR = [sys.executable, "-c", "import typer, rich"]
COMMANDS = {
    "afbench --help": [sys.executable, "-m", "afbench.cli.app", "--help"],
    "afbench list": [sys.executable, "-m", "afbench.cli.app", "list"],
}
ROUNDS = 15
LIMIT = 4.0


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> int:
    for command in (FLOOR, *COMMANDS.values()):
        seconds(command)  # bytecode and page cache
    times: dict[str, list[float]] = {"floor": [], **{name: [] for name in COMMANDS}}
    for _ in range(ROUNDS):
        times["floor"].append(seconds(FLOOR))
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    floor = statistics.median(times["floor"])
    print(f"import typer, rich: {floor:.3f} s")
    worst = 0.0
    for name in COMMANDS:
        ratio = statistics.median(times[name]) / floor
        worst = max(worst, ratio)
        print(f"{name}: {statistics.median(times[name]):.3f} s, {ratio:.2f} x (at most {LIMIT})")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
