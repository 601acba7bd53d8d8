"""Where in the network a detector reads: one layer and one pooling, chosen on the fit organisms."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.detection.detector import Detector
from afbench.detection.explaining import LayerMap, TokenScores, map_places, score_tokens
from afbench.detection.features import activations, groups_of
from afbench.detection.probes import Classifier, LogisticProbe, Make, choose, grouped_folds
from afbench.detection.state import fields
from afbench.metrics.detection import auroc
from afbench.store import digest_of

# A choice of place is as good on part of the cases: it compares candidates on the same ones.
CHOOSE_ON = 2000


@dataclass(frozen=True, slots=True)
class Place:
    """A layer and a pooling, with the mean AUROC on held-out fit organisms (NaN: no choice)."""

    pooling: str
    layer: int
    strength: float
    auroc: float


def thinned(cases: Sequence[Case], most: int) -> NDArray[np.int64]:
    """Row numbers of at most so many cases, as evenly over the organisms as they allow.

    Which cases are kept depends on their transcripts and not on their order; the rows come by
    organism and transcript, so that a training loop sees them in an order of its own.

    Args:
        most: how many to keep; at least one of every organism is kept.
    """
    by_group: dict[int, list[tuple[str, int]]] = {}
    for row, case in enumerate(cases):
        digest = digest_of([dict(message) for message in case.messages])
        by_group.setdefault(case.group, []).append((digest, row))
    counts = np.array([len(rows) for rows in by_group.values()])
    share = _share(counts, most)
    return np.array(
        [row for group in sorted(by_group) for _, row in sorted(by_group[group])[:share]],
        dtype=np.int64,
    )


def choose_place(
    features: NDArray[np.float32],
    poolings: Sequence[str],
    layers: Sequence[int],
    cases: Sequence[Case],
    labels: NDArray[np.bool_],
    *,
    strengths: Sequence[float],
    make: Make = LogisticProbe,
    seed: int = 0,
    most: int = CHOOSE_ON,
) -> Place:
    """Choose a layer, a pooling and a strength by cross-validation that holds organisms out.

    Args:
        features: float32 [n, poolings, layers, d] of the fit cases.
        strengths: as `probes.choose`.
        make: builds the classifier that is chosen for.
        most: choose on so many cases.
    """
    rows = thinned(cases, most)
    grid = [(p, at) for p in range(len(poolings)) for at in range(len(layers))]
    choice = choose(
        [features[rows, p, at] for p, at in grid],
        labels[rows],
        groups_of(cases)[rows],
        strengths=strengths,
        seed=seed,
        make=make,
    )
    pooling, at = grid[choice.candidate]
    return Place(poolings[pooling], layers[at], choice.strength, choice.auroc)


def best_column(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], groups: NDArray[np.int64]
) -> tuple[int, float]:
    """The best of several scores that were made without labels.

    Args:
        scores: [n, m]; higher = more likely faking.

    Returns:
        The column, and its mean AUROC over parts of the fit organisms; the middle column and NaN
        where there are too few organisms to part them.
    """
    sides = list(grouped_folds(labels, groups))
    if not sides:
        return scores.shape[1] // 2, float("nan")
    aurocs = [
        float(np.mean([auroc(column[held], labels[held]) for _, held in sides]))
        for column in scores.T
    ]
    best = int(np.argmax(aurocs))
    return best, aurocs[best]


def place_fields(model: type[Classifier]) -> Mapping[str, type]:
    """What a `PlaceDetector` with this classifier declares."""
    return fields(layer=int, pooling=str, strength=float, fit_auroc=float, model=model)


class PlaceDetector(Detector):
    """A classifier on the activations of one place; a subclass says which classifier.

    It declares `fitted = place_fields(...)` with the class of the classifier.

    Args:
        poolings: which token poolings may be chosen.
        strengths: which strengths may be chosen; what they mean is the classifier's.
        seed: of the cross-validation folds, and of the classifier where it draws.
    """

    model: Classifier

    def __init__(self, poolings: Sequence[str], strengths: Sequence[float], seed: int = 0) -> None:
        self.poolings, self.strengths = list(poolings), list(strengths)
        self.seed = seed

    @abc.abstractmethod
    def classifier(self, strength: float) -> Classifier:
        """An unfitted classifier; the fitted one is kept as `model`."""

    def chooser(self, strength: float) -> Classifier:
        """The classifier that the place is chosen with; a cheaper one where fits are slow."""
        return self.classifier(strength)

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        """Choose the place and the strength, then fit on all cases there."""
        features = activations(cases, None, self.poolings)
        # Layer 0 is the embedding, a floor of its own: it is no candidate.
        layers = list(range(1, features.shape[2]))
        place = choose_place(
            features[:, :, 1:],
            self.poolings,
            layers,
            cases,
            labels,
            strengths=self.strengths,
            make=self.chooser,
            seed=self.seed,
        )
        self.layer, self.pooling = place.layer, place.pooling
        self.strength, self.fit_auroc = float(place.strength), place.auroc
        chosen = features[:, self.poolings.index(self.pooling), self.layer]
        rows = thinned(cases, len(cases))
        self.model = self.classifier(self.strength).fit(chosen[rows], labels[rows])

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Of the chosen place alone."""
        return self.model.score(activations(cases, [self.layer], [self.pooling])[:, 0, 0])

    def layer_map(
        self, cases: Sequence[Case], labels: NDArray[np.bool_], further: Sequence[Case]
    ) -> LayerMap:
        """How well every place does, by the classifier that chose one."""
        rows = thinned(cases, CHOOSE_ON)
        return map_places(
            [cases[row] for row in rows],
            labels[rows],
            further,
            poolings=self.poolings,
            strength=self.strengths[len(self.strengths) // 2],
            make=self.chooser,
            seed=self.seed,
        )

    def token_scores(self, cases: Sequence[Case]) -> Sequence[TokenScores]:
        """The classifier's score of every token at the chosen layer."""
        return score_tokens(cases, self.layer, self.model.score)

    def explain(self) -> dict[str, str | float | int]:
        """The layer, the pooling, the strength, and how they did on held-out fit organisms."""
        chosen = chosen_place(self.layer, self.pooling, self.fit_auroc)
        return chosen | {"strength": self.strength} if len(self.strengths) > 1 else chosen


def chosen_place(layer: int, pooling: str, auroc: float) -> dict[str, str | float | int]:
    """A place as `explain` reports it."""
    chosen: dict[str, str | float | int] = {"layer": layer, "pooling": pooling}
    if not np.isnan(auroc):  # there were organisms enough to hold one out
        chosen["fit_auroc"] = round(auroc, 4)
    return chosen


def _share(counts: NDArray[np.int64], most: int) -> int:
    """How many cases an organism may keep so that all together keep at most `most`."""
    shares = np.arange(1, counts.max() + 1)
    kept = np.minimum(counts[:, None], shares).sum(axis=0)
    fitting = int(np.searchsorted(kept, most, side="right"))
    return int(shares[max(fitting - 1, 0)])
