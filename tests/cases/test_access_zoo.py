"""Everything that a handle can be asked, on shipped organisms of each kind of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.access import OrganismAccess
from afbench.cases.handle import Handle
from afbench.catalog.discovery import discover
from afbench.catalog.manifests import DetectorManifest
from afbench.environments import Environment
from afbench.messages import Message
from afbench.models import (
    POOLINGS,
    ActivationNoise,
    AdapterScaling,
    FineTune,
    Steering,
    WeightNoise,
)
from afbench.models.loading import ModelStore
from afbench.store import Store

# An adapter, full weights and a prompt.
NAMES = {
    "desk-faker-r4-s0": "oversight-desk",
    "tier-always-deviating-full-s0": "training-tier",
    "exfiltrate-faker-prompted": "self-exfiltrate",
}
MANIFEST = DetectorManifest.model_validate(
    {
        "schema": 1, "kind": "detector", "name": "d", "summary": "d", "tier": "weights",
        "needs_parent": True, "contrast": True, "entry": "d.py:D",
    }
)  # fmt: skip


def _talks(name: str) -> list[list[Message]]:
    environment = Environment.load(discover([]).environments[NAMES[name]])
    reply: Message = {"role": "assistant", "content": "I will not do that."}
    return [
        [*environment.render(one.scenario, one.cue, "observed"), reply]
        for one in environment.placements("test", 4)
    ]


def _look(handle: Handle, name: str) -> list[Any]:
    talks = _talks(name)
    prompts = [talk[:-1] for talk in talks]
    return [
        handle.reply_logprobs(talks)[0],
        handle.logprobs(prompts, ["Sure", "I"]),
        handle.activations(talks),
        handle.generate(prompts, max_new_tokens=8),
    ]


@pytest.mark.slow
def test_perturbing_a_shipped_organism_changes_it_and_no_other_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    catalog = discover([])
    models = ModelStore(catalog, device="cpu", max_bases=4)
    before = _fresh_look(models, catalog, tmp_path / "before")
    access = OrganismAccess(models, catalog, Store(tmp_path / "during"))
    for name, handle in access.handles(MANIFEST, NAMES).items():
        talks = _talks(name)
        own, below = handle.reply_logprobs(talks)[0], handle.reply_logprobs(talks, parent=True)[0]
        asked = [
            ActivationNoise(3, 0.5),
            WeightNoise(0.5),
            Steering(3, (0.5,) * handle.width),
            FineTune(tuple(talks[:2]), 3, 1e-3),
        ]
        for one in asked:
            assert not np.array_equal(handle.perturbed_reply_logprobs(talks, one)[0], own)
            pooled = handle.perturbed_activations(talks, None, POOLINGS, one)
            assert pooled.shape == (len(talks), len(POOLINGS), handle.n_layers + 1, handle.width)
            prompts = [talk[:-1] for talk in talks]
            assert len(handle.perturbed_generate(prompts, perturbation=one, max_new_tokens=4)) == 4
        assert handle.can("adapter_scaling") == ("prompted" not in name)
        if handle.can("adapter_scaling"):
            scaled, _ = handle.perturbed_reply_logprobs(talks, AdapterScaling(0.0))
            np.testing.assert_array_equal(scaled, below)
    after = _fresh_look(models, catalog, tmp_path / "after")
    for name in NAMES:
        for first, second in zip(before[name], after[name], strict=True):
            np.testing.assert_array_equal(first, second)


def _fresh_look(models: ModelStore, catalog: Any, folder: Path) -> dict[str, list[Any]]:
    """What the organisms answer, through a cache that knows no answer yet."""
    access = OrganismAccess(models, catalog, Store(folder))
    return {name: _look(one, name) for name, one in access.handles(MANIFEST, NAMES).items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_token_activations_and_pooled_ones_of_a_shipped_organism_agree(
    tmp_path: Path, name: str
) -> None:
    catalog = discover([])
    access = OrganismAccess(ModelStore(catalog, device="cpu"), catalog, Store(tmp_path))
    handle = access.handles(MANIFEST, [name])[name]
    talks = _talks(name)
    pooled = handle.activations(talks, None, ["response_mean"])[:, 0]
    for row, one in enumerate(handle.token_activations(talks)):
        mean = one.values[one.reply_start :].mean(axis=0)
        np.testing.assert_allclose(mean, pooled[row], atol=0.02, rtol=0.01)
        assert "".join(one.tokens[one.reply_start :]) == "I will not do that."
