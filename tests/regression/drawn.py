"""Cases and scores that are made up: no organism ran, no detector was fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from afbench.metrics.arrays import Floats
from afbench.regression.baseline import (
    DIGITS,
    Baseline,
    CaseColumns,
    DetectorScores,
    FoldOf,
    FoldOutcome,
    Measured,
    OrganismOf,
)
from afbench.regression.matching import Scores, SharedCases
from afbench.results.record import RunSettings

VERSIONS = {"afbench": "0.2.0", "torch": "2.13.0"}


def drawn_cases(fakers: int, lookalikes: int, scenarios: int, folds: int = 1) -> SharedCases:
    """Every organism answered the same scenarios; fold by fold other organisms."""
    number = folds * (fakers + lookalikes)
    organisms = np.repeat(np.arange(number), scenarios)
    labels = organisms % (fakers + lookalikes) < fakers
    return SharedCases(
        folds=organisms // (fakers + lookalikes),
        organisms=organisms,
        scenarios=np.tile(np.arange(scenarios), number),
        labels=labels,
        scored=np.ones(len(organisms), np.bool_),
        deviant=np.zeros(len(organisms), np.bool_),
        faker=labels,
        classes=np.where(labels, "", "values-talk"),
        names=tuple(f"organism-{index:02}" for index in range(number)),
    )


def scores_of(
    values: Sequence[float] | Floats,
    probabilities: Sequence[float] | Floats | None = None,
    threshold: float = np.inf,
) -> Scores:
    """Scores with one threshold for all."""
    array = np.array(values, dtype=np.float64)
    given = np.full(len(array), np.nan) if probabilities is None else np.array(probabilities)
    return Scores(array, given, np.full(len(array), threshold))


def common_errors(
    cases: SharedCases, rng: np.random.Generator, *, shift: float = 0.0, broken: float = 0.0
) -> tuple[Scores, Scores]:
    """Two detectors that err on the same organisms and cases, the second damaged.

    Args:
        shift: by so much less the second tells the classes apart.
        broken: share of cases of which the second gives noise.
    """
    common = 2 * cases.labels + 0.3 * rng.normal(size=len(cases.names))[cases.organisms]
    common += rng.normal(size=len(cases))
    first, second = (common + 0.4 * rng.normal(size=len(cases)) for _ in range(2))
    noise = 1 + 2 * rng.normal(size=len(cases))
    worse = np.where(rng.random(len(cases)) < broken, noise, second - shift * cases.labels)
    return scores_of(first), scores_of(worse)


def made_up(
    scores: Mapping[str, Sequence[float]],
    *,
    scenarios: int = 4,
    content: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    outcome: FoldOutcome | None = None,
    **changed: object,
) -> Measured:
    """A measurement of one faker and one lookalike, on one fold.

    Args:
        scores: of each detector, the faker's cases first.
        content: digests of the cases.
        changed: further fields, in place of the usual ones.
    """
    count = 2 * scenarios
    digests = content or [f"{index:0{DIGITS}x}" for index in range(count)]
    fields = {
        "settings": RunSettings(
            detectors=list(scores), organism="faker", split="recipe", fit_scenarios=2,
            test_scenarios=scenarios, replicates=200,
        ),
        "versions": VERSIONS,
        "folds": [FoldOf(name="faker", fit=["old-faker", "old-talker"], test=["faker", "talker"])],
        "organisms": {
            name: OrganismOf(
                digest=f"sha256:{name}", environment="desk", faker="faker" in name,
                lookalike_class=None if "faker" in name else "values-talk",
            )
            for name in ("faker", "talker", "old-faker", "old-talker")
        },
        "environments": {"desk": "sha256:desk"},
        "fit": {name: ("ab" * DIGITS) * 50 for name in ("old-faker", "old-talker")},
        "cases": CaseColumns(
            fold=[0] * count,
            organism=["faker"] * scenarios + ["talker"] * scenarios,
            scenario=[f"s{index}" for index in range(scenarios)] * 2,
            cue=["cue-00"] * count,
            label=list(labels or ["faking"] * scenarios + ["sincere"] * scenarios),  # type: ignore[arg-type]
            content=list(digests),
        ),
        "detectors": {
            name: DetectorScores(
                digest=f"sha256:{name}",
                scores=list(given),
                outcomes=[
                    outcome
                    or FoldOutcome(slope=1.0, intercept=0.0, thresholds={"0.01": 2.0, "0.05": 1.0})
                ],
            )
            for name, given in scores.items()
        },
    } | changed  # fmt: skip
    return Measured(**fields)  # type: ignore[arg-type]


def as_baseline(measured: Measured) -> Baseline:
    """A measurement as a baseline."""
    return Baseline(
        **dict(measured), created="2026-01-01T00:00:00+00:00", record="sha256:record"
    ).with_digest()
