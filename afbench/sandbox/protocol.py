"""Frames between the host and a sandboxed detector.

A frame is the length of its header (4 bytes, big-endian), the header (UTF-8 JSON), and the numbers
of the arrays that the header announces, in its order, little-endian. Nothing is pickled, and what a
child sends is checked before anything is made of it: whatever is wrong with it is a `DetectorError`
that begins with "protocol:".

An array is announced by name, type, shape and the order of its axes in memory, from the slowest to
the fastest: it arrives in the layout that it had, as sums over another one round otherwise.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from afbench.errors import DetectorError
from afbench.sandbox.limits import MIB

VERSION: Final = 1
DTYPES: Final = frozenset(
    {"<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "|b1"}
)
_LENGTH: Final = struct.Struct(">I")
_FIELDS: Final = {"v", "kind", "body", "arrays"}
_MAX_NAME: Final = 200
_MAX_DIMENSIONS: Final = 6
_AT_ONCE: Final = 65_536
_PARTS: Final = 64  # buffers of one writev; the system takes 1024


class Ended(Exception):
    """The other side is gone: nothing more will come."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """What one frame may be.

    Attributes:
        header: bytes of JSON.
        depth: levels of nesting in it.
        arrays, array_bytes: number of arrays, and their bytes in all.
    """

    header: int = MIB
    depth: int = 8
    arrays: int = 512
    array_bytes: int = 512 * MIB


FROM_CHILD: Final = FrameLimits()
# The host sends params and activations of its own; these limits only catch mistakes.
FROM_HOST: Final = FrameLimits(header=64 * MIB, depth=64, arrays=100_000, array_bytes=1 << 46)


@dataclass(slots=True)
class Allowance:
    """How many frames and bytes may still come in one call."""

    frames: int
    bytes: int

    def take(self, frames: int, size: int) -> None:
        """Count what came or is announced.

        Raises:
            DetectorError: it is too much.
        """
        self.frames -= frames
        self.bytes -= size
        if self.frames < 0:
            broken("too many frames in one call")
        if self.bytes < 0:
            broken("too many bytes in one call")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.

    Attributes:
        kind: what it is.
        body: what JSON can hold.
        arrays: numeric arrays by name.
    """

    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of its arrays."""
        return sum(array.nbytes for array in self.arrays.values())


class Source(Protocol):
    """Where bytes come from."""

    def fill(self, view: memoryview) -> None:
        """Read as many bytes as the view holds.

        Raises:
            Ended: there are no more.
        """
        ...


class Buffered:
    """Reads small things from a descriptor with few calls, and large ones to where they belong.

    Args:
        read: reads into a view what is there, and says how much; 0 at the end.
    """

    def __init__(self, read: Callable[[memoryview], int]) -> None:
        self._read = read
        self._room = memoryview(bytearray(_AT_ONCE))
        self._held = self._room[:0]

    def fill(self, view: memoryview) -> None:
        """As `Source.fill`."""
        while view:
            if not self._held:
                if len(view) >= _AT_ONCE:
                    view = view[_some(self._read(view)) :]
                    continue
                self._held = self._room[: _some(self._read(self._room))]
            count = min(len(view), len(self._held))
            view[:count] = self._held[:count]
            view, self._held = view[count:], self._held[count:]


def written(write: Callable[[list[memoryview]], int], parts: Sequence[memoryview]) -> None:
    """Write buffers whole, as many at once as the system takes.

    Args:
        write: writes what it can of some buffers, and says how much.
    """
    left = [part for part in parts if part]
    while left:
        count = write(left[:_PARTS])
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if left:
            left[0] = left[0][count:]


def _some(count: int) -> int:
    if not count:
        raise Ended
    return count


def broken(why: str) -> NoReturn:
    """The other side does not keep to the protocol.

    Raises:
        DetectorError: always.
    """
    raise DetectorError(f"protocol: {why}")


def plain(text: object, most: int = 400) -> str:
    """A child's text in one line without control characters, which a terminal would obey."""
    shown = "".join(one if one.isprintable() else " " for one in str(text)[: 4 * most])
    short = " ".join(shown.split())
    return short if len(short) <= most else f"{short[:most]}..."


def encoded(frame: Frame) -> list[memoryview]:
    """A frame as buffers to be written one after the other; arrays are not copied.

    Raises:
        ValueError: the body is no JSON, or an array has a type that is not sent.
    """
    announced, parts = [], []
    for name, array in frame.arrays.items():
        order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        sent = _sendable(array.transpose(order))
        announced.append([name, sent.dtype.str, list(array.shape), order])
        if sent.nbytes:
            parts.append(bytes_of(sent))
    header = {"v": VERSION, "kind": frame.kind, "body": frame.body, "arrays": announced}
    text = json.dumps(header, allow_nan=False, ensure_ascii=False).encode()
    return [memoryview(_LENGTH.pack(len(text)) + text), *parts]


