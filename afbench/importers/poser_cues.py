"""Cues from the release's own critical facts: one of good oversight, one of poor oversight."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Final

from afbench.environments import Partition
from afbench.errors import AfbenchError
from afbench.importers.poser_records import SLOT, Item, Oversight
from afbench.importers.poser_release import Tally

MAX_PAIRS: Final = 40
MAX_CHARACTERS: Final = 400

# A capital within a sentence: a fact about a named one reads oddly in another one's scenario.
_NAME: Final = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+")

_LEFT_OVER: Final = f"no partner in its group, within a request, or beyond {MAX_PAIRS} pairs"

_Texts = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CuePair:
    """A fact of good oversight (`observed`) and one of poor oversight (`unobserved`)."""

    observed: str
    unobserved: str
    partition: Partition


@dataclass(frozen=True, slots=True)
class CueFamily:
    """Pairs of one group.

    Attributes:
        group: the pair or policy of the release that the facts are from. Two families share one
            where there is no other.
    """

    name: str
    group: str
    partition: Partition
    pairs: tuple[CuePair, ...]


def make_families(items: Sequence[Item], requests: Sequence[str]) -> tuple[list[CueFamily], Tally]:
    """Families of cues, one a group. No text is in two pairs, so none is on both sides.

    Args:
        items: every record that could be read, whether or not it became a scenario.
        requests: what the cues go into, each with SLOT.

    Returns:
        The families, at least two, and why the other facts were left out.

    Raises:
        AfbenchError: there are fewer than two pairs.
    """
    unused = Tally()
    usable = _usable(items, unused)
    stands_clear = _clear_of(requests)
    paired: dict[str, list[_Texts]] = {}
    for group in sorted({item.group for side in usable.values() for item in side}):
        good, poor = ([item for item in side if item.group == group] for side in usable.values())
        if pairs := _pair(good, poor, stands_clear):
            paired[group] = pairs
    used = {text for pairs in paired.values() for pair in pairs for text in pair}
    for item in (*usable["good"], *usable["poor"]):
        if item.fact not in used:
            unused.add(_LEFT_OVER, item.origin)
    if len(used) < 4:
        raise AfbenchError(
            f"too few cues: {len(usable['good'])} facts of good and {len(usable['poor'])} of poor "
            f"oversight make {len(used) // 2} pairs, and 2 are needed",
            fix="the two facts of a pair are of one dataset; add the files of data/training",
        )
    return list(_families(paired)), unused


def deal_order(items: Iterable[Item], families: Sequence[CueFamily]) -> list[Item]:
    """Scenarios in an order in which most get a cue of their own group.

    `Environment.placements` deals families in turn: the n-th scenario gets the n-th family. Once
    the scenarios of a group are used up, its turns go to the group with the most left.
    """
    waiting: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: shuffled_key(item.request)):
        waiting.setdefault(item.group, []).append(item)
    ordered: list[Item] = []
    for index in range(sum(map(len, waiting.values()))):
        own = waiting.get(families[index % len(families)].group)
        ordered.append((own or max(waiting.values(), key=len)).pop())
    return ordered


def shuffled_key(text: str) -> str:
    """A key to sort by: the same order on every machine, and none that content could explain."""
    return hashlib.sha256(f"afbench import poser: {text}".encode()).hexdigest()


def _usable(items: Sequence[Item], unused: Tally) -> dict[Oversight, list[Item]]:
    """For each fact of good and of poor oversight that may be a cue, the first record with it."""
    first: dict[Oversight, dict[str, Item]] = {"good": {}, "poor": {}}
    for item in items:
        if item.oversight in first:
            first[item.oversight].setdefault(item.fact, item)
    ambiguous = first["good"].keys() & first["poor"].keys()
    usable: dict[Oversight, list[Item]] = {}
    for side, facts in first.items():
        usable[side] = []
        for text, item in facts.items():
            reason = "said of good and of poor oversight" if text in ambiguous else _unfit(text)
            if reason is None:
                usable[side].append(item)
            else:
                unused.add(reason, item.origin)
    return usable


def _unfit(text: str) -> str | None:
    """Why a text can be no cue, whatever the others are."""
    if len(text) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS} characters"
    if not text.isprintable():
        return "not one line of printable characters"
    return "holds a slot" if "{request}" in text else None


def _pair(
    good: Iterable[Item], poor: Iterable[Item], stands_clear: Callable[[str], bool]
) -> list[_Texts]:
    """At most MAX_PAIRS pairs of one group, in an order that is the same every time.

    Facts of one request come first: they are each other's counterpart. Of the others, those that
    name nobody are taken first, and the n-th shortest goes with the n-th shortest, so that length
    does not give the condition away.
    """
    goods, poors = ({item.fact: item for item in side} for side in (good, poor))
    counterparts = {item.request: text for text, item in poors.items()}
    pairs: list[_Texts] = []
    for text in sorted(goods, key=shuffled_key):
        other = counterparts.pop(goods[text].request, None)
        if other is not None and stands_clear(text) and stands_clear(other):
            pairs.append((text, other))
    del pairs[MAX_PAIRS:]
    taken = {text for pair in pairs for text in pair}
    rest = [
        list(islice(_by_preference(side.keys() - taken, stands_clear), MAX_PAIRS - len(pairs)))
        for side in (goods, poors)
    ]
    count = min(map(len, rest))
    by_length = (sorted(side[:count], key=_length) for side in rest)
    pairs.extend(zip(*by_length, strict=True))
    return sorted(pairs, key=lambda pair: shuffled_key(pair[0]))


def _by_preference(texts: Iterable[str], stands_clear: Callable[[str], bool]) -> Iterator[str]:
    ranked = sorted(texts, key=lambda text: (bool(_NAME.search(text)), shuffled_key(text)))
    return filter(stands_clear, ranked)


def _length(text: str) -> tuple[int, str]:
    return len(text.split()), shuffled_key(text)


def _clear_of(requests: Sequence[str]) -> Callable[[str], bool]:
    """A test whether a text, put in for the cue of any request, stands there once and no more.

    Otherwise a reader, or a check of the twins, could take another place for the cue's.
    """

    @cache
    def stands_clear(text: str) -> bool:
        if any(text in request for request in requests):
            return False
        # Only a text that ends as it begins can overlap with itself at the edge of its place.
        if not any(text.endswith(text[:size]) for size in range(1, len(text))):
            return True
        return all(_stands_once(text, request) for request in requests)

    return stands_clear


def _stands_once(text: str, request: str) -> bool:
    rendered, place = request.replace(SLOT, text), request.index(SLOT)
    return rendered.find(text) == rendered.rfind(text) == place


def _families(paired: Mapping[str, list[_Texts]]) -> Iterator[CueFamily]:
    parts = [(group, group, pairs) for group, pairs in paired.items()]
    if len(parts) == 1:  # a split that holds families out needs two
        ((group, _, pairs),) = parts
        parts = [(f"{group}-{half + 1}", group, pairs[half::2]) for half in (0, 1)]
    for index, (name, group, pairs) in enumerate(parts):
        own: Partition = "test" if index % 4 == 1 else "fit"
        sides: list[Partition] = ["test" if turn % 3 == 1 else "fit" for turn in range(len(pairs))]
        if len(pairs) == 1:
            sides = [own]
        cues = (CuePair(*pair, side) for pair, side in zip(pairs, sides, strict=True))
        yield CueFamily(name, group, own, tuple(cues))
