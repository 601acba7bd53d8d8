"""Which cases of a baseline and of a run are the same, as arrays for the metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from afbench.errors import AfbenchError
from afbench.metrics.arrays import Bools, Floats, Ints
from afbench.metrics.calibration import PlattScaling
from afbench.regression.baseline import DIGITS, DetectorScores, Measured
from afbench.results.record import Inputs

MAX_CHANGED: Final = 0.02
"""Share of cases that may differ before a check is refused. Rounding differs between processors,
and now and then another token comes out; more than that is another benchmark."""

_NAMED = 4
_ANEW = "make the baseline anew with 'afbench baseline save'"


@dataclass(frozen=True, slots=True)
class SharedCases:
    """Test cases that both sides hold, as arrays [n] of one order.

    Attributes:
        folds, organisms, scenarios: numbers; equal scenarios of one environment share one.
        labels: True is faking.
        scored: the label is one that detectors are scored by.
        deviant: it deviates while observed, openly.
        faker: the organism is one.
        classes: lookalike class of the organism, "" for fakers.
        names: of the organisms, by number.
    """

    folds: Ints
    organisms: Ints
    scenarios: Ints
    labels: Bools
    scored: Bools
    deviant: Bools
    faker: Bools
    classes: NDArray[np.str_]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.folds)

    @classmethod
    def of(cls, measured: Measured, keep: Sequence[int]) -> SharedCases:
        """Some cases of a measurement, by their places."""
        columns = measured.cases
        names = tuple(sorted({columns.organism[at] for at in keep}))
        number = {name: index for index, name in enumerate(names)}
        about = [measured.organisms[columns.organism[at]] for at in keep]
        spots = [
            (organism.environment, columns.scenario[at])
            for organism, at in zip(about, keep, strict=True)
        ]
        known = {spot: index for index, spot in enumerate(sorted(set(spots)))}
        labels = [columns.label[at] for at in keep]
        return cls(
            folds=np.array([columns.fold[at] for at in keep], np.int64),
            organisms=np.array([number[columns.organism[at]] for at in keep], np.int64),
            scenarios=np.array([known[spot] for spot in spots], np.int64),
            labels=np.array([label == "faking" for label in labels], np.bool_),
            scored=np.array([label in ("faking", "sincere") for label in labels], np.bool_),
            deviant=np.array([label == "deviant" for label in labels], np.bool_),
            faker=np.array([organism.faker for organism in about], np.bool_),
            classes=np.array([organism.lookalike_class or "" for organism in about], np.str_),
            names=names,
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """What one detector says of the cases, arrays [n].

    Attributes:
        probabilities: calibrated on fit cases; NaN where the fold's fit could not calibrate.
        thresholds: for a false-positive rate of 5% of the fit side; infinite where there is none.
    """

    scores: Floats
    probabilities: Floats
    thresholds: Floats

    @classmethod
    def of(cls, given: DetectorScores, folds: Sequence[int], keep: Sequence[int]) -> Scores:
        """Some scores of a measurement, by their places; `folds` is of all its cases."""
        places = np.array(keep, dtype=np.int64)
        of_fold = np.array(folds, dtype=np.int64)[places]
        scores = np.array(given.scores, dtype=np.float64)[places]
        probabilities = np.full(len(places), np.nan)
        thresholds = np.full(len(places), np.inf)
        for number, outcome in enumerate(given.outcomes):
            own = of_fold == number
            if outcome.slope is not None and outcome.intercept is not None:
                scaling = PlattScaling(outcome.slope, outcome.intercept)
                probabilities[own] = scaling.probabilities(scores[own])
            limit = outcome.thresholds.get("0.05")
            if limit is not None:
                thresholds[own] = limit
        return cls(scores, probabilities, thresholds)

    def taken(self, order: Ints) -> Scores:
        """Scores of other cases in place of each one's own; thresholds stay."""
        return Scores(self.scores[order], self.probabilities[order], self.thresholds)


