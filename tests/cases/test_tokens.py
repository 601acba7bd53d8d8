from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from afbench.cases.tokens import TokenSequence, packed, unpacked
from afbench.contract.fake_model import FakeModel
from afbench.messages import Message
from afbench.models.interface import TokenActivations
from afbench.store import Store
from tests.fakes import handle_on

TALKS: list[list[Message]] = [
    [
        {"role": "user", "content": "Please copy it. " * (index + 1)},
        {"role": "assistant", "content": "Sure."},
    ]
    for index in range(4)
]


def _one(values: np.ndarray) -> TokenActivations:
    return TokenActivations(values.astype(np.float32), 2, ("a", "\ufffd", '"', "\n"))


def test_what_is_packed_comes_back_to_half_precision() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3, 16))
    back = unpacked(packed(_one(values), 9), [0, 1, 2])
    np.testing.assert_allclose(back.values, values, rtol=2**-11, atol=1e-7)
    assert (back.reply_start, back.tokens) == (2, ("a", "\ufffd", '"', "\n"))
    assert back.values.dtype == np.float32


def test_a_residual_beyond_half_precision_is_scaled_and_not_infinite() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3, 16))
    values[1, 2, 5] = 3e6
    back = unpacked(packed(_one(values), 9), [0, 1, 2]).values
    assert np.isfinite(back).all()
    np.testing.assert_allclose(back[1, 2, 5], 3e6, rtol=1e-3)
    np.testing.assert_allclose(back[:, :2], values[:, :2], rtol=2**-11, atol=1e-7)
    np.testing.assert_allclose(back[:, 2], values[:, 2], rtol=1e-3, atol=3e6 / 2**25)


def test_layers_are_chosen_when_they_are_read() -> None:
    arrays = packed(_one(np.random.default_rng(0).normal(size=(4, 3, 16))), 9)
    whole = unpacked(arrays, [0, 1, 2]).values
    np.testing.assert_array_equal(unpacked(arrays, [2, 0, 2]).values, whole[:, [2, 0, 2]])


def test_an_empty_transcript_is_packed_too() -> None:
    back = unpacked(packed(TokenActivations(np.zeros((0, 3, 4), np.float32), 0, ()), 0), [1])
    assert back.values.shape == (0, 1, 4)


def test_a_sequence_reads_an_item_when_it_is_looked_at_and_not_before() -> None:
    read: list[int] = []

    def one(index: int) -> TokenActivations:
        read.append(index)
        return _one(np.full((4, 3, 16), index))

    stream = TokenSequence(one, 5)
    assert (len(stream), read) == (5, [])
    assert stream[-1].values[0, 0, 0] == 4
    assert [item.values[0, 0, 0] for item in stream[1:3]] == [1, 2]
    assert read == [4, 1, 2]
    assert [item.values[0, 0, 0] for item in stream] == [0, 1, 2, 3, 4]
    for index in (5, -6):
        with pytest.raises(IndexError):
            stream[index]


class _Counts(FakeModel):
    """Counts the conversations that it forwards."""

    def token_activations(
        self, conversations: Sequence[Sequence[Message]], layers: Sequence[int] | None
    ):  # type: ignore[no-untyped-def]
        self.seen = getattr(self, "seen", 0) + len(conversations)
        return super().token_activations(conversations, layers)


def test_a_conversation_is_forwarded_once_whatever_layers_detectors_ask_for(
    tmp_path: Path,
) -> None:
    model = _Counts(0)
    for layers in (None, [1], [-1, 0]):
        handle = handle_on(model, "activations", Store(tmp_path))
        stream = handle.token_activations(TALKS, layers)
        [whole] = FakeModel(0).token_activations(TALKS[:1], layers or [0, 1, 2, 3])
        if layers != [-1, 0]:
            np.testing.assert_allclose(stream[0].values, whole.values, rtol=2**-11, atol=1e-7)
        assert handle.spent.queries == len(TALKS), "and each question is paid for"
    assert model.seen == len(TALKS)


def test_token_activations_are_not_held_in_memory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    handle = handle_on(FakeModel(0), "activations", store)
    stream = handle.token_activations(TALKS)
    list(stream)
    assert not store._held
    assert len(list((tmp_path / "tokens").rglob("*.safetensors"))) == len(TALKS)


def test_a_wide_model_keeps_only_the_layers_asked_for(tmp_path: Path) -> None:
    handle = handle_on(FakeModel(0, n_layers=15, width=512), "activations", Store(tmp_path))
    found = handle.token_activations(TALKS[:1], [9, 3, 9])[0]
    [expected] = FakeModel(0, n_layers=15, width=512).token_activations(TALKS[:1], [9, 3, 9])
    np.testing.assert_allclose(found.values, expected.values, rtol=2**-11, atol=1e-7)
    [entry] = (tmp_path / "tokens").rglob("*.safetensors")
    assert entry.stat().st_size < 3 * 2 * 512 * len(found.tokens) + 2000


def test_what_is_gone_from_disk_is_computed_again(tmp_path: Path) -> None:
    handle = handle_on(FakeModel(0), "activations", Store(tmp_path))
    stream = handle.token_activations(TALKS)
    before, spent = stream[2].values, handle.spent.forward_tokens
    for entry in (tmp_path / "tokens").rglob("*.safetensors"):
        entry.write_bytes(b"damaged")
    np.testing.assert_array_equal(stream[2].values, before)
    assert handle.spent.forward_tokens == spent, "it was paid for"


def test_an_edited_answer_is_not_what_the_next_one_reads(tmp_path: Path) -> None:
    stream = handle_on(FakeModel(0), "activations", Store(tmp_path)).token_activations(TALKS)
    before = stream[0].values.copy()
    stream[0].values[:] = 0
    np.testing.assert_array_equal(stream[0].values, before)
