"""What a detector may ask a handle across the protocol: the public methods of `Handle`, no others.

A question's arguments are packed by their names, which mean the same in every method.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from afbench.cases.handle import Budget, Handle
from afbench.errors import AfbenchError
from afbench.models.interface import TokenActivations
from afbench.models.perturbations import Perturbation, described, perturbation_of
from afbench.sandbox.packing import (
    Arrays,
    array_of,
    put_talks,
    put_texts,
    take_talks,
    take_texts,
)
from afbench.sandbox.protocol import Frame, broken

METHODS: Final = (
    "can", "generate", "logprobs", "parent_logprobs", "followup_logprobs",
    "parent_followup_logprobs", "next_token_logprobs", "reply_logprobs", "activations",
    "parent_activations", "layer_logprobs", "token_activations", "perturbed_logprobs",
    "perturbed_reply_logprobs", "perturbed_activations", "perturbed_generate",
)  # fmt: skip
SIGNATURES: Final = {name: inspect.signature(getattr(Handle, name)) for name in METHODS}
# Beside the methods: a bill, and one transcript of a sequence of token activations.
SPENT: Final = "spent"
TOKENS_AT: Final = "tokens-at"

_TALKS: Final = {"conversations"}
_TEXTS: Final = {"continuations", "questions"}
_SCALARS: Final[dict[str, type]] = {
    "capability": str, "parent": bool, "temperature": float, "max_new_tokens": int,
    "samples": int, "seed": int,
}  # fmt: skip
_LARGEST_INT: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it came from a child, checked."""

    method: str
    handle: int
    arguments: dict[str, Any]


def question(method: str, handle: int, *given: Any, **named: Any) -> Frame:
    """A question as a frame; arguments as the method of `Handle` takes them.

    Raises:
        TypeError, ValueError: they are not what it takes.
    """
    bound = SIGNATURES[method].bind(None, *given, **named)
    bound.apply_defaults()
    body: dict[str, Any] = {"method": method, "handle": handle}
    arrays: Arrays = {}
    for name, value in list(bound.arguments.items())[1:]:
        if name in _TALKS:
            put_talks(arrays, name, value)
        elif name in _TEXTS:
            put_texts(arrays, name, list(value))
        elif name == "layers":
            body[name] = None if value is None else [int(layer) for layer in value]
        elif name == "poolings":
            body[name] = [str(one) for one in value]
        elif name == "perturbation":
            body[name] = _put_perturbation(arrays, value)
        else:
            body[name] = _SCALARS[name](value)
    return Frame("ask", body, arrays)


def asked(frame: Frame) -> Question:
    """The question that a frame asks; every argument of its method is there and no other.

    Raises:
        DetectorError: it is no question.
    """
    body = dict(frame.body)
    method, handle = body.pop("method", None), body.pop("handle", None)
    if type(handle) is not int or not isinstance(method, str):
        broken("a question without method or handle")
    if method == TOKENS_AT:
        return Question(method, handle, {"index": _integer(body.get("index"))})
    if method == SPENT:
        return Question(method, handle, {})
    if method not in SIGNATURES:
        broken("a question that there is not")
    names = list(SIGNATURES[method].parameters)[1:]
    unknown = set(body) - set(names)
    if unknown:
        broken("an argument that there is not")
    return Question(method, handle, {name: _argument(name, body, frame) for name in names})


def _argument(name: str, body: Mapping[str, Any], frame: Frame) -> Any:
    if name in _TALKS:
        return take_talks(frame.arrays, name)
    if name in _TEXTS:
        return take_texts(frame.arrays, name)
    if name not in body:
        broken(f"no '{name}'")
    value = body[name]
    if name == "layers":
        return None if value is None else [_integer(one) for one in _listed(value)]
    if name == "poolings":
        if not all(isinstance(one, str) for one in _listed(value)):
            broken("a list that is none")
        return value
    if name == "perturbation":
        return _take_perturbation(frame, value)
    kind = _SCALARS[name]
    if kind is int:
        return _integer(value)
    if kind is float and type(value) is int:
        return float(_integer(value))
    if type(value) is not kind:
        broken(f"'{name}' is not what it has to be")
    return value


def _put_perturbation(arrays: Arrays, perturbation: Perturbation) -> dict[str, Any]:
    """Its description, without what is long."""
    fields = described(perturbation)
    if "vector" in fields:
        arrays["vector"] = np.array(fields.pop("vector"), dtype=np.float64)
    if "texts" in fields:
        put_talks(arrays, "texts", fields.pop("texts"))
    return fields


def _take_perturbation(frame: Frame, given: Any) -> Perturbation:
    if not isinstance(given, dict) or not all(
        isinstance(one, str | int | float) for one in given.values()
    ):
        broken("a perturbation that is none")
    fields = dict(given)
    if "vector" in frame.arrays:
        fields["vector"] = array_of(frame.arrays, "vector", "<f8").tolist()
    if "texts" in frame.arrays:
        fields["texts"] = tuple(tuple(talk) for talk in take_talks(frame.arrays, "texts"))
    try:
        return perturbation_of(fields)
    except (AfbenchError, ValueError, TypeError, OverflowError):
        broken("a perturbation that is none")


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        broken("a list that is none")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or abs(value) > _LARGEST_INT:
        broken("an integer that is none")
    return int(value)


# -- answers ---------------------------------------------------------------------------------------


def answer(value: Any) -> Frame:
    """What a handle returned, as a frame; a sequence of token activations goes another way.

    Raises:
        TypeError: it is nothing that a handle returns.
    """
    arrays: Arrays = {}
    if isinstance(value, np.ndarray):
        return Frame("answer", {"form": "array"}, {"value": value})
    if isinstance(value, tuple) and all(isinstance(part, np.ndarray) for part in value):
        return Frame("answer", {"form": "arrays"}, {str(at): part for at, part in enumerate(value)})
    if isinstance(value, bool):
        return Frame("answer", {"form": "flag", "value": value})
    if isinstance(value, Budget):
        return Frame("answer", {"form": "budget", **asdict(value)})
    if isinstance(value, TokenActivations):
        put_texts(arrays, "tokens", value.tokens)
        return Frame(
            "answer",
            {"form": "tokens", "reply_start": value.reply_start},
            {**arrays, "values": value.values},
        )
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        put_texts(arrays, "texts", value)
        return Frame("answer", {"form": "texts"}, arrays)
    if isinstance(value, list):
        put_texts(arrays, "texts", [text for row in value for text in row])
        return Frame("answer", {"form": "rows", "rows": [len(row) for row in value]}, arrays)
    raise TypeError(type(value).__name__)


def answered(frame: Frame) -> Any:
    """The inverse of `answer`, in the child."""
    body, arrays = dict(frame.body), frame.arrays
    form = body.pop("form")
    return _FORMS[form](body, arrays)


def _rows(body: Mapping[str, Any], arrays: Arrays) -> list[list[str]]:
    texts = iter(take_texts(arrays, "texts"))
    return [[next(texts) for _ in range(count)] for count in body["rows"]]


_FORMS: Final[dict[str, Callable[[dict[str, Any], Arrays], Any]]] = {
    "array": lambda body, arrays: arrays["value"],
    "arrays": lambda body, arrays: tuple(arrays[str(at)] for at in range(len(arrays))),
    "flag": lambda body, arrays: body["value"],
    "budget": lambda body, arrays: Budget(**body),
    "tokens": lambda body, arrays: TokenActivations(
        arrays["values"], body["reply_start"], tuple(take_texts(arrays, "tokens"))
    ),
    "texts": lambda body, arrays: take_texts(arrays, "texts"),
    "rows": _rows,
}
