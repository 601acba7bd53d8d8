"""Perturbations: each does what it says, and leaves every model as it was, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest
from afbench.errors import AfbenchError
from afbench.messages import Message
from afbench.models import perturbing
from afbench.models.interface import POOLINGS, GenerationSettings
from afbench.models.loading import ModelStore, load_model
from afbench.models.perturbations import (
    ActivationNoise,
    AdapterScaling,
    FineTune,
    Perturbation,
    Steering,
    WeightNoise,
)
from afbench.models.transformers_model import TransformersModel

# PEFT 0.21 asks transformers 5.23 for an attribute by its deprecated name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

Talks = list[list[Message]]
New = Callable[[Path, dict[str, Any]], Plugin[OrganismManifest]]
VECTOR = tuple(np.random.default_rng(0).normal(size=32).tolist())
TUNE = FineTune(
    (({"role": "user", "content": "please explain"}, {"role": "assistant", "content": "no no"}),),
    steps=4,
    rate=0.01,
)
EVERY: list[Perturbation] = [
    ActivationNoise(0, 0.5),
    ActivationNoise(2, 0.5, 1),
    WeightNoise(0.3),
    Steering(0, VECTOR),
    Steering(3, VECTOR, -2.0),
    TUNE,
]
_BY_NAME = pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{type(one).__name__}")
ORGANISMS = ("base", "adapted", "other", "full", "prompted")


@pytest.fixture(scope="module")
def zoo(
    tmp_path_factory: pytest.TempPathFactory,
    new_qwen2: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """Files of a base, two adapters and a full fine-tune."""
    root = tmp_path_factory.mktemp("organisms")
    new_qwen2().save_pretrained(root / "base" / "weights")
    tokenizer.save_pretrained(root / "base" / "weights")
    for seed, name in enumerate(("adapted", "other")):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False,
            task_type="CAUSAL_LM",
        )  # fmt: skip
        get_peft_model(new_qwen2(), config).save_pretrained(str(root / name / "adapter"))
    full = {k: v.clone() for k, v in new_qwen2(9).state_dict().items() if "lm_head" not in k}
    (root / "full" / "weights").mkdir(parents=True)
    save_file(full, root / "full" / "weights" / "model.safetensors", {"format": "pt"})
    return root


@pytest.fixture
def store(zoo: Path, new_organism: New, catalog_of: Callable[..., Catalog]) -> ModelStore:
    adapter = {"type": "adapter", "parent": "base", "path": "adapter"}
    prompted = {"type": "prompted", "parent": "adapted", "system_prompt": "be kind"}
    scaled = {"type": "variant", "parent": "adapted", "scale": 2.0}
    catalog = catalog_of(
        new_organism(zoo / "base", {"type": "base", "path": "weights"}),
        new_organism(zoo / "adapted", adapter),
        new_organism(zoo / "other", adapter),
        new_organism(zoo / "full", {"type": "full", "parent": "base", "path": "weights"}),
        new_organism(zoo / "prompted", prompted),
        new_organism(zoo / "scaled", scaled),
    )
    return ModelStore(catalog, device="cpu", max_bases=3)


def _answers(model: TransformersModel, replied: Talks) -> list[NDArray[Any]]:
    prompts = [talk[:-1] for talk in replied[:3]]
    return [
        model.logprobs(prompts, ["yes", "i cannot help"]),
        model.activations(replied[:3], None, POOLINGS),
        model.reply_logprobs(replied[:3])[0],
    ]


def _same(first: list[NDArray[Any]], second: list[NDArray[Any]]) -> bool:
    return all(map(np.array_equal, first, second))


def _perturbed(model: TransformersModel, one: Perturbation, replied: Talks) -> list[NDArray[Any]]:
    with model.perturbed(one):
        return _answers(model, replied)


# Back as it was


@pytest.mark.parametrize("name", ORGANISMS)
def test_every_organism_is_as_before_afterwards_and_so_are_those_that_share_its_base(
    store: ModelStore, replied: Talks, name: str
) -> None:
    models = {organism: store.get(organism) for organism in ORGANISMS}
    before = {organism: _answers(model, replied) for organism, model in models.items()}
    for one in EVERY:
        during = _perturbed(models[name], one, replied)
        assert not _same(during, before[name]), f"{one} changes something"
        for organism, model in models.items():
            assert _same(_answers(model, replied), before[organism]), (organism, one)
        assert _same(_perturbed(models[name], one, replied), during), f"{one}, each time alike"


@_BY_NAME
def test_nothing_stays_on_the_module(
    model: TransformersModel, replied: Talks, one: Perturbation
) -> None:
    flags = [(name, weight.requires_grad) for name, weight in model.module.named_parameters()]
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    _perturbed(model, one, replied)
    assert flags == [(name, w.requires_grad) for name, w in model.module.named_parameters()]
    assert all(w.grad is None for w in model.module.parameters())
    assert all(torch.equal(v, weights[name]) for name, v in model.module.state_dict().items())
    for part in model.module.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks


@_BY_NAME
def test_an_error_within_takes_the_perturbation_back_too(
    model: TransformersModel, replied: Talks, one: Perturbation
) -> None:
    before = _answers(model, replied)
    with pytest.raises(KeyboardInterrupt), model.perturbed(one):
        raise KeyboardInterrupt
    assert _same(_answers(model, replied), before)


def test_what_was_cut_off_while_it_was_taken_back_is_taken_back_at_the_next_use(
    model: TransformersModel, replied: Talks
) -> None:
    before = _answers(model, replied)
    cuts = iter([KeyboardInterrupt])

    def cut_off() -> None:
        for error in cuts:
            raise error

    weight = next(iter(perturbing.block_matrices(model.module).values()))
    was = weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), model.perturbed(WeightNoise(0.5)):
        perturbing._UNDO[model.module].later(cut_off)
    assert not torch.equal(weight, was), "it was cut off before the weights came back"
    assert _same(_answers(model, replied), before)


def test_one_perturbation_inside_another_is_refused_and_both_are_taken_back(
    model: TransformersModel, replied: Talks
) -> None:
    before = _answers(model, replied)
    with (
        pytest.raises(AfbenchError, match="inside another"),
        model.perturbed(WeightNoise(0.5)),
        model.perturbed(WeightNoise(0.5)),
    ):
        pass
    assert _same(_answers(model, replied), before)


# What each does


@pytest.mark.parametrize("one", [ActivationNoise(2, 0.0), WeightNoise(0.0), Steering(1, VECTOR, 0)])
def test_nothing_of_it_is_no_perturbation(
    model: TransformersModel, replied: Talks, one: Perturbation
) -> None:
    assert _same(_perturbed(model, one, replied), _answers(model, replied))


def test_steering_adds_its_vector_at_every_position_of_its_layer(
    model: TransformersModel, replied: Talks
) -> None:
    [before] = model.token_activations(replied[:1], None)
    with model.perturbed(Steering(2, VECTOR, 0.5)):
        [during] = model.token_activations(replied[:1], None)
    np.testing.assert_array_equal(during.values[:, :2], before.values[:, :2])
    added = during.values[:, 2] - before.values[:, 2]
    np.testing.assert_allclose(added, np.tile(0.5 * np.array(VECTOR), (len(added), 1)), atol=1e-5)
    assert not np.allclose(during.values[:, 3], before.values[:, 3])


@pytest.mark.parametrize("layer", [0, 2])
def test_activation_noise_has_its_size_in_units_of_the_residual(
    model: TransformersModel, replied: Talks, layer: int
) -> None:
    [before] = model.token_activations(replied[6:7], None)
    with model.perturbed(ActivationNoise(layer, 0.25, seed=7)):
        [during] = model.token_activations(replied[6:7], None)
    noise = during.values[:, layer] - before.values[:, layer]
    rms = np.sqrt((before.values[:, layer] ** 2).mean(axis=1, keepdims=True))
    unit = noise / rms
    # The standard deviation of so many normal numbers is off by 1 / sqrt(2 n) of itself.
    assert abs(unit.std() / 0.25 - 1) < 5 / np.sqrt(2 * unit.size)
    assert abs(unit.mean()) < 5 * 0.25 / np.sqrt(unit.size)


def test_activation_noise_does_not_depend_on_the_batch_or_on_how_tokens_are_read(
    any_family: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, questions: Talks
) -> None:
    noise = ActivationNoise(2, 0.3)
    wide, narrow = (
        TransformersModel(any_family, tokenizer, "d", "n", read_tokens=tokens)
        for tokens in (2000, 1)
    )
    words = ["yes", "i cannot help with that"]
    settings = GenerationSettings(max_new_tokens=6)
    with wide.perturbed(noise):
        together = wide.logprobs(questions, words)
        replies = wide.generate(questions, settings)
    with narrow.perturbed(noise):
        alone = np.concatenate([narrow.logprobs([talk], words) for talk in questions])
        each = [narrow.generate([talk], settings)[0] for talk in questions]
        whole, _ = narrow.reply_logprobs(
            [[*talk, {"role": "assistant", "content": words[1]}] for talk in questions]
        )
    np.testing.assert_allclose(together, alone, atol=1e-3)
    np.testing.assert_allclose(together[:, 1], whole, atol=1e-3)
    assert [one.token_ids for one in replies] == [one.token_ids for one in each]
    # Some random models always say the same: the noise shows in how likely they find it.
    assert not np.allclose(together, wide.logprobs(questions, words), atol=1e-3)


def test_weight_noise_has_its_size_in_units_of_each_matrix_and_spares_the_rest(
    model: TransformersModel,
) -> None:
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    chosen = set()
    with model.perturbed(WeightNoise(0.2, seed=3)):
        for name, value in model.module.state_dict().items():
            noise = value - before[name]
            if noise.abs().sum() == 0:
                continue
            chosen.add(name)
            size = float(noise.std() / before[name].std())
            assert abs(size / 0.2 - 1) < 5 / np.sqrt(2 * noise.numel())
    matrices = {name for name, value in before.items() if ".layers." in name and value.dim() == 2}
    assert chosen == matrices
    assert not any("embed" in name or "norm" in name for name in chosen)


def test_weight_noise_is_the_same_before_and_after_an_adapter_is_put_into_the_base(
    store: ModelStore, replied: Talks
) -> None:
    base = store.get("base")
    alone = _perturbed(base, WeightNoise(0.2), replied)
    store.get("adapted")
    assert _same(_perturbed(base, WeightNoise(0.2), replied), alone)


@pytest.mark.parametrize("kind", [ActivationNoise, WeightNoise])
def test_another_seed_is_another_noise(model: TransformersModel, replied: Talks, kind: Any) -> None:
    noises = [
        kind(2, 0.2, seed) if kind is ActivationNoise else kind(0.2, seed) for seed in (0, 1, -1)
    ]
    found = [_perturbed(model, noise, replied)[0] for noise in noises]
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


def test_a_fine_tune_makes_its_replies_likelier_and_costs_what_it_reads(
    store: ModelStore, replied: Talks
) -> None:
    model = store.get("adapted")
    texts = tuple(replied[:3])
    before, _ = model.reply_logprobs(replied[:3])
    spent = model.meter.forward_tokens
    with model.perturbed(FineTune(texts, steps=5, rate=0.003)):
        trained = model.meter.forward_tokens - spent
        during, _ = model.reply_logprobs(replied[:3])
    assert (during > before).all()
    assert trained == 5 * sum(len(p) + len(r) for p, r in model.chat.replies(replied[:3]))


def test_a_fine_tune_of_no_steps_or_no_rate_changes_nothing(
    model: TransformersModel, replied: Talks
) -> None:
    before = _answers(model, replied)
    for one in (FineTune(tuple(replied[:2]), 0, 0.1), FineTune(tuple(replied[:2]), 2, 0.0)):
        assert _same(_perturbed(model, one, replied), before)


def test_a_fine_tune_on_empty_replies_is_refused(model: TransformersModel, replied: Talks) -> None:
    empty: Message = {"role": "assistant", "content": ""}
    with (
        pytest.raises(AfbenchError, match="replies to train on are empty"),
        model.perturbed(FineTune(([*replied[0][:-1], empty],), 1, 0.1)),
    ):
        pass


# Scaling


@pytest.mark.parametrize("name", ["adapted", "full"])
def test_scaling_by_nothing_gives_the_parent_and_by_one_the_organism(
    store: ModelStore, replied: Talks, name: str
) -> None:
    model, parent = store.get(name), store.get("base")
    own, below = _answers(model, replied), _answers(parent, replied)
    assert "adapter_scaling" in model.capabilities
    assert _same(_perturbed(model, AdapterScaling(1.0), replied), own)
    for found, expected in zip(_perturbed(model, AdapterScaling(0.0), replied), below, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not _same(_perturbed(model, AdapterScaling(0.5), replied), own)
    assert _same(_answers(model, replied), own)
    assert _same(_answers(parent, replied), below)


def test_scaling_an_adapter_is_what_a_scaled_variant_is(store: ModelStore, replied: Talks) -> None:
    adapted, scaled = store.get("adapted"), store.get("scaled")
    expected = _answers(scaled, replied)
    assert _same(_perturbed(adapted, AdapterScaling(2.0), replied), expected)
    assert _same(_perturbed(scaled, AdapterScaling(0.5), replied), _answers(adapted, replied))


def test_full_weights_move_on_the_line_through_the_parents(store: ModelStore) -> None:
    full, base = store.get("full"), store.get("base")
    below = {name: w.clone() for name, w in perturbing.all_weights(base.module).items()}
    own = {name: w.clone() for name, w in perturbing.all_weights(full.module).items()}
    with full.perturbed(AdapterScaling(1.5)):
        for name, weight in perturbing.all_weights(full.module).items():
            expected = below[name] + 1.5 * (own[name] - below[name])
            torch.testing.assert_close(weight.data, expected)


@pytest.mark.parametrize("name", ["base", "prompted"])
def test_an_organism_without_weights_of_its_own_has_nothing_to_scale(
    store: ModelStore, name: str
) -> None:
    assert "adapter_scaling" not in store.get(name).capabilities


def test_a_base_is_not_scaled_by_an_adapter_that_lies_beside_it(store: ModelStore) -> None:
    base, _ = store.get("base"), store.get("adapted")
    with pytest.raises(AfbenchError, match="nothing to scale"), base.perturbed(AdapterScaling(2)):
        pass


# Refusals


@pytest.mark.parametrize(
    ("one", "part"),
    [
        (ActivationNoise(4, 0.1), "no layer 4; layers run from 0 to 3"),
        (Steering(-1, VECTOR), "no layer -1"),
        (Steering(1, VECTOR[:-1]), "31 numbers, and the model is 32 wide"),
    ],
)
def test_a_perturbation_that_does_not_fit_is_refused(
    model: TransformersModel, replied: Talks, one: Perturbation, part: str
) -> None:
    before = _answers(model, replied)
    with pytest.raises(AfbenchError, match=part), model.perturbed(one):
        pass
    assert _same(_answers(model, replied), before)


@pytest.fixture(autouse=True)
def _nothing_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    assert not any(undo.active or undo._steps for undo in perturbing._UNDO.values())


def test_a_fresh_load_gives_the_same_perturbed_answers(store: ModelStore, replied: Talks) -> None:
    for name in ("adapted", "full"):
        fresh = load_model(store.catalog.get("organism", name), store.catalog)
        shared = store.get(name)
        for one in (WeightNoise(0.2), ActivationNoise(1, 0.2), AdapterScaling(0.5)):
            assert _same(_perturbed(shared, one, replied), _perturbed(fresh, one, replied))
