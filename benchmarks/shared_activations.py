"""What six linear detectors cost over one: activations are read once, whoever asks.

Run it as `python benchmarks/shared_activations.py`; it exits 1 when the run of all linear detectors
takes more than 1.5 x the processor time of the run of `probe` alone. Both start from an empty
cache, in processes of their own, with the same organism, split and floors, and every detector
chooses among all layers and poolings.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

TARGET = 1.5
LINEAR = (
    "difference-of-means",
    "lat",
    "lda",
    "multi-layer-ensemble",
    "pca-subspace",
    "probe",
)


def run(detectors: tuple[str, ...], options: argparse.Namespace) -> tuple[float, int]:
    """Processor seconds of a run from nothing, and the tokens that models read."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "afbench.cli.app", "run", "-o", options.organism]
        command += [part for name in detectors for part in ("-d", name)]
        command += ["--split", options.split, "--out", f"{folder}/runs", "--json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"AFBENCH_CACHE": f"{folder}/cache"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, int(json.loads(done.stdout)["cache"]["computed_forward_tokens"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--organism", default="helpful-only")
    parser.add_argument("--split", default="recipe")
    options = parser.parse_args()
    alone, tokens = run(("probe",), options)
    print(f"probe alone: {alone:.0f} s of processor time, {tokens:,} tokens read", flush=True)
    together, more = run(LINEAR, options)
    ratio = together / alone
    print(f"{len(LINEAR)} linear detectors: {together:.0f} s, {more:,} tokens read")
    print(f"ratio {ratio:.2f} x (at most {TARGET}): {'met' if ratio <= TARGET else 'MISSED'}")
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
