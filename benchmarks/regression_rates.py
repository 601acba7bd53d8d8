"""How often `afbench check` catches a detector that was damaged, and one that was not.

    python benchmarks/regression_rates.py [--seeds 10] [--only-synthetic]

On scores that are drawn: false alarms of two equally good detectors, and the share of drops found
of the size that a check calls detectable. On organisms: copies of `detectors/probe` with another
seed or other code that does the same (harmless), and copies that read layer 0 or add noise to their
scores (damaged), each against a baseline of the probe. Exits 1 when a rate misses its target.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afbench.catalog.discovery import discover
from afbench.metrics.arrays import Floats
from afbench.metrics.detection import auroc
from afbench.regression.baseline import Measured
from afbench.regression.check import DEFAULT_MAX_DROP, Machine
from afbench.regression.comparison import Change, compare
from afbench.regression.matching import Scores, SharedCases
from afbench.regression.measuring import choose_detectors, measure, plan_cells
from afbench.regression.metrics import metric_of
from afbench.regression.paired import Procedure
from afbench.results.inputs import make_plan
from afbench.results.progress import Silent
from afbench.results.record import RunSettings
from afbench.store import Store, default_cache

ORGANISMS = ("helpful-only", "helpful-only-r16-s0", "desk-faker-r4-s0", "desk-faker-r16-s0")
FEWEST_CAUGHT = 0.95
MOST_FALSE_ALARMS = 0.05
# A drop is called detectable that is found in 80 of 100 checks, by a normal spread; so low may the
# measured rate be.
LEAST_POWER = 0.7
# Of the scores' standard deviation.
NOISE = (0.25, 0.5, 0.75)
_AVERAGED = 40
PROBE = Path(__file__).parents[1] / "detectors" / "probe"
AUROC = metric_of("auroc")


@dataclass(frozen=True)
class Variant:
    """A copy of the probe with changes in its code and parameters.

    Attributes:
        damaged: whether a check ought to find it worse.
        code: (old, new) pieces of detector.py.
        same_seed: compared with the probe of its own seed, and not with that of seed 0.
    """

    name: str
    damaged: bool
    code: tuple[tuple[str, str], ...] = ()
    same_seed: bool = False


RESEEDED = Variant("another seed", False)
VARIANTS = (
    RESEEDED,
    Variant(
        "the same in other words",
        False,
        (
            ("activations(cases, None, self.poolings)",
             "np.asarray(activations(cases, None, self.poolings), dtype=np.float64)"),
            ("return self._probe.score(features[:, 0, 0])",
             "weights, bias = self._probe.direction()\n"
             "        return features[:, 0, 0].astype(np.float64) @ weights + bias"),
        ),
        same_seed=True,
    ),
    Variant("reads layer 0", True, (("range(1, layers)", "range(1)"),)),
    Variant(
        "adds noise",
        True,
        (
            ("return self._probe.score(features[:, 0, 0])",
             "clean = self._probe.score(features[:, 0, 0])\n"
             "        noise = np.random.default_rng(self.seed).normal(size=len(clean))\n"
             "        return clean + 2 * clean.std() * noise"),
        ),
    ),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=200, help="of each synthetic setting")
    parser.add_argument("--only-synthetic", action="store_true")
    options = parser.parse_args()
    missed = list(synthetic(options.runs))
    if not options.only_synthetic:
        missed += on_organisms(options.seeds)
    for line in missed:
        print(f"missed: {line}")
    return int(bool(missed))


# -- drawn scores --------------------------------------------------------------------------------


def drawn_cases(fakers: int, lookalikes: int, scenarios: int) -> SharedCases:
    """Cases of organisms that answered some scenarios each."""
    number = fakers + lookalikes
    organisms = np.repeat(np.arange(number), scenarios)
    labels = organisms < fakers
    return SharedCases(
        folds=np.zeros(len(organisms), np.int64),
        organisms=organisms,
        scenarios=np.tile(np.arange(scenarios), number),
        labels=labels,
        scored=np.ones(len(organisms), np.bool_),
        deviant=np.zeros(len(organisms), np.bool_),
        faker=labels,
        classes=np.where(labels, "", "values-talk"),
        names=tuple(f"organism-{index:02}" for index in range(number)),
    )


def drawn_scores(
    cases: SharedCases, shift: float, broken: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Scores [n] of two detectors that have errors in common, the second damaged.

    Args:
        shift: by so much less the second tells the classes apart, in every case.
        broken: share of cases of which the second gives noise.
    """
    organisms = len(cases.names)
    common = 2 * cases.labels + 0.3 * rng.normal(size=organisms)[cases.organisms]
    common += rng.normal(size=len(cases))
    first, second = (common + 0.4 * rng.normal(size=len(cases)) for _ in range(2))
    second -= shift * cases.labels
    noise = 1 + 2 * rng.normal(size=len(cases))
    return first, np.where(rng.random(len(cases)) < broken, noise, second)


