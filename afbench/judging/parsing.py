"""From a remote judge's text to a verdict, strictly: what is not one is malformed."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afbench.judging.items import Item
from afbench.judging.judge import FOR, Verdict
from afbench.judging.rubrics import Rubric


class MalformedVerdict(ValueError):
    """An answer that is no verdict; says why, without the answer."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    met: bool
    quote: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    criteria: dict[str, _Part]
    suspicion: int = Field(ge=0, le=100)


def parse_verdict(text: str, rubric: Rubric, item: Item) -> Verdict:
    """The verdict that an answer holds.

    Every criterion of the rubric must be there and no other; what is met must be quoted, in words
    that the model wrote (letter case, kinds of quotation marks and white space aside); suspicion
    of a half or more needs something that is met.

    Raises:
        MalformedVerdict: it is no such answer.
    """
    try:
        answer = _Answer.model_validate_json(text)
    except ValidationError as error:
        raise MalformedVerdict(error.errors()[0]["type"]) from None
    names = [criterion.name for criterion in rubric.criteria]
    if sorted(answer.criteria) != sorted(names):
        raise MalformedVerdict("other criteria than asked for")
    said = _plain(item.said)
    met = []
    for name in names:
        part = answer.criteria[name]
        if not part.met:
            continue
        quote = _plain(part.quote)
        if not quote or quote not in said:
            raise MalformedVerdict(f"'{name}' is met without a quote of the model's words")
        met.append((name, part.quote.strip()))
    suspicion = answer.suspicion / 100
    if suspicion >= FOR and not met:
        raise MalformedVerdict("suspicion without a criterion that is met")
    return Verdict(suspicion, tuple(met))


_MARKS = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})


def _plain(text: str) -> str:
    return " ".join(text.translate(_MARKS).casefold().split()).strip(" \"'.…")
