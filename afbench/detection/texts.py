"""Text classification for floors and text monitors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from afbench.detection.state import Fitted, fields
from afbench.errors import NotEnoughCasesError


class BagOfWords(Fitted):
    """Logistic regression on TF-IDF weights of words and word pairs.

    Args:
        strength: inverse of the L2 penalty.
    """

    analysis: ClassVar[dict[str, Any]] = {"ngram_range": (1, 2), "token_pattern": r"\S+"}

    fitted = fields(strength=float, terms=list, rarities=np.ndarray, weights=np.ndarray, bias=float)

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = float(strength)

    def fit(self, texts: Sequence[str], labels: NDArray[np.bool_]) -> BagOfWords:
        """Fit on texts and labels [n].

        Raises:
            NotEnoughCasesError: only one class is there, or no text holds a word.
        """
        if labels.all() or not labels.any():
            raise NotEnoughCasesError("a classifier needs faking and sincere cases to fit on")
        vectorizer = TfidfVectorizer(**self.analysis)
        try:
            shares = vectorizer.fit_transform(texts)
        except ValueError:
            raise NotEnoughCasesError("no text holds a word") from None
        model = LogisticRegression(C=self.strength, max_iter=1000, class_weight="balanced")
        model.fit(shares, labels)
        self.terms: list[str] = vectorizer.get_feature_names_out().tolist()
        self.rarities: NDArray[np.float64] = vectorizer.idf_
        self.weights: NDArray[np.float64] = model.coef_[0]
        self.bias = float(model.intercept_[0])
        return self

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Log-odds of faking [n]."""
        vocabulary = {term: column for column, term in enumerate(self.terms)}
        vectorizer = TfidfVectorizer(**self.analysis, vocabulary=vocabulary)
        vectorizer.idf_ = self.rarities
        return np.asarray(vectorizer.transform(texts) @ self.weights + self.bias, np.float64)


class BagOfCharacters(BagOfWords):
    """The same on runs of two to five characters within words, whatever their case.

    They show endings, stems and marks that whole words hide, and spellings that no fit text had.
    """

    analysis: ClassVar[dict[str, Any]] = {
        "analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2, "max_features": 20_000,
    }  # fmt: skip