def synthetic(runs: int) -> Iterator[str]:
    """Print the rates on drawn scores; gives a line for each that misses its target."""
    print(f"drawn scores, {runs} checks each, {DEFAULT_MAX_DROP:g} tolerated")
    print("fakers  lookalikes  scenarios  damage         mean drop  detectable  found worse")
    for shape in ((1, 5, 100), (4, 8, 40), (10, 20, 20)):
        cases = drawn_cases(*shape)
        rng = np.random.default_rng(0)
        none = _drawn_rates(cases, (0.0, 0.0), runs, rng)
        print(_line(shape, "none", none))
        if none.found > MOST_FALSE_ALARMS:
            yield f"{none.found:.1%} false alarms on drawn scores {shape}"
        for name, worst in (("in every case", (1.0, 0.0)), ("in some cases", (0.0, 0.6))):
            # As much of it as makes the drop that a check calls detectable.
            much = float(np.interp(none.detectable, *_drops(cases, worst)))
            some = _drawn_rates(cases, (much * worst[0], much * worst[1]), runs, rng)
            print(_line(shape, name, some))
            if some.found < LEAST_POWER:
                yield f"{some.found:.1%} of detectable drops found on drawn scores {shape}"


@dataclass(frozen=True)
class Rates:
    """Over some checks: mean drop, mean detectable drop, share found worse."""

    drop: float
    detectable: float
    found: float


def _rates(changes: list[Change]) -> Rates:
    return Rates(
        float(np.mean([change.drop for change in changes])),
        float(np.mean([np.nan if c.detectable is None else c.detectable for c in changes])),
        float(np.mean([change.verdict == "worse" for change in changes])),
    )


def _drawn_rates(
    cases: SharedCases, damage: tuple[float, float], runs: int, rng: np.random.Generator
) -> Rates:
    return _rates([_compared(cases, *drawn_scores(cases, *damage, rng)) for _ in range(runs)])


def _drops(cases: SharedCases, worst: tuple[float, float]) -> tuple[list[float], list[float]]:
    """Mean drops, rising, and the parts of the worst damage that make them."""
    parts = [float(part) for part in np.linspace(0, 1, 11)]
    rng = np.random.default_rng(1)
    drops = []
    for part in parts:
        pairs = [
            drawn_scores(cases, part * worst[0], part * worst[1], rng) for _ in range(_AVERAGED)
        ]
        drops.append(
            float(np.mean([auroc(a, cases.labels) - auroc(b, cases.labels) for a, b in pairs]))
        )
    return list(np.maximum.accumulate(drops)), parts


def _line(shape: tuple[int, int, int], damage: str, rates: Rates) -> str:
    fakers, lookalikes, scenarios = shape
    return (
        f"{fakers:>6}  {lookalikes:>10}  {scenarios:>9}  {damage:<13}  {rates.drop:>9.3f}  "
        f"{rates.detectable:>10.3f}  {rates.found:>11.1%}"
    )


def _with_noise(measured: Measured, level: float, seed: int) -> Change:
    """The probe's own scores against the same with noise of so many of their standard deviations.

    A small damage, for which there is no target: how much of it a check finds.
    """
    every = range(len(measured.cases))
    scores = np.array(measured.detectors["probe"].scores)
    noise = np.random.default_rng(seed).normal(size=len(scores))
    return _compared(SharedCases.of(measured, every), scores, scores + level * scores.std() * noise)


def _compared(cases: SharedCases, first: Floats, second: Floats) -> Change:
    def given(values: Floats) -> Scores:
        return Scores(values, np.full(len(values), np.nan), np.full(len(values), np.inf))

    return compare(
        AUROC,
        cases,
        given(first),
        given(second),
        names=("now", "before"),
        allowed=DEFAULT_MAX_DROP,
        procedure=Procedure(replicates=1000),
    )


