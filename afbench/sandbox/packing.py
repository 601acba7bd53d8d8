"""Texts, conversations, cases and states as arrays: no size of theirs is in a frame's header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.detection.state import DetectorState
from afbench.messages import Conversation, Message, Role
from afbench.sandbox.limits import MIB
from afbench.sandbox.protocol import broken, loaded

Arrays = dict[str, NDArray[Any]]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
_STATE_DEPTH: Final = 32
_STATE_JSON: Final = 64 * MIB


def put_texts(arrays: Arrays, name: str, texts: Sequence[str]) -> None:
    """Add some texts to the arrays of a frame.

    Raises:
        UnicodeEncodeError: one holds half a character.
    """
    pieces = [text.encode() for text in texts]
    arrays[name] = np.frombuffer(b"".join(pieces), dtype=np.uint8)
    arrays[f"{name}.parts"] = np.array([len(piece) for piece in pieces], dtype=np.int64)


def take_texts(arrays: Mapping[str, NDArray[Any]], name: str) -> list[str]:
    """The inverse of `put_texts`.

    Raises:
        DetectorError: the arrays are not there, or not what it makes.
    """
    return _cut(arrays, name, _sizes(arrays, name))


def put_talks(arrays: Arrays, name: str, talks: Sequence[Conversation]) -> None:
    """Add some conversations to the arrays of a frame.

    Raises:
        ValueError: a role that there is not, or text that holds half a character.
    """
    pieces = [turn["content"].encode() for talk in talks for turn in talk]
    roles = [ROLES.index(turn["role"]) for talk in talks for turn in talk]
    sizes = [len(piece) for piece in pieces]
    parts = [len(talks), *map(len, talks), *roles, *sizes]
    arrays[name] = np.frombuffer(b"".join(pieces), dtype=np.uint8)
    arrays[f"{name}.parts"] = np.array(parts, dtype=np.int64)


def take_talks(arrays: Mapping[str, NDArray[Any]], name: str) -> list[list[Message]]:
    """The inverse of `put_talks`.

    Raises:
        DetectorError: as `take_texts`.
    """
    parts = _sizes(arrays, name)
    if not parts or len(parts) < 1 + parts[0]:
        broken(f"'{name}' has not as many conversations as it says")
    counts, rest = parts[1 : 1 + parts[0]], parts[1 + parts[0] :]
    total = sum(counts)
    if len(rest) != 2 * total:
        broken(f"'{name}' has not as many turns as it says")
    roles, texts = rest[:total], _cut(arrays, name, rest[total:])
    if max(roles, default=0) >= len(ROLES):
        broken(f"'{name}' has a role that there is not")
    turns = iter(zip(roles, texts, strict=True))
    return [
        [Message(role=ROLES[role], content=text) for role, text in islice(turns, count)]
        for count in counts
    ]


def put_cases(
    arrays: Arrays, cases: Sequence[Case], ids: Sequence[str], numbers: Sequence[int]
) -> None:
    """Add cases to the arrays of a frame: all that a detector is shown of them.

    Args:
        ids: what they are called this time.
        numbers: of the handle of each.
    """
    with_contrast = [case.contrast is not None for case in cases]
    put_texts(arrays, "ids", ids)
    put_texts(arrays, "cues", [case.cue for case in cases])
    put_talks(arrays, "messages", [case.messages for case in cases])
    put_talks(arrays, "contrasts", [case.contrast for case in cases if case.contrast is not None])
    arrays["with_contrast"] = np.array(with_contrast, dtype=np.bool_)
    arrays["groups"] = np.array([case.group for case in cases], dtype=np.int64)
    arrays["handles"] = np.array(numbers, dtype=np.int64)


def take_cases(arrays: Mapping[str, NDArray[Any]], handles: Mapping[int, Handle]) -> list[Case]:
    """The inverse of `put_cases`.

    Args:
        handles: by number.
    """
    contrasts = iter(take_talks(arrays, "contrasts"))
    rows = zip(
        take_texts(arrays, "ids"),
        take_texts(arrays, "cues"),
        take_talks(arrays, "messages"),
        arrays["groups"].tolist(),
        arrays["handles"].tolist(),
        arrays["with_contrast"].tolist(),
        strict=True,
    )
    return [
        Case(
            id=name,
            messages=tuple(messages),
            cue=cue,
            group=group,
            handle=handles[number],
            contrast=tuple(next(contrasts)) if has_contrast else None,
        )
        for name, cue, messages, group, number, has_contrast in rows
    ]


def put_state(arrays: Arrays, state: DetectorState) -> None:
    """Add what a fit has learned to the arrays of a frame.

    Raises:
        ValueError: a value that JSON does not hold.
    """
    put_texts(arrays, "values", [json.dumps(state.values, allow_nan=False)])
    arrays |= {f"state.{name}": array for name, array in state.arrays.items()}


def take_state(arrays: Mapping[str, NDArray[Any]]) -> DetectorState:
    """The inverse of `put_state`.

    Raises:
        DetectorError: it is not what that makes, or holds numbers that are not finite.
    """
    texts = take_texts(arrays, "values")
    if len(texts) != 1 or len(texts[0]) > _STATE_JSON:
        broken("a state that is none")
    values = loaded(texts[0].encode(), _STATE_DEPTH)
    if not isinstance(values, dict):
        broken("a state that is none")
    found = {
        name.removeprefix("state."): array
        for name, array in arrays.items()
        if name.startswith("state.")
    }
    if not all(np.isfinite(array).all() for array in found.values()):
        broken("a state with numbers that are not finite")
    return DetectorState(found, values)


def array_of(
    arrays: Mapping[str, NDArray[Any]], name: str, code: str, dimensions: int = 1
) -> NDArray[Any]:
    """An array that has to be there.

    Raises:
        DetectorError: it is not, or has another type or number of dimensions.
    """
    found = arrays.get(name)
    if found is None or found.dtype.str != code or found.ndim != dimensions:
        broken(f"no '{name}' of type {code}")
    return found


def _sizes(arrays: Mapping[str, NDArray[Any]], name: str) -> list[int]:
    """What a text is made of: integers of Python, which do not overflow."""
    sizes: list[int] = array_of(arrays, f"{name}.parts", "<i8").tolist()
    if min(sizes, default=0) < 0:
        broken(f"'{name}' has a negative size")
    return sizes


def _cut(arrays: Mapping[str, NDArray[Any]], name: str, lengths: list[int]) -> list[str]:
    blob = array_of(arrays, name, "|u1").tobytes()
    if sum(lengths) != len(blob):
        broken(f"'{name}' is not as long as it says")
    found, start = [], 0
    try:
        for length in lengths:
            found.append(blob[start : start + length].decode())
            start += length
    except UnicodeDecodeError:
        broken(f"'{name}' is no text")
    return found
