from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from afbench.contract.synthetic import synthetic_cases
from afbench.detection.sae import Latents, SelectedProbe, SparseAutoencoder
from afbench.errors import AfbenchError, StorageError
from afbench.metrics.detection import auroc
from afbench.store import Store

D, M = 8, 12


def _weights(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (D, M), "b_enc": (M,), "W_dec": (M, D), "b_dec": (D,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _tokens(n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Sums of a few out of eight orthogonal directions, and which ones they are of."""
    rng = np.random.default_rng(1)
    directions = np.linalg.qr(rng.normal(size=(D, D)))[0]
    on = rng.random((n, D)) < 0.15
    values = on * rng.uniform(1, 2, (n, D))
    return (values @ directions + 3).astype(np.float32), on


def test_an_autoencoder_finds_the_directions_that_tokens_are_made_of() -> None:
    tokens, on = _tokens()
    found = SparseAutoencoder(latents=2 * M, active=3, steps=400).fit(tokens)
    codes = found.encode(tokens)
    assert codes.shape == (len(tokens), 2 * M)
    assert (codes >= 0).all()
    assert ((codes > 0).sum(axis=1) <= 3).all()
    best = [max(auroc(code, truth) for code in codes.T) for truth in on.T]
    assert np.median(best) > 0.85


def test_training_is_repeated_bit_by_bit() -> None:
    tokens, _ = _tokens(300)
    first, second = (SparseAutoencoder(steps=10).fit(tokens).encode(tokens) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    alone = SparseAutoencoder(steps=10).fit(tokens).encode(tokens[:1])
    np.testing.assert_allclose(alone[0], first[0], atol=1e-12)


@pytest.mark.parametrize("layout", ["saelens", "sparsify", "dictionary"])
@pytest.mark.parametrize("centred", [True, False])
def test_published_weights_are_read_under_each_name_they_go_by(
    tmp_path: Path, layout: str, centred: bool
) -> None:
    given = _weights()
    stored = {
        "saelens": given,
        "sparsify": {
            "encoder.weight": given["W_enc"].T.copy(),
            "encoder.bias": given["b_enc"],
            "W_dec": given["W_dec"],
            "b_dec": given["b_dec"],
        },
        "dictionary": {
            "encoder.weight": given["W_enc"].T.copy(),
            "encoder.bias": given["b_enc"],
            "decoder.weight": given["W_dec"].T.copy(),
            "bias": given["b_dec"],
        },
    }[layout]
    save_file(stored, tmp_path / "sae.safetensors")
    found = SparseAutoencoder.published(tmp_path / "sae.safetensors", centred=centred)
    tokens, _ = _tokens(20)
    centre = given["b_dec"] if centred else 0
    expected = np.maximum((tokens - centre) @ given["W_enc"] + given["b_enc"], 0)
    np.testing.assert_allclose(found.encode(tokens), expected, rtol=1e-4, atol=1e-5)
    assert found.width == D


def test_a_threshold_or_a_count_switches_latents_off(tmp_path: Path) -> None:
    path = tmp_path / "sae.safetensors"
    save_file(_weights() | {"threshold": np.full(M, 2.0, np.float32)}, path)
    tokens, _ = _tokens(50)
    codes = SparseAutoencoder.published(path).encode(tokens)
    assert codes[codes > 0].min() > 2.0
    few = SparseAutoencoder.published(path, active=2).encode(tokens)
    assert ((few > 0).sum(axis=1) <= 2).all()
    assert (few[few > 0] == codes[few > 0]).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"W_enc": None}, "no autoencoder under a known name"),
        ({"b_enc": np.zeros(M + 1, np.float32)}, "do not fit together"),
        ({"threshold": np.zeros(3, np.float32)}, "do not fit together"),
    ],
)
def test_weights_that_are_no_autoencoder_are_refused(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    given = {name: a for name, a in (_weights() | changes).items() if a is not None}
    save_file(given, tmp_path / "sae.safetensors")
    with pytest.raises(AfbenchError, match=match):
        SparseAutoencoder.published(tmp_path / "sae.safetensors")


def test_a_file_that_is_not_there_or_no_safetensors_is_named(tmp_path: Path) -> None:
    (tmp_path / "sae.pt").write_bytes(b"\x80\x04 a pickle")
    for name in ("none.safetensors", "sae.pt"):
        with pytest.raises(StorageError, match="cannot read an autoencoder"):
            SparseAutoencoder.published(tmp_path / name)


def test_latents_take_what_is_published_and_its_layer(tmp_path: Path) -> None:
    cases, labels = synthetic_cases(
        seed=0, groups=4, tier="activations", needs_parent=False, store=Store(tmp_path / "store")
    )
    save_file(_weights(), tmp_path / "sae.safetensors")
    published = {"path": str(tmp_path / "sae.safetensors"), "layer": 2}
    latents = Latents(["all_mean"], published=published).fit(cases, labels)
    assert latents.layer == 2
    pooled = latents.pooled(cases)
    assert pooled.shape == (len(cases), 2, M)
    assert (pooled[:, 0] >= pooled[:, 1]).all(), "the largest is no less than the mean"
    narrow = {name: a[..., :4] if name == "W_dec" else a for name, a in _weights().items()}
    narrow |= {"W_enc": narrow["W_enc"][:4], "b_dec": narrow["b_dec"][:4]}
    save_file({name: a.copy() for name, a in narrow.items()}, tmp_path / "sae.safetensors")
    with pytest.raises(AfbenchError, match="reads 4 units and the organisms have 8"):
        Latents(["all_mean"], published=published).fit(cases, labels)


def test_features_are_selected_by_the_cases_of_the_fit_alone() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(200) < 0.5
    features = rng.normal(size=(200, 50)) * rng.uniform(0.1, 9, 50)
    features[:, 7] += 30 * labels
    features[:, 20] = 4.0
    probe: Any = SelectedProbe(1).fit(features, labels)
    assert probe._chosen.tolist() == [7]
    # Noise selected on few cases does not hold on others.
    noise, truth = rng.normal(size=(60, 2000)), rng.random(60) < 0.5
    chosen = SelectedProbe(8).fit(noise[:30], truth[:30])
    assert auroc(chosen.score(noise[:30]), truth[:30]) > 0.95
    assert auroc(chosen.score(noise[30:]), truth[30:]) < 0.75