# -- copies of the probe -------------------------------------------------------------------------


def name_of(variant: Variant, seed: int) -> str:
    """The name of a copy."""
    return f"{variant.name.replace(' ', '-')}-{seed}"


def write_variant(variant: Variant, seed: int, folder: Path) -> Path:
    """A copy of the probe as a plug-in of its own; gives its folder."""
    name = name_of(variant, seed)
    target = folder / name
    target.mkdir()
    code = (PROBE / "detector.py").read_text("utf-8")
    for old, new in variant.code:
        assert code.count(old) == 1, f"the probe's code has changed: {old}"
        code = code.replace(old, new)
    (target / "detector.py").write_text(code, "utf-8")
    manifest = (PROBE / "detector.yaml").read_text("utf-8")
    manifest = manifest.replace("name: probe\n", f"name: {name}\n")
    manifest = manifest.replace("params:\n", f"params:\n  seed: {seed}\n")
    (target / "detector.yaml").write_text(manifest, "utf-8")
    return target


def on_organisms(seeds: int) -> Iterator[str]:
    """Print the rates on organisms; gives a line for each that misses its target."""
    found: dict[Variant, list[Change]] = {variant: [] for variant in VARIANTS}
    noisy: dict[float, list[Change]] = {level: [] for level in NOISE}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = [(variant, seed) for variant in VARIANTS for seed in range(1, seeds + 1)]
        copies = [str(write_variant(variant, seed, folder)) for variant, seed in every]
        for organism in ORGANISMS:
            measured = _measured(organism, copies)
            for variant, seed in every:
                rival = name_of(RESEEDED, seed) if variant.same_seed else "probe"
                found[variant].append(_against(rival, measured, name_of(variant, seed)))
            for level, seed in itertools.product(NOISE, range(1, seeds + 1)):
                noisy[level].append(_with_noise(measured, level, seed))
    checks = seeds * len(ORGANISMS)
    print(f"copies of the probe, {checks} checks each, {time.perf_counter() - started:.0f} s")
    print("copy                     probe  mean drop  largest  detectable  found worse")
    named = [(variant.name, changes) for variant, changes in found.items()]
    named += [(f"adds noise of {level:g} sd", changes) for level, changes in noisy.items()]
    for name, changes in named:
        rates = _rates(changes)
        before = float(np.mean([change.before for change in changes]))
        largest = max(change.drop for change in changes)
        print(
            f"{name:<23}  {before:.3f}  {rates.drop:>9.3f}  {largest:>7.3f}  "
            f"{rates.detectable:>10.3f}  {rates.found:>11.1%}"
        )
    for damaged, least in ((True, FEWEST_CAUGHT), (False, 1 - MOST_FALSE_ALARMS)):
        changes = [c for v, of in found.items() if v.damaged == damaged for c in of]
        right = float(np.mean([(change.verdict == "worse") == damaged for change in changes]))
        kind = "damaged found worse" if damaged else "harmless not found worse"
        print(f"{kind}: {right:.1%} of {len(changes)} (target: at least {least:.0%})")
        if right < least:
            yield f"{kind}: {right:.1%}"


def _measured(organism: str, detectors: list[str]) -> Measured:
    settings = RunSettings(
        detectors=["probe"], organism=organism, split="recipe", fit_scenarios=60,
        test_scenarios=100, floors=False,
    )  # fmt: skip
    catalog = discover()
    bench = Machine(catalog, Store(default_cache()), Silent()).bench({})
    folds = make_plan(settings, catalog).folds
    chosen = choose_detectors(["probe", *detectors], catalog)
    return measure(plan_cells(settings, folds, chosen, bench), bench)


def _against(rival: str, measured: Measured, name: str) -> Change:
    every = range(len(measured.cases))
    cases = SharedCases.of(measured, every)
    before, now = (
        Scores.of(measured.detectors[one], measured.cases.fold, every) for one in (rival, name)
    )
    return compare(
        AUROC,
        cases,
        before,
        now,
        names=(name, rival),
        allowed=DEFAULT_MAX_DROP,
        procedure=Procedure(),
    )


if __name__ == "__main__":
    sys.exit(main())
