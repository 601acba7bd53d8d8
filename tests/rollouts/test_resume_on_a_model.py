"""Resuming with a real (tiny, random) model, sampled: batches decide the random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.catalog.manifests import EnvironmentManifest, load_manifest
from afbench.environments import Environment
from afbench.models.interface import GenerationSettings
from afbench.models.transformers_model import TransformersModel
from afbench.rollouts import RolloutRequest, RolloutRunner
from afbench.store import Store
from tests.shipped import ROOT


class Killed(Exception):
    pass


def test_sampled_rollouts_are_the_same_after_a_kill(
    qwen2: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = ROOT / "environments" / "oversight-desk"
    manifest = load_manifest(folder)
    assert isinstance(manifest, EnvironmentManifest)
    environment = Environment(manifest, folder)
    settings = GenerationSettings(max_new_tokens=6, temperature=1.0, seed=3, batch_tokens=400)
    request = RolloutRequest("test", 4, settings)

    def runner(cache: str, *, die_after: int = 99) -> tuple[RolloutRunner, list[int]]:
        model: Any = TransformersModel(qwen2, tokenizer, "sha256:tiny", "tiny")
        generate, done = model.generate_batch, list[int]()

        def counted(conversations: Any, options: Any, index: int) -> Any:
            if len(done) == die_after:
                raise Killed
            done.append(index)
            return generate(conversations, options, index)

        model.generate_batch = counted
        store = Store(tmp_path / cache)
        return RolloutRunner(lambda: model, "sha256:tiny", {}, environment, store), done

    unbroken, batches = runner("unbroken")
    expected = unbroken.run(request)
    assert len(batches) > 2
    killed, _ = runner("cache", die_after=2)
    with pytest.raises(Killed):
        killed.run(request)
    resumed, rest = runner("cache")
    assert resumed.run(request) == expected
    assert rest == batches[2:]
    assert len({rollout.response for rollout in expected}) > 1
