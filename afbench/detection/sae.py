"""Sparse autoencoders of the residual stream: trained on fit tokens, or published ones.

Trained here: top-k activation (Gao et al. 2024, arXiv 2406.04093). Loaded: weights in a local
safetensors file, under the names that SAELens, sparsify or dictionary_learning give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.detection.asking import token_stream
from afbench.detection.linear import location_and_scale
from afbench.detection.places import thinned
from afbench.detection.probes import Classifier, LogisticProbe, Matrix, check_classes
from afbench.detection.state import Fitted, fields
from afbench.detection.token_probes import best_layer, reply_tokens
from afbench.errors import AfbenchError, StorageError

# encoder [d, m], its bias [m], decoder [m, d], its bias [d]; True where a matrix is stored the
# other way round.
_LAYOUTS: Final[tuple[tuple[tuple[str, bool], ...], ...]] = (
    (("W_enc", False), ("b_enc", False), ("W_dec", False), ("b_dec", False)),
    (("encoder.weight", True), ("encoder.bias", False), ("W_dec", False), ("b_dec", False)),
    (("encoder.weight", True), ("encoder.bias", False), ("decoder.weight", True), ("bias", False)),
)

# Of the optimiser over its tokens: few tokens are learned by heart in fewer steps.
_MOST_PASSES: Final = 50


class SparseAutoencoder(Fitted):
    """Many latents of which few are on at a token.

    Args:
        latents: how many.
        active: the most that are on at a token; 0 leaves all positive ones on.
        steps: of the optimiser, at most.
        batch: tokens of a step.
        rate: its first learning rate.
        seed: of initial weights and batches.
    """

    fitted = fields(
        active=int,
        _scale=float,
        _encoder=np.ndarray,
        _encoder_bias=np.ndarray,
        _decoder_bias=np.ndarray,
        _threshold=np.ndarray,
    )

    def __init__(
        self,
        *,
        latents: int = 256,
        active: int = 16,
        steps: int = 300,
        batch: int = 256,
        rate: float = 0.003,
        seed: int = 0,
    ) -> None:
        self.latents, self.active = latents, active
        self.steps, self.batch, self.rate, self.seed = steps, batch, rate, seed

    def fit(self, tokens: NDArray[np.float32]) -> Self:
        """Train on tokens [n, d]: mean squared error of their reconstruction."""
        import torch

        from afbench.detection.training import descend, repeatable

        centre = tokens.mean(axis=0, dtype=np.float64)
        # Inputs of mean square one, so that one learning rate suits every layer.
        rms = float(np.sqrt(np.mean((tokens - centre) ** 2, dtype=np.float64)))
        self._scale = 1 / max(rms, 1e-8)
        width = tokens.shape[1]
        with repeatable(self.seed) as draw:
            given = torch.from_numpy(((tokens - centre) * self._scale).astype(np.float32))
            decoder = torch.randn(self.latents, width, generator=draw)
            decoder /= decoder.norm(dim=1, keepdim=True)
            encoder = decoder.T.clone()
            encoder_bias, decoder_bias = torch.zeros(self.latents), torch.zeros(width)

            def loss() -> torch.Tensor:
                chosen = torch.randint(len(given), (self.batch,), generator=draw)
                batch = given[chosen]
                pre = torch.relu((batch - decoder_bias) @ encoder + encoder_bias)
                values, places = pre.topk(min(self.active or self.latents, self.latents), dim=1)
                codes = torch.zeros_like(pre).scatter(1, places, values)
                directions = decoder / decoder.norm(dim=1, keepdim=True)
                wrong = codes @ directions + decoder_bias - batch
                return torch.mean(wrong**2)

            parameters = (encoder, encoder_bias, decoder, decoder_bias)
            steps = min(self.steps, -(-_MOST_PASSES * len(given) // self.batch))
            descend(parameters, loss, steps=steps, rate=self.rate)
        self._encoder, self._encoder_bias = (
            part.numpy().astype(np.float64) for part in (encoder, encoder_bias)
        )
        self._decoder_bias = centre + decoder_bias.numpy() / self._scale
        self._threshold = np.zeros(self.latents)
        return self

    @classmethod
    def published(cls, path: Path, *, active: int = 0, centred: bool = True) -> Self:
        """One whose weights are in a safetensors file.

        Args:
            active: k of a top-k autoencoder; 0 for one of ReLU or JumpReLU (`threshold` in it).
            centred: whether the decoder's bias is taken off the input first.

        Raises:
            StorageError: no such file, or no safetensors in it.
            AfbenchError: it does not hold an autoencoder under any of the known names.
        """
        arrays = _read(path)
        encoder, encoder_bias, decoder, decoder_bias = _matched(arrays, path)
        width, latents = encoder.shape
        expected = {(latents, width): decoder, (latents,): encoder_bias, (width,): decoder_bias}
        threshold = np.asarray(arrays.get("threshold", np.zeros(latents)), dtype=np.float64)
        if any(array.shape != shape for shape, array in expected.items()) or (
            threshold.shape != (latents,)
        ):
            raise AfbenchError("the autoencoder's weights do not fit together", where=str(path))
        found = cls(latents=latents, active=active)
        found._scale = 1.0
        found._encoder, found._encoder_bias = encoder, encoder_bias
        found._decoder_bias = decoder_bias if centred else np.zeros(width)
        found._threshold = threshold
        return found

    @property
    def width(self) -> int:
        """Size of what it reads."""
        return int(self._encoder.shape[0])

    def encode(self, tokens: NDArray[np.float32]) -> NDArray[np.float64]:
        """Latents of tokens [t, d]: float64 [t, m], not negative."""
        standard = (tokens.astype(np.float64) - self._decoder_bias) * self._scale
        pre = np.einsum("td,dm->tm", standard, self._encoder, optimize=True) + self._encoder_bias
        codes = np.where(pre > self._threshold, np.maximum(pre, 0.0), 0.0)
        if 0 < self.active < codes.shape[1]:
            least = np.partition(codes, -self.active, axis=1)[:, -self.active, None]
            codes = np.where(codes >= least, codes, 0.0)
        return codes


class Latents(Fitted):
    """Pooled latents of the reply's tokens, of an autoencoder that `fit` trains or loads.

    Args:
        poolings: what the layer is chosen with, where none is given.
        before: tokens before the reply that are read as well.
        most_cases, most_tokens: what the autoencoder is trained on: so many fit cases, evenly over
            organisms, and so many of the last tokens of each.
        options: of the `SparseAutoencoder`.
        published: `path` of a safetensors file, the `layer` that it reads, and if need be `active`
            and `centred`; None trains one.
        seed: of folds, weights and batches.
    """

    fitted = fields(layer=int, fit_auroc=float, before=int, autoencoder=SparseAutoencoder)

    def __init__(
        self,
        poolings: Sequence[str],
        *,
        before: int = 4,
        most_cases: int = 800,
        most_tokens: int = 64,
        options: Mapping[str, int] | None = None,
        published: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.poolings, self.before = list(poolings), before
        self.most_cases, self.most_tokens, self.seed = most_cases, most_tokens, seed
        self.options, self.published = dict(options or {}), dict(published or {})

    def fit(self, cases: Sequence[Case], labels: NDArray[np.bool_]) -> Self:
        """Choose the layer and train on its tokens, or load what is given.

        Raises:
            AfbenchError: the published weights are of another width than the organisms.
        """
        if self.published:
            return self._load(cases[0].handle.width)
        self.layer, self.fit_auroc = best_layer(cases, labels, self.poolings, self.seed)
        shown = [cases[row] for row in thinned(cases, self.most_cases)]
        parts: list[NDArray[np.float32]] = [np.empty((0, 0), np.float32)] * len(shown)
        for index, found in token_stream(shown, [self.layer]):
            parts[index] = found.values[-self.most_tokens :, 0]
        autoencoder = SparseAutoencoder(**self.options, seed=self.seed)
        self.autoencoder = autoencoder.fit(np.concatenate(parts))
        return self

    def pooled(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Largest and mean activation of each latent over the reply: float64 [n, 2, m]."""
        rows: list[NDArray[np.float64]] = [np.empty(0)] * len(cases)
        for index, found in token_stream(cases, [self.layer]):
            codes = self.autoencoder.encode(reply_tokens(found, self.before))
            rows[index] = np.stack([codes.max(axis=0), codes.mean(axis=0)])
        return np.stack(rows)

    def _load(self, width: int) -> Self:
        given = dict(self.published)
        path = Path(str(given.pop("path"))).expanduser()
        self.layer, self.fit_auroc = int(given.pop("layer")), float("nan")
        self.autoencoder = SparseAutoencoder.published(path, **given)
        if self.autoencoder.width != width:
            raise AfbenchError(
                f"the autoencoder reads {self.autoencoder.width} units and the organisms have "
                f"{width}",
                where=str(path),
                fix="give one that was trained on this base",
            )
        return self


