"""Probes that read every token of the reply, and learn which of them to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.detection.asking import token_stream
from afbench.detection.detector import Detector
from afbench.detection.features import activations
from afbench.detection.places import choose_place, chosen_place, thinned
from afbench.detection.probes import check_classes
from afbench.detection.state import Fitted, fields
from afbench.models.interface import TokenActivations

if TYPE_CHECKING:
    from torch import Tensor

# Exponents of attention below that of the transcript's most attended token.
_LEAST_ATTENTION = -30.0

Kind = Literal["attention", "multimax", "rolling"]
Tokens = NDArray[np.float32]


def reply_tokens(found: TokenActivations, before: int) -> Tokens:
    """The reply's tokens and a few before it, of a stream of one layer: float32 [t, d], t > 0."""
    return found.values[max(found.reply_start - before, 0) :, 0]


class TokenProbe(Fitted):
    """Heads that each make one number of a transcript's tokens, and the sum of those numbers.

    `attention` takes a softmax-weighted mean of v.x over tokens, `multimax` its maximum, and
    `rolling` the largest of the weighted means over windows of neighbouring tokens (Kramar et al.
    2026, arXiv 2601.11516: attention, MultiMax and max of rolling means; without their network in
    front of the heads).

    Args:
        kind: how a head pools.
        heads: how many.
        window: tokens of a window, for `rolling`.
        decay: weight decay.
        steps: of the optimiser.
        batch: cases of a step.
        rate: its first learning rate.
        seed: of the initial weights and the batches.
    """

    fitted = fields(
        kind=str,
        window=int,
        _mean=np.ndarray,
        _scale=np.ndarray,
        _queries=np.ndarray,
        _values=np.ndarray,
        _bias=float,
    )

    def __init__(
        self,
        kind: Kind,
        *,
        heads: int = 4,
        window: int = 10,
        decay: float = 1.0,
        steps: int = 150,
        batch: int = 256,
        rate: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.kind: str = kind
        self.heads, self.window = heads, window
        self.decay, self.steps, self.batch = decay, steps, batch
        self.rate, self.seed = rate, seed

    def fit(self, transcripts: Sequence[Tokens], labels: NDArray[np.bool_]) -> Self:
        """Fit on tokens [t_i, d] of each case and labels [n].

        Raises:
            NotEnoughCasesError: only one class is there.
        """
        import torch

        from afbench.detection.training import balanced_weights, descend, logistic_loss, repeatable

        check_classes(labels)
        every = np.concatenate(transcripts).astype(np.float64)
        deviation = every.std(axis=0)
        self._mean, self._scale = every.mean(axis=0), np.where(deviation > 1e-8, deviation, 1.0)
        width = every.shape[1]
        with repeatable(self.seed) as draw:
            given, lengths = self._padded(transcripts)
            target = torch.from_numpy(labels.astype(np.float32))
            weights = balanced_weights(labels)
            queries = torch.randn(width, self.heads, generator=draw) / width
            values = torch.randn(width, self.heads, generator=draw) / width
            bias = torch.zeros(1)

            def loss() -> Tensor:
                rows = torch.randperm(len(given), generator=draw)[: self.batch]
                some = given[rows][:, : int(lengths[rows].max())]
                pooled = self._pooled(some @ queries, some @ values, lengths[rows])
                return logistic_loss(pooled.sum(dim=1) + bias, target[rows], weights[rows])

            parameters = (queries, values, bias)
            descend(parameters, loss, steps=self.steps, rate=self.rate, decay=self.decay)
        self._queries, self._values = (
            part.numpy().astype(np.float64) for part in (queries, values)
        )
        self._bias = float(bias)
        return self

    def score(self, tokens: Tokens) -> float:
        """Log-odds of faking for the tokens [t, d] of one transcript."""
        import torch

        standard = (tokens.astype(np.float64) - self._mean) / self._scale
        attention, value = (
            torch.from_numpy(np.einsum("td,dh->th", standard, part))[None]
            for part in (self._queries, self._values)
        )
        pooled = self._pooled(attention, value, torch.tensor([len(tokens)]))
        return float(pooled.sum()) + self._bias

    def _padded(self, transcripts: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Standardised tokens [n, t, d], zeros after each transcript's end, and lengths [n]."""
        import torch

        lengths = [len(tokens) for tokens in transcripts]
        shape = (len(transcripts), max(lengths), transcripts[0].shape[1])
        padded = np.zeros(shape, dtype=np.float32)
        for row, tokens in enumerate(transcripts):
            padded[row, : len(tokens)] = (tokens - self._mean) / self._scale
        return torch.from_numpy(padded), torch.tensor(lengths)

    def _pooled(self, attention: Tensor, value: Tensor, lengths: Tensor) -> Tensor:
        """What each head makes of each transcript: [n, heads] from [n, t, heads] and lengths."""
        import torch

        real = torch.arange(value.shape[1])[None, :, None] < lengths[:, None, None]
        if self.kind == "multimax":
            return value.masked_fill(~real, -torch.inf).amax(dim=1)
        attention = attention.masked_fill(~real, -torch.inf)
        if self.kind == "attention":
            return (torch.softmax(attention, dim=1) * value).sum(dim=1)
        return _largest_window(attention, value, lengths, self.window)


def _largest_window(attention: Tensor, value: Tensor, lengths: Tensor, window: int) -> Tensor:
    """Largest attention-weighted mean over windows: [n, heads].

    A transcript shorter than a window is one window. Attention of padding is minus infinity.
    """
    import torch
    from torch.nn.functional import avg_pool1d, pad

    top = attention.amax(dim=1, keepdim=True)
    # Sums over windows in place of a softmax in each: a weight too small to count stays above zero.
    real = attention > -torch.inf
    weights = torch.exp((attention - top).clamp(min=_LEAST_ATTENTION)).where(real, torch.zeros(()))
    short = max(window - value.shape[1], 0)
    both = pad(torch.cat([weights * value, weights], dim=2), (0, 0, 0, short))
    sums = avg_pool1d(both.transpose(1, 2), window, stride=1).transpose(1, 2)  # [n, starts, 2h]
    above, below = sums.chunk(2, dim=2)
    starts = torch.arange(sums.shape[1])[None, :, None]
    whole = (starts + window <= lengths[:, None, None]) | (starts == 0)
    # A window past the end may hold nothing, and a gradient through nothing over nothing is none.
    means = above / below.where(whole, torch.ones(()))
    return means.masked_fill(~whole, -torch.inf).amax(dim=1)


class TokenDetector(Detector):
    """A `TokenProbe` on the tokens of the reply at one layer.

    The layer is the one where a logistic probe on pooled activations does best on held-out fit
    organisms: tokens are read at that layer alone.

    Args:
        kind: how heads pool.
        poolings: what the layer is chosen with.
        heads, window, decay, steps, batch: of the probe.
        before: tokens before the reply that are read as well.
        most_cases: how many fit cases are read token by token, evenly over organisms.
        most_tokens: how many of a fit case's tokens, the last ones; all are read in scoring.
        seed: of folds and initial weights.
    """

    fitted = fields(layer=int, fit_auroc=float, probe=TokenProbe)

    def __init__(
        self,
        kind: Kind,
        poolings: Sequence[str],
        *,
        heads: int = 4,
        window: int = 10,
        decay: float = 1.0,
        steps: int = 150,
        batch: int = 256,
        before: int = 4,
        most_cases: int = 800,
        most_tokens: int = 64,
        seed: int = 0,
    ) -> None:
        self.kind, self.poolings = kind, list(poolings)
        self.options = {"heads": heads, "window": window, "steps": steps, "batch": batch}
        self.decay, self.before = decay, before
        self.most_cases, self.most_tokens, self.seed = most_cases, most_tokens, seed

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> None:
        """Choose the layer on pooled activations, then train on tokens."""
        self.layer, self.fit_auroc = best_layer(cases, labels, self.poolings, self.seed)
        rows = thinned(cases, self.most_cases)
        shown = [cases[row] for row in rows]
        transcripts: list[Tokens] = [np.empty((0, 0), dtype=np.float32)] * len(shown)
        for index, found in token_stream(shown, [self.layer]):
            transcripts[index] = reply_tokens(found, self.before)[-self.most_tokens :]
        probe = TokenProbe(self.kind, decay=self.decay, seed=self.seed, **self.options)
        self.probe = probe.fit(transcripts, labels[rows])

    def score(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Of every token of the reply, a case at a time."""
        scores = np.zeros(len(cases))
        for index, found in token_stream(cases, [self.layer]):
            scores[index] = self.probe.score(reply_tokens(found, self.before))
        return scores

    def explain(self) -> dict[str, str | float | int]:
        """The layer; `fit_auroc` is the pooled probe's that chose it."""
        return chosen_place(self.layer, "tokens of the reply", self.fit_auroc)


def best_layer(
    cases: Sequence[Case], labels: NDArray[np.bool_], poolings: Sequence[str], seed: int
) -> tuple[int, float]:
    """The layer, from 1, whose pooled activations tell fit cases best, and with what AUROC."""
    features = activations(cases, None, poolings)[:, :, 1:]
    layers = list(range(1, features.shape[2] + 1))
    place = choose_place(features, poolings, layers, cases, labels, strengths=[0.01], seed=seed)
    return place.layer, place.auroc
