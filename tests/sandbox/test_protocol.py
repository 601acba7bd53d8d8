"""Frames: what is sent arrives as it was, and what is malformed is the child's error."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.errors import DetectorError
from afbench.sandbox.protocol import (
    DTYPES,
    FROM_CHILD,
    VERSION,
    Allowance,
    Ended,
    Frame,
    FrameLimits,
    encoded,
    plain,
    receive,
)


class Bytes:
    """A source of some bytes."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def fill(self, view: memoryview) -> None:
        if self._file.readinto(view) != len(view):
            raise Ended


def sent(frame: Frame) -> bytes:
    return b"".join(bytes(part) for part in encoded(frame))


def received(content: bytes, limits: FrameLimits = FROM_CHILD) -> Frame:
    return receive(Bytes(content), limits)


def raw(header: Any, after: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + after


def header(**changed: Any) -> dict[str, Any]:
    return {"v": VERSION, "kind": "done", "body": {}, "arrays": [], **changed}


def test_a_frame_begins_with_the_length_of_its_header() -> None:
    content = sent(Frame("done", {"a": 1}, {"x": np.array([1, 2], dtype="<u2")}))
    (length,) = struct.unpack(">I", content[:4])
    assert json.loads(content[4 : 4 + length]) == {
        "v": 1, "kind": "done", "body": {"a": 1}, "arrays": [["x", "<u2", [2], [0]]],
    }  # fmt: skip
    assert content[4 + length :] == b"\x01\x00\x02\x00"


@pytest.mark.parametrize("code", sorted(DTYPES))
def test_every_type_arrives_with_its_shape(code: str) -> None:
    for shape in ((), (0,), (3,), (2, 0, 4), (2, 3, 4)):
        count = int(np.prod(shape))
        array = (np.arange(count) % 2).astype(code).reshape(shape)
        found = received(sent(Frame("done", {}, {"x": array}))).arrays["x"]
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        assert found.shape == shape


def test_an_array_keeps_its_layout_in_memory() -> None:
    whole = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
    for axes in ((0, 1, 2, 3), (2, 1, 0, 3), (3, 2, 1, 0)):
        array = whole.transpose(axes)
        found = received(sent(Frame("done", {}, {"x": array}))).arrays["x"]
        np.testing.assert_array_equal(found, array)
        assert found.strides == array.strides


def test_truth_values_of_a_stranger_are_zero_or_one() -> None:
    announced = header(arrays=[["x", "|b1", [3], [0]]])
    found = received(raw(announced, b"\x00\x07\x01")).arrays["x"]
    assert found.dtype == np.bool_
    assert found.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (raw(b"\xff\xfe"), "no JSON"),
        (raw(b"{"), "no JSON"),
        (raw(b"[" * 100_000), "no JSON"),
        (raw(header(body={"x": float("nan")})), "no JSON"),
        (raw(json.dumps(header(body={"x": 1})).replace("1}", "1e999}").encode()), "no JSON"),
        (raw(header(body={"x": "\ud800"})), "no JSON"),
        (raw(header(body={"x": [[[[[[[[[1]]]]]]]]]})), "nested too deep"),
        (raw(b"[]"), "a header that is none"),
        (raw({**header(), "more": 1}), "a header that is none"),
        (raw(header(v=2)), "version 2, and this is 1"),
        (raw(header(v="\x1b[2J")), "version [2J"),
        (raw(header(kind=1)), "a header that is none"),
        (raw(header(body=[])), "a header that is none"),
        (raw(header(arrays={})), "a header that is none"),
        (raw(header(arrays=[[]])), "without name, type, shape"),
        (raw(header(arrays=[["x", "O", [1], [0]]])), "an array of type O"),
        (raw(header(arrays=[["x", "<f4,<f4", [1], [0]]])), "an array of type"),
        (raw(header(arrays=[["x", "<f4", [-1], [0]]])), "whose shape is none"),
        (raw(header(arrays=[["x", "<f4", [True], [0]]])), "whose shape is none"),
        (raw(header(arrays=[["x", "<f4", [1] * 7, list(range(7))]])), "without a shape"),
        (raw(header(arrays=[["x", "<f4", [1, 1], [0, 0]]])), "in no order"),
        (raw(header(arrays=[["x", "<f4", [1], [1]]])), "in no order"),
        (raw(header(arrays=[["x", "<f4", [1 << 30, 1 << 30], [0, 1]]])), "too large"),
        (raw(header(arrays=[["x", "<f4", [0, 1 << 30, 1 << 30], [0, 1, 2]]])), "too large"),
        (raw(header(arrays=[["x", "|u1", [FROM_CHILD.array_bytes + 1], [0]]])), "too large"),
        (raw(header(arrays=[["x", "<f4", [1], [0]]] * 2), bytes(8)), "two arrays of one name"),
        (raw(header(arrays=[[str(i), "<f4", [0], [0]] for i in range(600)])), "600 arrays"),
        (struct.pack(">I", 0xFFFFFFFF), "a header of 4294967295 bytes"),
    ],
)
def test_what_is_malformed_is_an_error_of_the_child(content: bytes, part: str) -> None:
    with pytest.raises(DetectorError, match="^protocol: ") as caught:
        received(content)
    assert part in str(caught.value)
    assert str(caught.value).isprintable()


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 250))
def test_no_bytes_break_the_host(noise: bytes, cut: int) -> None:
    good = sent(Frame("ask", {"method": "can"}, {"x": np.arange(4, dtype=np.float32)}))
    for content in (noise, good[:cut] + noise, raw(noise)):
        try:
            frame = received(content)
        except (DetectorError, Ended):
            continue
        assert isinstance(frame.kind, str)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {
            "v": st.just(VERSION) | json_values,
            "kind": st.just("ask") | json_values,
            "body": st.dictionaries(st.text(max_size=8), json_values, max_size=3) | json_values,
            "arrays": json_values
            | st.lists(
                st.tuples(
                    st.text(max_size=3),
                    st.sampled_from([*DTYPES, "O", ">f4"]),
                    st.lists(st.integers(-1, 3), max_size=3),
                    st.lists(st.integers(-1, 3), max_size=3),
                ),
                max_size=3,
            ),
        }
    )
)
def test_no_header_breaks_the_host(changed: dict[str, Any]) -> None:
    try:
        frame = received(raw(json.dumps(changed).encode(), bytes(1000)))
    except (DetectorError, Ended):
        return
    assert frame.kind == changed["kind"]


def test_a_part_of_a_frame_is_none() -> None:
    content = sent(Frame("done", {}, {"x": np.arange(4)}))
    for cut in range(len(content)):
        with pytest.raises(Ended):
            received(content[:cut])


def test_frames_and_bytes_of_a_call_are_counted() -> None:
    content = sent(Frame("ask", {}, {"x": np.zeros(100, np.uint8)}))
    source, allowance = Bytes(content * 5), Allowance(frames=3, bytes=10_000)
    for _ in range(3):
        receive(source, FROM_CHILD, allowance)
    with pytest.raises(DetectorError, match="too many frames in one call"):
        receive(source, FROM_CHILD, allowance)
    # Announced bytes count before they are waited for.
    with pytest.raises(DetectorError, match="too many bytes in one call"):
        receive(Bytes(content[:-100]), FROM_CHILD, Allowance(frames=3, bytes=len(content) - 5))


def test_text_of_a_child_is_one_printable_line() -> None:
    assert plain("a\x1b[31m\nb\u202ec\x07") == "a [31m b c"
    assert plain("x" * 1000, 10) == "xxxxxxxxxx..."
