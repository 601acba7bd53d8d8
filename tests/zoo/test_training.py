"""The training loop: a resumed run ends where an unbroken one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from afbench.zoo import checkpoints
from afbench.zoo.checkpoints import Checkpoint
from afbench.zoo.tokenization import Encoded
from afbench.zoo.training import Schedule, steps_of, train

SCHEDULE = Schedule(epochs=2, batch_size=8, learning_rate=1e-2)


def tiny() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip


def examples() -> list[Encoded]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        start = int(rng.integers(32))
        ids = (start + np.arange(int(rng.integers(6, 12)))) % 32
        found.append(Encoded(ids.astype(np.int64), np.arange(len(ids)) > 2))
    return found


def test_training_learns_a_pattern() -> None:
    model = tiny()
    first = train(model, examples(), SCHEDULE, seed=0)
    for _ in range(8):
        last = train(model, examples(), SCHEDULE, seed=0)
    assert last < 0.5 * first


def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_EVERY_STEPS", 3)
    whole = tiny()
    train(whole, examples(), SCHEDULE, seed=1)
    checkpoint = Checkpoint(tmp_path / "c.safetensors")

    class Killed(Exception):
        pass

    def dies_at_step_five(step: int, loss: float) -> None:
        if step == 5:
            raise Killed

    broken = tiny()
    with pytest.raises(Killed):
        train(
            broken, examples(), SCHEDULE, seed=1, progress=dies_at_step_five,
            checkpoint=lambda step, state: checkpoint.keep(step, broken, state),
        )  # fmt: skip
    resumed = tiny()
    start, optimizer = checkpoint.restore(resumed, SCHEDULE)
    assert start == 3
    train(resumed, examples(), SCHEDULE, seed=1, start=start, optimizer=optimizer)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name)), name


def test_steps_count_every_epoch() -> None:
    assert steps_of(SCHEDULE, 40) == 10
    assert steps_of(SCHEDULE, 41) == 12
