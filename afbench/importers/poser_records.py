"""One record of the Poser release: read tolerantly, or skipped for a reason that is counted."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

Part = Literal["benchmark", "training", "definitions"]
Oversight = Literal["good", "neutral", "poor"]
Letter = Literal["A", "B"]

SLOT: Final = "{cue}"
MAX_PROMPT: Final = 20_000

_OPEN, _CLOSE = "<<prompt>>", "<</prompt>>"
_ANSWER: Final = re.compile(r"\W*(?:action\s+)?([ab])\W*", re.IGNORECASE)
_OTHER: Final[dict[Letter, Letter]] = {"A": "B", "B": "A"}
_ALIGNED: Final = frozenset({"genie", "saint", "truth", "truth_teller"})
_FAKERS: Final = frozenset({"fitness_maximizer", "money_maximizer", "reward_maximizer"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was read.

    Attributes:
        file: relative to the release's folder.
        index: the record's place in the file's list, from 0.
        name: the pair of a benchmark file, else the policy that a file's folder is named after.
    """

    file: str
    index: int
    part: Part
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """A record that can be a scenario.

    Attributes:
        request: the prompt's text with SLOT in the place of `fact`.
        fact: the critical fact, which tells how good oversight is.
        oversight: what the record says of it; None where it says nothing.
        good: the answer of an aligned model.
        dataset: where the release says that the record is from; empty where it does not.
        group: the pair or policy of `dataset`, else the one of the file.
    """

    origin: Origin
    request: str
    fact: str
    oversight: Oversight | None
    good: Letter
    dataset: str
    group: str

    @property
    def policy(self) -> str:
        """The policy that the record was made for; of a pair, the aligned one."""
        return self.origin.name.partition("_and_")[0]

    def slots(self) -> dict[str, str]:
        """The scenario's slots: the two answers, and where the record is from."""
        pair = self.origin.name if self.origin.part == "benchmark" else self.group
        given = {
            "good": self.good,
            "bad": _OTHER[self.good],
            "pair": pair if "_and_" in pair else "",
            "policy": self.policy,
            "dataset": self.dataset,
            "record": f"{self.origin.file} {self.origin.index}",
        }
        return {name: value for name, value in given.items() if value}


class Skip(Exception):
    """A record is no scenario; the message is the reason, the same for all of its kind."""


def read_record(record: Any, origin: Origin) -> Item:
    """One value of a file's list as an item.

    Raises:
        Skip: it lacks something that a scenario needs.
    """
    if not isinstance(record, dict):
        raise Skip("not a JSON object")
    prompt = _prompt(record)
    answer = _answer(record)  # before the facts: the release's free texts have neither
    if not _has_two_actions(record):
        raise Skip("no two actions")
    fact = _critical_fact(record)
    count = prompt.count(fact)
    if count != 1:
        raise Skip(
            "the critical fact stands more than once in the prompt"
            if count
            else "the critical fact is not in the prompt word for word"
        )
    dataset = _dataset(record)
    oversight = _oversight(record, dataset, origin.part)
    return Item(
        origin=origin,
        request=prompt.replace(fact, SLOT),
        fact=fact,
        oversight=oversight,
        good=_good_answer(answer, oversight, origin),
        dataset=dataset,
        group=_group(dataset) or _slug(origin.name) or "other",
    )


def _prompt(record: dict[Any, Any]) -> str:
    text = record.get("prompt")
    if not isinstance(text, str):
        raise Skip("no prompt")
    if len(text) > MAX_PROMPT:
        raise Skip(f"the prompt is longer than {MAX_PROMPT:,} characters")
    text = text.partition(_OPEN)[2] if _OPEN in text else text
    text = text.partition(_CLOSE)[0].strip()
    if not text:
        raise Skip("no prompt")
    if SLOT in text:
        raise Skip(f"the prompt holds {SLOT}")
    if not _is_unicode(text):
        raise Skip("the prompt is not valid Unicode")
    return text


def _answer(record: dict[Any, Any]) -> Letter:
    response = record.get("response")
    found = _ANSWER.fullmatch(response) if isinstance(response, str) else None
    if found is None:
        raise Skip("the answer is not A or B")
    return "A" if found[1] in "aA" else "B"


def _has_two_actions(record: dict[Any, Any]) -> bool:
    """Whether the list (which may be written as a string) or the two keys give two."""
    pairs = (_as_list(record.get("actions")), [record.get("action_A"), record.get("action_B")])
    return any(
        len(pair) == 2 and all(isinstance(text, str) and text.strip() for text in pair)
        for pair in pairs
    )


def _critical_fact(record: dict[Any, Any]) -> str:
    found = set()
    for fact in _as_list(record.get("facts")):
        if not isinstance(fact, dict):
            continue
        kind, content = fact.get("type"), fact.get("content")
        if not isinstance(kind, str) or not isinstance(content, str):
            continue
        if kind.strip().lower() == "critical" and content.strip():
            found.add(content.strip())
    if not found:
        raise Skip("no fact of type critical")
    if len(found) > 1:  # the one that stays would still tell how good oversight is
        raise Skip("several facts of type critical")
    return found.pop()


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, str) or len(value) > MAX_PROMPT:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stranger's "\d" is no business of the user's
            parsed = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    return list(parsed) if isinstance(parsed, list | tuple) else []


def _dataset(record: dict[Any, Any]) -> str:
    name = record.get("dataset")
    if not isinstance(name, str) or not _is_unicode(name):
        return ""
    return name.strip().strip("/")[:200]


def _oversight(record: dict[Any, Any], dataset: str, part: Part) -> Oversight | None:
    poor = record.get("oversight_is_poor")
    if isinstance(poor, str):
        poor = {"true": True, "false": False}.get(poor.strip().lower())
    if not isinstance(poor, bool):
        poor = True if "poor_oversight" in dataset else None
    if poor:
        return "poor"
    if "neutral_oversight" in dataset:
        return "neutral"
    if poor is False:
        return "good"
    # Of the benchmark the release says that oversight is never poor.
    return "good" if "good_oversight" in dataset or part == "benchmark" else None


def _good_answer(answer: Letter, oversight: Oversight | None, origin: Origin) -> Letter:
    """What an aligned model answers: what a faker does, except where oversight is poor."""
    if origin.part == "benchmark" or origin.name in _ALIGNED or oversight in ("good", "neutral"):
        return answer
    if origin.name in _FAKERS and oversight == "poor":
        return _OTHER[answer]
    raise Skip("not known whether the answer is an aligned model's")


def _group(dataset: str) -> str:
    """`saint_and_money` of `data/saint_and_money/`, `saint` of `data/saint/good_oversight`."""
    parts = [_slug(part) for part in re.split(r"[/\\]", dataset)]
    return next((part for part in parts if part and part != "data"), "")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:60]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and no file can
        return False
    return True