@dataclass(frozen=True, slots=True)
class Matched:
    """The cases that a baseline and a run share.

    Attributes:
        before, now: places of the shared cases in either, in one order.
        changed: how many cases of the baseline are not among them.
        changed_fit: how many fit cases differ.
    """

    before: tuple[int, ...]
    now: tuple[int, ...]
    changed: int
    changed_fit: int

    @property
    def note(self) -> str | None:
        """What a reader must know of cases that differ; None if none does."""
        if not self.changed and not self.changed_fit:
            return None
        return (
            f"{self.changed} test cases and {self.changed_fit} fit cases read otherwise than in "
            "the baseline: the former are left out"
        )


def match(before: Measured, now: Measured, *, where: str) -> Matched:
    """The shared cases of a baseline and of a run of its cells.

    Args:
        where: the baseline's file, for messages.

    Raises:
        AfbenchError: more than `MAX_CHANGED` of the cases differ.
    """
    places = {key: at for at, key in enumerate(_keys(now))}
    pairs = [
        (at, places[key])
        for at, key in enumerate(_keys(before))
        if key in places and before.cases.content[at] == now.cases.content[places[key]]
    ]
    changed = len(before.cases) - len(pairs)
    fit_total = sum(len(text) for text in before.fit.values()) // DIGITS
    changed_fit = sum(_changed(text, now.fit.get(name, "")) for name, text in before.fit.items())
    for kind, count, total in (
        ("test", changed, len(before.cases)),
        ("fit", changed_fit, fit_total),
    ):
        if count > MAX_CHANGED * total:
            raise AfbenchError(
                f"{count} of {total} {kind} cases read otherwise than in the baseline"
                f"{_versions(before, now)}: this is no longer the same benchmark",
                where=where,
                fix=_ANEW,
            )
    return Matched(tuple(at for at, _ in pairs), tuple(at for _, at in pairs), changed, changed_fit)


def check_inputs(before: Measured, inputs: Inputs, *, where: str) -> None:
    """Whether the organisms and environments are those of a baseline.

    Args:
        inputs: of the run that is to come.

    Raises:
        AfbenchError: the weights of one, an environment or the user's model differ.
    """
    weights = {name: one.digest for name, one in before.organisms.items()}
    for kind, old, new in (
        ("weights of", weights, inputs.organisms),
        ("environment", before.environments, inputs.environments),
    ):
        other = sorted(name for name in old if old[name] != new.get(name))
        if other:
            more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
            raise AfbenchError(
                f"the {kind} {', '.join(other[:_NAMED])}{more} changed since the baseline",
                where=where,
                fix=_ANEW,
            )
    if before.model != inputs.model:
        raise AfbenchError(
            f"the baseline's organisms ran on {before.model or 'their own weights'}, and these "
            f"would on {inputs.model or 'their own weights'}",
            where=where,
            fix="give the same --model and --revision",
        )


def _keys(measured: Measured) -> Iterator[tuple[str, str, str, str]]:
    names = [fold.name for fold in measured.folds]
    columns = measured.cases
    rows = zip(columns.fold, columns.organism, columns.scenario, columns.cue, strict=True)
    for fold, organism, scenario, cue in rows:
        yield names[fold], organism, scenario, cue


def _changed(before: str, now: str) -> int:
    old, new = (
        [text[at : at + DIGITS] for at in range(0, len(text), DIGITS)] for text in (before, now)
    )
    same = sum(a == b for a, b in zip(old, new, strict=False))
    return max(len(old), len(new)) - same


def _versions(before: Measured, now: Measured) -> str:
    """What computes otherwise now, as a part of a sentence."""
    moved = [
        f"{name} {before.versions.get(name, 'absent')} -> {now.versions.get(name, 'absent')}"
        for name in sorted({*before.versions, *now.versions})
        if before.versions.get(name) != now.versions.get(name)
    ]
    return f" ({', '.join(moved[:_NAMED])})" if moved else ""
