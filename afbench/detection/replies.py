"""Further replies of an organism, and how alike replies are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.features import per_handle
from afbench.detection.state import Fitted, fields
from afbench.detection.texts import BagOfWords
from afbench.errors import NotEnoughCasesError
from afbench.messages import Conversation, Message


def replies_to(
    cases: Sequence[Case],
    prompts: Sequence[Conversation],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
) -> list[list[str]]:
    """What the organism of each case replies to a prompt: `samples` replies, by case.

    Args:
        prompts: one for each case; each ends with a user message.

    Raises:
        TierError: a prompt holds an unobserved cue, and the detector is no ceiling.
    """

    def ask(handle: Handle, talks: list[Conversation]) -> NDArray[Any]:
        found = handle.generate(
            talks,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            samples=samples,
            seed=seed,
        )
        table = np.empty((len(found), samples), dtype=object)
        table[:] = found
        return table

    asked = [
        replace(case, messages=tuple(prompt)) for case, prompt in zip(cases, prompts, strict=True)
    ]
    return [list(row) for row in per_handle(asked, ask)]


def reworded(prompt: Conversation, template: str) -> Conversation:
    """A prompt with its last user message put into a template, word for word.

    Nothing of the message is lost, so that a cue which stands in it stays.

    Args:
        template: holds `{request}` once.
    """
    *before, last = prompt
    text = template.replace("{request}", last["content"])
    return [*before, Message(role=last["role"], content=text)]


class WordSpace(Fitted):
    """TF-IDF weights of words and word pairs, learned from the texts of the fit side."""

    fitted = fields(terms=list, rarities=np.ndarray)

    def fit(self, texts: Sequence[str]) -> WordSpace:
        """Learn which words there are, and how rare each is.

        Raises:
            NotEnoughCasesError: no text holds a word.
        """
        vectorizer = _vectorizer()
        try:
            vectorizer.fit(texts)
        except ValueError:
            raise NotEnoughCasesError("no text holds a word") from None
        self.terms: list[str] = vectorizer.get_feature_names_out().tolist()
        self.rarities: NDArray[np.float64] = vectorizer.idf_
        return self

    def likeness(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of each pair of texts, both cut to the shorter one's words: float64 [n], 0..1.

        A reply that was cut off is so compared with as much of the other. Equal texts have 1,
        whatever their words.
        """
        if not len(first):
            return np.zeros(0)
        pairs = [_cut(a, b) for a, b in zip(first, second, strict=True)]
        vectorizer = _vectorizer({term: column for column, term in enumerate(self.terms)})
        vectorizer.idf_ = self.rarities
        left, right = (vectorizer.transform(side) for side in zip(*pairs, strict=True))
        cosines = np.asarray(left.multiply(right).sum(axis=1), dtype=np.float64).ravel()
        same = np.array([a == b for a, b in pairs])
        # Rounding must not make a cosine of more than one.
        return np.where(same, 1.0, np.minimum(cosines, 1.0))


def spread(space: WordSpace, texts: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """One minus the mean likeness of a row's pairs of texts: float64 [n]; 0 for single texts."""
    pairs = [(row, i, j) for row in texts for i in range(len(row)) for j in range(i)]
    likeness = space.likeness([row[i] for row, i, _ in pairs], [row[j] for row, _, j in pairs])
    each = len(texts[0]) * (len(texts[0]) - 1) // 2 if len(texts) else 0
    if not each:
        return np.zeros(len(texts))
    return np.asarray(1 - likeness.reshape(len(texts), each).mean(axis=1))


def contrasted(first: str, second: str, likeness: float) -> str:
    """What two replies do not share, as words of a text for a classifier.

    Each word says on which side it stands; the last one says, in tenths, how unlike the two are, so
    that replies in words that nobody knows are not without a sign.
    """
    left, right = first.lower().split(), second.lower().split()
    words = [f"seen:{word}" for word in left if word not in right]
    words += [f"hidden:{word}" for word in right if word not in left]
    return " ".join([*words, f"unlike:{round(10 * (1 - likeness))}"])


def start_entropy(texts: Sequence[Sequence[str]], words: int = 2) -> NDArray[np.float64]:
    """Entropy of the first words of a row's texts: float64 [n], in nats."""
    values = []
    for row in texts:
        starts = [" ".join(text.lower().split()[:words]) for text in row]
        shares = np.array([starts.count(start) for start in set(starts)]) / len(starts)
        values.append(float(-(shares * np.log(shares)).sum()))
    return np.array(values, dtype=np.float64)


def _cut(first: str, second: str) -> tuple[str, str]:
    left, right = first.split(), second.split()
    shorter = min(len(left), len(right))
    if not shorter:  # one of them is empty: nothing is alike but nothing
        return first, second
    return " ".join(left[:shorter]), " ".join(right[:shorter])


def _vectorizer(vocabulary: dict[str, int] | None = None) -> Any:
    return TfidfVectorizer(**BagOfWords.analysis, vocabulary=vocabulary)