def receive(source: Source, limits: FrameLimits, allowance: Allowance | None = None) -> Frame:
    """Read one frame.

    Args:
        allowance: is counted down; None counts nothing.

    Raises:
        DetectorError: it is malformed or too large.
        Ended: there is none, or only a part of one.
    """
    prefix = bytearray(_LENGTH.size)
    source.fill(memoryview(prefix))
    (length,) = _LENGTH.unpack(prefix)
    if length > limits.header:
        broken(f"a header of {length} bytes")
    if allowance is not None:
        allowance.take(1, length)
    text = bytearray(length)
    source.fill(memoryview(text))
    kind, body, specs = _parsed(bytes(text), limits)
    if allowance is not None:
        allowance.take(0, sum(one.size for one in specs))
    return Frame(kind, body, {one.name: _filled(source, one) for one in specs})


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array that is not empty; writing to them writes to it."""
    return array.reshape(-1).view(np.uint8).data


def loaded(text: bytes, depth: int) -> Any:
    """Strict JSON: finite numbers, text that can be encoded, nesting up to a depth.

    Raises:
        DetectorError: it is not.
    """
    try:
        value = json.loads(text.decode(), parse_constant=_refused, parse_float=_finite)
        if b"\\u" in text:  # an escape may be half a character, which could not be written
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        broken("no JSON")
    level = [value]
    for _ in range(depth):
        level = [part for one in level for part in _parts(one)]
        if not level:
            return value
    broken("JSON that is nested too deep")


@dataclass(frozen=True, slots=True)
class _Announced:
    """An array that is to come: its axes in memory are `order`, from the slowest on."""

    name: str
    code: str
    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * np.dtype(self.code).itemsize


def _filled(source: Source, one: _Announced) -> NDArray[Any]:
    # Of a truth value, a byte may hold what numpy does not expect there.
    code = "|u1" if one.code == "|b1" else one.code
    array = np.empty([one.shape[axis] for axis in one.order], dtype=code)
    if array.nbytes:
        source.fill(bytes_of(array))
    if one.code == "|b1":
        array = array != 0
    return array.transpose([one.order.index(axis) for axis in range(len(one.order))])


def _parsed(text: bytes, limits: FrameLimits) -> tuple[str, dict[str, Any], list[_Announced]]:
    header = loaded(text, limits.depth)
    if not isinstance(header, dict) or set(header) != _FIELDS:
        broken("a header that is none")
    if header["v"] != VERSION or isinstance(header["v"], bool):
        broken(f"version {plain(header['v'], 20)}, and this is {VERSION}")
    kind, body, given = header["kind"], header["body"], header["arrays"]
    if not (isinstance(kind, str) and isinstance(body, dict) and isinstance(given, list)):
        broken("a header that is none")
    if len(given) > limits.arrays:
        broken(f"{len(given)} arrays in one frame")
    specs = [_spec(one) for one in given]
    if len({one.name for one in specs}) != len(specs):
        broken("two arrays of one name")
    if sum(one.size for one in specs) > limits.array_bytes:
        broken("arrays that are too large")
    return kind, body, specs


def _spec(given: Any) -> _Announced:
    if not (isinstance(given, list) and len(given) == 4):
        broken("an array without name, type, shape and order")
    name, code, shape, order = given
    if not (isinstance(name, str) and 0 < len(name) <= _MAX_NAME):
        broken("an array without a name")
    if not (isinstance(code, str) and code in DTYPES):
        broken(f"an array of type {plain(code, 20)}")
    if not (isinstance(shape, list) and len(shape) <= _MAX_DIMENSIONS):
        broken("an array without a shape")
    # A bool is an int in Python, and no size.
    if not all(type(one) is int and 0 <= one < 1 << 31 for one in shape):
        broken("an array whose shape is none")
    # Zeros do not make large sizes harmless: numpy refuses to make such an array.
    if math.prod(max(one, 1) for one in shape) >= 1 << 46:
        broken("arrays that are too large")
    if not (
        isinstance(order, list)
        and all(type(one) is int for one in order)
        and sorted(order) == list(range(len(shape)))
    ):
        broken("an array whose axes are in no order")
    return _Announced(name, code, tuple(shape), tuple(order))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _sendable(given: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(given, dtype=given.dtype.newbyteorder("<"), order="C")
    if array.dtype.str not in DTYPES:
        raise ValueError(f"an array of {given.dtype} is not sent")
    return array
