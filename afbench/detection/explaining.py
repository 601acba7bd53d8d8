"""What a detector can say of where its score is read; every part of it is optional.

`afbench run --explain` asks a detector that has them for `layer_map` (how well each layer and
pooling does) and `token_scores` (what each token of a transcript adds). Neither gets a label of the
test side, and neither changes what the detector scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from afbench.cases.case import Case
from afbench.detection.asking import token_stream
from afbench.detection.features import activations, groups_of
from afbench.detection.probes import LogisticProbe, Make, Matrix, grouped_folds


@dataclass(frozen=True, slots=True)
class LayerMap:
    """How well a detector does at each place it could read.

    Attributes:
        poolings, layers: the places; layer 0 is the embedding output.
        fit_auroc: [poolings, layers], mean AUROC over fit organisms that were held out in turn; NaN
            where there are too few to hold one out.
        scores: [n, poolings, layers], what the detector says at each place, fitted on all fit
            cases, of further cases.
    """

    poolings: tuple[str, ...]
    layers: tuple[int, ...]
    fit_auroc: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a detector says of each token of a transcript.

    Attributes:
        tokens: their decoded texts.
        scores: float64 [t]; higher = more likely faking.
        reply_start: index of the reply's first token.
    """

    tokens: tuple[str, ...]
    scores: NDArray[np.float64]
    reply_start: int


@runtime_checkable
class MapsLayers(Protocol):
    """A detector that knows how well it would do at other places."""

    def layer_map(
        self, cases: Sequence[Case], labels: NDArray[np.bool_], further: Sequence[Case]
    ) -> LayerMap:
        """The map over the cases that it was fitted on, with its scores of further cases.

        Args:
            cases, labels: as for `fit`.
            further: cases whose labels it does not get.
        """
        ...


@runtime_checkable
class ScoresTokens(Protocol):
    """A detector that can score a transcript token by token, once it is fitted."""

    def token_scores(self, cases: Sequence[Case]) -> Sequence[TokenScores]:
        """Of each case, in their order."""
        ...


def map_places(
    cases: Sequence[Case],
    labels: NDArray[np.bool_],
    further: Sequence[Case],
    *,
    poolings: Sequence[str],
    strength: float,
    make: Make = LogisticProbe,
    seed: int = 0,
) -> LayerMap:
    """The map of a detector that fits a classifier on pooled activations of one place.

    Args:
        cases, labels: of the fit organisms.
        further: cases to score at every place.
        poolings: to map.
        strength: what the classifier is made with.
        make: builds it.
        seed: of the folds that hold organisms out.
    """
    features, shown = (activations(side, None, poolings) for side in (cases, further))
    layers = features.shape[2]
    sides = list(grouped_folds(labels, groups_of(cases), seed=seed))
    aurocs = np.full((len(poolings), layers), np.nan)
    scores = np.empty((len(further), len(poolings), layers))
    for at in np.ndindex(len(poolings), layers):
        here = features[:, *at]
        scores[:, *at] = make(strength).fit(here, labels).score(shown[:, *at])
        if sides:
            aurocs[at] = np.mean([_held_out(here, labels, *side, make, strength) for side in sides])
    return LayerMap(tuple(poolings), tuple(range(layers)), aurocs, scores)


def score_tokens(
    cases: Sequence[Case], layer: int, score: Callable[[Matrix], NDArray[np.float64]]
) -> list[TokenScores]:
    """A classifier's score of every token's residual at a layer, a transcript at a time.

    Args:
        score: features [t, d] to scores [t].
    """
    found: dict[int, TokenScores] = {}
    for index, given in token_stream(cases, [layer]):
        found[index] = TokenScores(given.tokens, score(given.values[:, 0]), given.reply_start)
    return [found[index] for index in range(len(cases))]


def _held_out(
    features: Matrix,
    labels: NDArray[np.bool_],
    fit: NDArray[np.int64],
    held: NDArray[np.int64],
    make: Make,
    strength: float,
) -> float:
    classifier = make(strength).fit(features[fit], labels[fit])
    return float(roc_auc_score(labels[held], classifier.score(features[held])))
