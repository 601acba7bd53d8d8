"""How far a case lies from the sincere cases of the fit; faking ones take no part in the fit."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from afbench.detection.linear import components, location_and_scale, shrunk_covariance
from afbench.detection.probes import Classifier, Matrix, check_classes
from afbench.detection.state import fields

# Path lengths in a tree are measured against those of a search tree; this is Euler's constant.
_EULER = 0.5772156649015329


class MahalanobisDistance(Classifier):
    """Distance to the sincere mean under the sincere covariance (Mahalanobis 1936).

    Args:
        strength: share of the identity in the covariance, in (0, 1]; 0 takes that of Ledoit & Wolf.
    """

    fitted = fields(_mean=np.ndarray, _whitener=np.ndarray)

    def __init__(self, strength: float = 0.0) -> None:
        self.strength = strength

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        check_classes(labels)
        sincere = np.asarray(features[~labels], dtype=np.float64)
        self._mean, scale = location_and_scale(sincere)
        covariance = shrunk_covariance((sincere - self._mean) / scale, self.strength)
        root = np.linalg.cholesky(covariance)
        self._whitener = np.linalg.inv(root) / scale
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """Logarithm of the distance [n], the same order as the distance."""
        white = (np.asarray(features, dtype=np.float64) - self._mean) @ self._whitener.T
        return np.asarray(np.log1p(np.linalg.norm(white, axis=1)))


class ForestDistance(Classifier):
    """How soon random cuts part a case from the sincere ones (Liu, Ting, Zhou 2008).

    The trees are scikit-learn's; they are kept as arrays, so that they can be saved without being
    pickled, and the score is minus its `score_samples`.

    Args:
        strength: how many leading components of the sincere cases the cuts are made on; cuts along
            single units of a residual stream, none of which means anything, part nothing.
        trees: how many.
        samples: sincere cases per tree.
        seed: of the cuts.
    """

    fitted = fields(
        _mean=np.ndarray,
        _basis=np.ndarray,
        _left=np.ndarray,
        _right=np.ndarray,
        _feature=np.ndarray,
        _threshold=np.ndarray,
        _length=np.ndarray,
        _typical=float,
    )

    def __init__(
        self, strength: float = 16, trees: int = 100, samples: int = 256, seed: int = 0
    ) -> None:
        self.count, self.trees, self.samples = int(strength), trees, samples
        self.seed = seed

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        check_classes(labels)
        sincere = np.asarray(features[~labels], dtype=np.float64)
        self._mean, scale = location_and_scale(sincere)
        basis = components((sincere - self._mean) / scale, min(self.count, features.shape[1]))
        self._basis = basis / scale
        samples = min(self.samples, len(sincere))
        forest = IsolationForest(
            n_estimators=self.trees, max_samples=samples, random_state=self.seed
        )
        forest.fit(self._inside(sincere))
        self._keep([tree.tree_ for tree in forest.estimators_])
        self._typical = float(_search_length(np.array([samples]))[0])
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        """2 ** (-mean path length / that of a search tree), float64 [n] in (0, 1]."""
        inside = self._inside(np.asarray(features, dtype=np.float64))
        lengths = np.zeros(len(inside))
        for tree in range(len(self._left)):
            lengths += self._length[tree, self._leaf(tree, inside)]
        if self._typical == 0:  # one sincere case is no tree: everything is alike then
            return np.full(len(inside), 0.5)
        return np.asarray(2.0 ** -(lengths / len(self._left) / self._typical))

    def _inside(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        return ((features - self._mean) @ self._basis.T).astype(np.float32)

    def _keep(self, trees: list[Any]) -> None:
        """Put the trees side by side, padded to the nodes of the largest."""
        most = max(tree.node_count for tree in trees)

        def padded(values: list[NDArray[Any]]) -> NDArray[Any]:
            return np.stack([np.pad(row, (0, most - len(row))) for row in values])

        self._left = padded([tree.children_left for tree in trees])
        self._right = padded([tree.children_right for tree in trees])
        self._feature = padded([tree.feature for tree in trees])
        self._threshold = padded([tree.threshold for tree in trees])
        self._length = padded(
            [_depths(tree) + _search_length(tree.n_node_samples) for tree in trees]
        )

    def _leaf(self, tree: int, inside: NDArray[np.float32]) -> NDArray[np.int64]:
        """The node in which each case ends."""
        nodes = np.zeros(len(inside), dtype=np.int64)
        rows = np.arange(len(inside))
        while True:
            inner = self._left[tree, nodes] >= 0
            if not inner.any():
                return nodes
            goes_left = inside[rows, self._feature[tree, nodes]] <= self._threshold[tree, nodes]
            below = np.where(goes_left, self._left[tree, nodes], self._right[tree, nodes])
            nodes = np.where(inner, below, nodes)


def _depths(tree: Any) -> NDArray[np.float64]:
    """Number of cuts above each node; a node stands before its children."""
    depths = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depths[child] = depths[node] + 1
    return depths


def _search_length(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean length of an unsuccessful search in a tree of so many cases (their equation 1)."""
    n = np.maximum(counts.astype(np.float64), 3.0)
    long = 2.0 * (np.log(n - 1.0) + _EULER) - 2.0 * (n - 1.0) / n
    return np.where(counts <= 1, 0.0, np.where(counts == 2, 1.0, long))
