from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from afbench.detection.token_probes import Kind, TokenProbe, reply_tokens
from afbench.detection.training import balanced_weights, descend, logistic_loss, repeatable
from afbench.errors import NotEnoughCasesError
from afbench.metrics.detection import auroc
from afbench.models.interface import TokenActivations

KINDS: list[Kind] = ["attention", "multimax", "rolling"]


def _probe(kind: Kind, d: int, window: int = 3) -> Any:
    """A probe with weights of its own making, so that formulas can be checked."""
    rng = np.random.default_rng(0)
    probe: Any = TokenProbe(kind, window=window)
    probe._mean, probe._scale = rng.normal(size=d), rng.uniform(0.5, 2, d)
    probe._queries, probe._values = rng.normal(size=(d, 2)), rng.normal(size=(d, 2))
    probe._bias = 0.25
    return probe


def _by_hand(probe: Any, tokens: NDArray[np.float32]) -> float:
    standard = (tokens.astype(np.float64) - probe._mean) / probe._scale
    total = 0.25
    for head in range(2):
        attention, values = standard @ probe._queries[:, head], standard @ probe._values[:, head]

        def mean(rows: slice, a: Any = attention, v: Any = values) -> float:
            weights = np.exp(a[rows] - a[rows].max())
            return float((weights * v[rows]).sum() / weights.sum())

        if probe.kind == "multimax":
            total += float(values.max())
        elif probe.kind == "attention":
            total += mean(slice(None))
        else:
            starts = range(max(len(tokens) - probe.window, 0) + 1)
            total += max(mean(slice(start, start + probe.window)) for start in starts)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 11])
def test_a_score_is_the_formula_of_its_kind(kind: Kind, length: int) -> None:
    tokens = np.random.default_rng(length).normal(size=(length, 5)).astype(np.float32)
    probe = _probe(kind, 5)
    assert probe.score(tokens) == pytest.approx(_by_hand(probe, tokens), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_of_a_batch_changes_nothing(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    transcripts = [rng.normal(size=(n, 5)).astype(np.float32) for n in (1, 2, 7, 3, 12)]
    probe = _probe(kind, 5, window=4)
    given, lengths = probe._padded(transcripts)
    queries, values = (
        torch.from_numpy(part.astype(np.float32)) for part in (probe._queries, probe._values)
    )
    pooled = probe._pooled(given @ queries, given @ values, lengths).sum(dim=1) + probe._bias
    alone = [probe.score(tokens) for tokens in transcripts]
    np.testing.assert_allclose(pooled.numpy(), alone, atol=1e-4)


def _needles(seed: int, n: int = 160) -> tuple[list[NDArray[np.float32]], NDArray[np.bool_]]:
    """Long transcripts of noise; in a faking one, one token has a mark."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.5
    transcripts = []
    for label in labels:
        tokens = rng.normal(size=(rng.integers(20, 40), 6)).astype(np.float32)
        if label:
            tokens[rng.integers(len(tokens)), 2] += 8
        transcripts.append(tokens)
    return transcripts, labels


@pytest.mark.parametrize("kind", KINDS)
def test_one_token_among_many_is_found(kind: Kind) -> None:
    transcripts, labels = _needles(0)
    unseen, truth = _needles(1)
    probe = TokenProbe(kind, steps=60).fit(transcripts, labels)
    scores = np.array([probe.score(tokens) for tokens in unseen])
    assert auroc(scores, truth) > 0.9
    again = TokenProbe(kind, steps=60).fit(transcripts, labels)
    assert [again.score(tokens) for tokens in unseen[:5]] == scores[:5].tolist()


def test_one_class_is_refused() -> None:
    transcripts, labels = _needles(0, 10)
    with pytest.raises(NotEnoughCasesError):
        TokenProbe("attention").fit(transcripts, np.ones_like(labels))


@pytest.mark.parametrize(("before", "first"), [(0, 4), (3, 1), (99, 0)])
def test_the_reply_is_read_with_a_few_tokens_before_it(before: int, first: int) -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 1, 2)
    found = TokenActivations(values, 4, tuple("abcdef"))
    np.testing.assert_array_equal(reply_tokens(found, before), values[first:, 0])


# Training


def test_both_classes_weigh_alike_and_one_on_average() -> None:
    labels = np.array([True] * 3 + [False] * 9)
    weights = balanced_weights(labels).numpy()
    assert weights[labels].sum() == pytest.approx(weights[~labels].sum())
    assert weights.mean() == pytest.approx(1)


def test_the_loss_is_the_log_loss() -> None:
    logits, labels = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 0.0])
    expected = 0.5 * (3 * np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-2.0)))
    weights = torch.tensor([3.0, 1.0])
    assert float(logistic_loss(logits, labels, weights)) == pytest.approx(expected)


def test_training_goes_downhill_and_leaves_torch_as_it_was() -> None:
    before = torch.get_num_threads()
    state = torch.random.get_rng_state()
    with repeatable(3) as draw:
        assert torch.get_num_threads() == 1
        point = torch.randn(4, generator=draw)
        descend([point], lambda: ((point - 2) ** 2).sum(), steps=200, rate=0.1)
    np.testing.assert_allclose(point.numpy(), 2.0, atol=0.01)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not cast("torch.Tensor", point).requires_grad
