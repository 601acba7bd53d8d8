"""Text classification for floors and text monitors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from afbench.errors import NotEnoughCasesError


class BagOfWords:
    """Logistic regression on TF-IDF weights of words and word pairs.

    Args:
        strength: inverse of the L2 penalty.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self._vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
        self._model = LogisticRegression(C=strength, max_iter=1000, class_weight="balanced")

    def fit(self, texts: Sequence[str], labels: NDArray[np.bool_]) -> BagOfWords:
        """Fit on texts and labels [n].

        Raises:
            NotEnoughCasesError: only one class is there, or no text holds a word.
        """
        if labels.all() or not labels.any():
            raise NotEnoughCasesError("a classifier needs faking and sincere cases to fit on")
        try:
            weights = self._vectorizer.fit_transform(texts)
        except ValueError:
            raise NotEnoughCasesError("no text holds a word") from None
        self._model.fit(weights, labels)
        return self

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log-odds of faking [n]."""
        return np.asarray(
            self._model.decision_function(self._vectorizer.transform(texts)), dtype=np.float64
        )
