"""Vectorised AUROC replicates against a loop over scikit-learn, on the same weights in one run.

    python benchmarks/bootstrap_speed.py [--cases 2000] [--replicates 1000]

Prints the ratio of the times and the largest difference; exits 1 below 30 x or above 1e-6.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from afbench.metrics.bootstrap import cluster_weights
from afbench.metrics.detection import auroc_replicates

MIN_RATIO = 30.0
MAX_DIFFERENCE = 1e-6
ORGANISMS = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=1000)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    organisms = np.arange(options.cases) % ORGANISMS
    scenarios = np.arange(options.cases) // ORGANISMS
    labels = organisms % 2 == 0
    # Rounding makes ties, within and across the classes.
    scores = np.round(rng.normal(size=options.cases) + labels, 2)

    start = time.perf_counter()
    weights = cluster_weights(
        organisms, scenarios, labels.astype(np.int64), options.replicates, seed=0
    )
    drawing = time.perf_counter() - start

    vectorised = []
    for _ in range(3):
        start = time.perf_counter()
        ours = auroc_replicates(scores, labels, weights)
        vectorised.append(time.perf_counter() - start)

    start = time.perf_counter()
    reference = np.array([roc_auc_score(labels, scores, sample_weight=row) for row in weights])
    loop = time.perf_counter() - start

    ratio = loop / statistics.median(vectorised)
    difference = float(np.abs(ours - reference).max())
    print(f"{options.cases} cases, {options.replicates} replicates")
    print(f"drawing the weights        {drawing:8.4f} s")
    print(f"vectorised (median of 3)    {statistics.median(vectorised):8.4f} s")
    print(f"loop over roc_auc_score    {loop:8.4f} s")
    print(f"ratio                      {ratio:8.1f} x  (at least {MIN_RATIO:g})")
    print(f"largest difference         {difference:8.1e}    (at most {MAX_DIFFERENCE:g})")
    return 0 if ratio >= MIN_RATIO and difference <= MAX_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
