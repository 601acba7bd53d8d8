"""A reader of behaviour: what a detector could know from what organisms say, and no more.

It is given each observed transcript and, where the detector put something else to an organism, the
organism's greedy reply to that input; it is fitted and scored on the detector's own folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from afbench.cases.assembly import CaseSet
from afbench.cases.case import Case
from afbench.cases.recording import Form, SeenInputs, Turns, input_of, messages_of
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.texts import BagOfWords
from afbench.messages import Message
from afbench.results.case_source import CaseSource
from afbench.results.score_cache import code_digest
from afbench.store import Store, digest_of

if TYPE_CHECKING:
    from afbench.cases.handle import Handle
    from afbench.cases.splits import Fold

REPLIED: Final = 4
"""Cases of an organism, on either side of a fold, for which further replies are sampled."""
REPLIED_IN_ALL: Final = 200
"""Where few organisms make a side, they get more cases each, so that about as many are there."""
REPLY_TOKENS: Final = 24

_KIND: Final = "reader-scores"
# The host's own questions: they cost no detector anything, and may stand under any cue.
_HOST: Final = DetectorManifest.model_validate(
    {
        "schema": 1, "kind": "detector", "name": "behaviour-reader", "tier": "text",
        "summary": "What is compared with a detector above the tier text.",
        "entry": "reader.py:Reader", "ceiling": True,
    }
)  # fmt: skip


class _Learned:
    """What was learned on one fit side; it is fitted when a test side is not in the store."""

    def __init__(self, texts: Sequence[str], labels: NDArray[np.bool_]) -> None:
        self.key = digest_of([list(texts), labels.tolist()])
        self._texts, self._labels = texts, labels
        self._reader: BagOfWords | None = None

    def score(self, texts: Sequence[str]) -> NDArray[np.float64]:
        if self._reader is None:
            self._reader = BagOfWords().fit(self._texts, self._labels)
        return self._reader.score(texts)


@dataclass(slots=True)
class Reader:
    """Reads folds, and keeps what it made of them.

    Args:
        source: the cases.
        store: where its scores are kept.
    """

    source: CaseSource
    store: Store
    _known: dict[tuple[Fold, SeenInputs], NDArray[np.float64]] = field(default_factory=dict)
    _learned: dict[tuple[object, object, SeenInputs], _Learned] = field(default_factory=dict)

    def read(self, fold: Fold, inputs: SeenInputs) -> NDArray[np.float64]:
        """Its scores of a fold's test cases, given the inputs that a detector used.

        Returns:
            float64 [n]; NaN where it read none.
        """
        asked = _replied(inputs)
        if (fold, asked) not in self._known:
            self._known[fold, asked] = self._read(fold, asked)
        return self._known[fold, asked]

    def _read(self, fold: Fold, asked: SeenInputs) -> NDArray[np.float64]:
        handles = self.source.access.handles(_HOST, [*fold.fit, *fold.test])
        limited = bool(asked.forms or asked.fixed)
        side = (fold.fit, fold.fit_cues, asked)
        if side not in self._learned:
            fit, _ = self.source.sides(fold, handles, contrast=True)
            rows = _scored(fit, limited=limited)
            self._learned[side] = _Learned(self._texts(fit, rows, asked), fit.labels[rows])
        learned = self._learned[side]
        test = self.source.test_side(fold, handles, contrast=True)
        rows = _scored(test, limited=limited)
        texts = self._texts(test, rows, asked)
        key = digest_of([learned.key, texts, code_digest(), self.source.access.engine])
        found = self.store.read_arrays(_KIND, key, hold=False)
        if found is None:
            found = {"scores": learned.score(texts)}
            self.store.write_arrays(_KIND, key, found, hold=False)
        scores = np.full(len(test), np.nan)
        scores[rows] = found["scores"]
        return scores

    def _texts(self, side: CaseSet, rows: Sequence[int], asked: SeenInputs) -> list[str]:
        """What the reader is given of some cases of a side: one text for each."""
        questions: list[Form | Turns] = [*asked.forms, *asked.fixed]
        replies = self._replies(side, rows, questions)
        texts = []
        for row in rows:
            words = [_transcript(side.cases[row])]
            for number in range(len(questions)):
                # Marked by the question, so that a yes to one is no yes to another.
                reply = replies.get((row, number), "").lower()
                words += [f"{number}:{word}" for word in reply.split()]
            texts.append(" ".join(words))
        return texts

    def _replies(
        self, side: CaseSet, rows: Sequence[int], questions: Sequence[Form | Turns]
    ) -> dict[tuple[int, int], str]:
        """The greedy reply to each question, by case and question; an organism is asked once."""
        found: dict[tuple[int, int], str] = {}
        for handle, members in _by_handle(side, rows):
            put = {
                (row, number): talk
                for row in members
                for number, question in enumerate(questions)
                if (talk := _put(question, side.cases[row])) is not None
            }
            if put:
                replies = handle.generate(list(put.values()), max_new_tokens=REPLY_TOKENS)
                found |= {place: reply for place, [reply] in zip(put, replies, strict=True)}
        return found


def is_read(manifest: DetectorManifest) -> bool:
    """Whether a detector is compared with a reader: a tier above `text`, and no ceiling."""
    return manifest.tier != "text" and not manifest.ceiling


def described(inputs: SeenInputs) -> str:
    """What the reader saw beside the observed transcripts, in words."""
    asked = _replied(inputs)
    places = [
        (f"replies to {len(found)} further inputs on {name}", found)
        for name, found in (
            ("each transcript", [one for one in asked.forms if one.place == "observed"]),
            ("each contrast", [one for one in asked.forms if one.place == "contrast"]),
        )
    ]
    parts = ["observed transcripts", *(text for text, found in places if found)]
    if asked.fixed:
        parts.append(f"replies to {len(asked.fixed)} inputs of no case")
    if inputs.unread:
        parts.append(f"not {inputs.unread} inputs made up for a case")
    return ", ".join(parts)


def _replied(inputs: SeenInputs) -> SeenInputs:
    """The inputs whose replies are not in the transcript already."""
    forms = tuple(form for form in inputs.forms if form.suffix or form.place != "observed")
    fixed = tuple(turns for turns in inputs.fixed if turns and turns[-1][0] == "user")
    return SeenInputs(forms, fixed)


def _scored(side: CaseSet, *, limited: bool) -> list[int]:
    """Rows of the scored cases; if `limited`, the first few of each organism."""
    organisms = {row.organism for row in side.rows if row.scored}
    limit = max(REPLIED, REPLIED_IN_ALL // max(1, len(organisms))) if limited else len(side)
    counts = dict.fromkeys(organisms, 0)
    kept = []
    for index, row in enumerate(side.rows):
        if row.scored and counts[row.organism] < limit:
            counts[row.organism] += 1
            kept.append(index)
    return kept


def _transcript(case: Case) -> str:
    return " ".join(message["content"] for message in case.messages)


def _put(question: Form | Turns, case: Case) -> list[Message] | None:
    talk = input_of(question, case) if isinstance(question, Form) else messages_of(question)
    return talk if talk and talk[-1]["role"] == "user" else None


def _by_handle(side: CaseSet, rows: Sequence[int]) -> Iterator[tuple[Handle, list[int]]]:
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(side.rows[row].organism, []).append(row)
    for members in groups.values():
        yield side.cases[members[0]].handle, members