class SelectedProbe(Classifier):
    """Logistic regression on the features that differ most between the classes.

    They are selected in `fit`, so that cross-validation holds the selection out as well: selected
    beforehand, sparse features look far better than they are.

    Args:
        strength: how many features.
        penalty: inverse of the L2 penalty.
    """

    fitted = fields(_chosen=np.ndarray, _probe=LogisticProbe)

    def __init__(self, strength: float = 32, penalty: float = 0.1) -> None:
        self.count, self.penalty = int(strength), penalty

    def fit(self, features: Matrix, labels: NDArray[np.bool_]) -> Self:
        check_classes(labels)
        _, scale = location_and_scale(features)
        apart = features[labels].mean(axis=0) - features[~labels].mean(axis=0)
        order = np.argsort(-np.abs(apart / scale), kind="stable")
        self._chosen = np.sort(order[: self.count])
        self._probe = LogisticProbe(self.penalty).fit(features[:, self._chosen], labels)
        return self

    def score(self, features: Matrix) -> NDArray[np.float64]:
        return self._probe.score(features[:, self._chosen])


def _read(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"cannot read an autoencoder: {error}",
            where=str(path),
            fix="give the path of a safetensors file with numbers of 32 or 16 bits (no bfloat16)",
        ) from None


def _matched(arrays: Mapping[str, NDArray[Any]], path: Path) -> list[NDArray[np.float64]]:
    for layout in _LAYOUTS:
        if all(name in arrays for name, _ in layout):
            return [
                np.asarray(arrays[name].T if turned else arrays[name], dtype=np.float64)
                for name, turned in layout
            ]
    raise AfbenchError(
        "no autoencoder under a known name",
        where=str(path),
        fix="known: " + "; ".join(", ".join(name for name, _ in layout) for layout in _LAYOUTS),
    )
