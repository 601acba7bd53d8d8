"""Handles and runners on real (tiny, random) organisms on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from afbench.cases.access import OrganismAccess
from afbench.catalog.discovery import Catalog, Plugin, discover
from afbench.catalog.manifests import (
    DetectorManifest,
    EnvironmentManifest,
    OrganismManifest,
    load_manifest,
)
from afbench.environments import Condition, Environment
from afbench.errors import AfbenchError, TierError, UnknownNameError
from afbench.messages import Message
from afbench.models.interface import GenerationSettings
from afbench.models.loading import ModelStore
from afbench.models.perturbations import ActivationNoise, AdapterScaling, FineTune, WeightNoise
from afbench.rollouts import RolloutRequest
from afbench.store import Store
from tests.shipped import ROOT

Replied = list[list[Message]]


@pytest.fixture
def catalog(
    qwen2: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    new_organism: Callable[..., Plugin[OrganismManifest]],
    catalog_of: Callable[..., Catalog],
    tmp_path: Path,
) -> Catalog:
    """A base and a prompted organism on it."""
    base = new_organism(tmp_path / "zq-base", {"type": "base", "path": "weights"})
    qwen2.save_pretrained(base.folder / "weights")
    tokenizer.save_pretrained(base.folder / "weights")
    source = {"type": "prompted", "parent": "zq-base", "system_prompt": "you are watched."}
    return catalog_of(base, new_organism(tmp_path / "zq-prompted", source))


@pytest.fixture
def access(catalog: Catalog, tmp_path: Path) -> OrganismAccess:
    return OrganismAccess(ModelStore(catalog), catalog, Store(tmp_path / "cache"))


def _detector(tier: str, *, needs_parent: bool = False, **further: bool) -> DetectorManifest:
    return DetectorManifest.model_validate(
        {
            "schema": 1,
            "kind": "detector",
            "name": "d",
            "summary": "d",
            "tier": tier,
            "needs_parent": needs_parent,
            "entry": "detector.py:D",
            **further,
        }
    )


def test_the_shape_of_a_handle_is_read_without_loading_weights_and_is_the_models(
    access: OrganismAccess, replied: Replied
) -> None:
    handle = access.handles(_detector("activations"), ["zq-prompted"])["zq-prompted"]
    assert (handle.n_layers, handle.width) == (3, 32)
    assert access.computed_forward_tokens == 0
    assert handle.activations(replied).shape == (len(replied), 4, 4, 32)
    assert access.computed_forward_tokens == handle.spent.forward_tokens > 0


def test_the_parent_is_given_only_to_a_detector_that_declares_it(
    access: OrganismAccess, replied: Replied
) -> None:
    asked = access.handles(_detector("activations", needs_parent=True), ["zq-prompted"])
    own = asked["zq-prompted"].activations(replied)
    parents = asked["zq-prompted"].parent_activations(replied)
    assert not np.allclose(own, parents), "the organism reads its system prompt first"
    base = access.handles(_detector("activations", needs_parent=True), ["zq-base"])["zq-base"]
    np.testing.assert_array_equal(parents, base.activations(replied))
    with pytest.raises(TierError, match="no parent"):
        base.parent_activations(replied)
    silent = access.handles(_detector("activations"), ["zq-prompted"])["zq-prompted"]
    with pytest.raises(TierError, match="needs_parent"):
        silent.parent_activations(replied)


def test_a_handle_is_fresh_for_each_detector_and_costs_the_same_from_the_cache(
    access: OrganismAccess, replied: Replied
) -> None:
    first = access.handles(_detector("activations"), ["zq-base"])["zq-base"]
    answer = first.activations(replied, [1])
    computed = access.computed_forward_tokens
    second = access.handles(_detector("activations"), ["zq-base"])["zq-base"]
    assert second.spent.queries == 0
    np.testing.assert_array_equal(second.activations(replied, [1]), answer)
    assert second.spent.forward_tokens == first.spent.forward_tokens == computed
    assert access.computed_forward_tokens == computed


def test_answers_of_a_real_model_do_not_depend_on_the_order_of_the_cases(
    access: OrganismAccess, catalog: Catalog, replied: Replied, questions: Replied, tmp_path: Path
) -> None:
    back = list(range(len(replied)))[::-1]
    answers = []
    for number, order in enumerate((list(range(len(replied))), back)):
        other = OrganismAccess(ModelStore(catalog), catalog, Store(tmp_path / str(number)))
        handle = other.handles(_detector("activations"), ["zq-base"])["zq-base"]
        answers.append(
            (
                handle.activations([replied[at] for at in order]),
                handle.followup_logprobs([replied[at] for at in order], ["yes?"], ["Yes", "No"]),
                np.array(
                    handle.generate(
                        [questions[at] for at in order], max_new_tokens=4, temperature=1.0
                    )
                ),
            )
        )
    for first, second in zip(*answers, strict=True):
        np.testing.assert_array_equal(first, second[back])


# Unobserved cues


@pytest.fixture
def guarded(catalog: Catalog, tmp_path: Path) -> OrganismAccess:
    """As `access`, with the environment of the prompted organism in the catalog."""
    shipped = discover([]).environments
    with_environments = replace(
        catalog, environments={name: shipped[name] for name in ("training-tier", "oversight-desk")}
    )
    return OrganismAccess(
        ModelStore(with_environments), with_environments, Store(tmp_path / "guarded")
    )


def _prompts(name: str, condition: Condition) -> list[list[Message]]:
    environment = Environment.load(discover([]).environments[name])
    return [
        environment.render(placement.scenario, placement.cue, condition)
        for placement in environment.placements("test", 3)
    ]


def test_no_detector_but_a_ceiling_samples_where_an_unobserved_cue_stands(
    guarded: OrganismAccess,
) -> None:
    observed, unobserved = (_prompts("training-tier", side) for side in ("observed", "unobserved"))
    for detector in (_detector("text"), _detector("weights", contrast=True)):
        handle = guarded.handles(detector, ["zq-prompted"])["zq-prompted"]
        with pytest.raises(TierError, match="holds an unobserved cue"):
            handle.generate(unobserved, max_new_tokens=2)
        assert len(handle.generate(observed, max_new_tokens=2)) == 3
    ceiling = guarded.handles(_detector("text", ceiling=True), ["zq-prompted"])["zq-prompted"]
    assert len(ceiling.generate(unobserved, max_new_tokens=2)) == 3


def test_cues_that_a_detector_knows_from_other_organisms_are_refused_as_well(
    guarded: OrganismAccess,
) -> None:
    """The base has no environment of its own; those of the organisms beside it count."""
    unobserved = _prompts("training-tier", "unobserved")
    beside = guarded.handles(_detector("text"), ["zq-base", "zq-prompted"])
    with pytest.raises(TierError, match="holds an unobserved cue"):
        beside["zq-base"].generate(unobserved, max_new_tokens=2)
    alone = guarded.handles(_detector("text"), ["zq-base"])["zq-base"]
    assert alone.generate(unobserved, max_new_tokens=2)


def test_only_an_organism_with_weights_of_its_own_can_be_scaled(access: OrganismAccess) -> None:
    handles = access.handles(_detector("weights"), ["zq-base", "zq-prompted"])
    for handle in handles.values():
        assert handle.can("weights")
        assert not handle.can("adapter_scaling")
    assert access.computed_forward_tokens == 0


def _errors(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("name", ["zq-base", "zq-prompted"])
@pytest.mark.parametrize(
    "provoke",
    [
        lambda handle, talk: handle.activations([talk[:-1]]),
        lambda handle, talk: handle.generate([talk], max_new_tokens=2),
        lambda handle, talk: handle.generate([talk[:-1]], max_new_tokens=10**6),
        lambda handle, talk: handle.logprobs([talk[:-1]], [""]),
        lambda handle, talk: handle.followup_logprobs([talk[:-1]], ["x"], ["Yes"]),
        lambda handle, talk: handle.next_token_logprobs([talk]),
        lambda handle, talk: handle.reply_logprobs([talk[:-1]]),
        lambda handle, talk: handle.layer_logprobs([talk], ["Yes"]),
        lambda handle, talk: handle.layer_logprobs([talk[:-1]], [""]),
        lambda handle, talk: handle.token_activations([talk[:-1]]),
        lambda handle, talk: handle.perturbed_logprobs([talk], ["Yes"], WeightNoise(0.1)),
        lambda handle, talk: handle.perturbed_logprobs(
            [talk[:-1]], ["Yes"], FineTune((talk[:-1],), 1, 0.1)
        ),
        lambda handle, talk: handle.perturbed_logprobs(
            [talk[:-1]], ["Yes"], ActivationNoise(99, 0.1)
        ),
        lambda handle, talk: handle.perturbed_logprobs([talk[:-1]], ["Yes"], AdapterScaling(0.5)),
    ],
)
def test_an_error_of_a_real_model_does_not_name_the_organism(
    access: OrganismAccess, replied: Replied, name: str, provoke: Callable[..., Any]
) -> None:
    handle = access.handles(_detector("weights"), [name])[name]
    with pytest.raises(AfbenchError) as caught:
        provoke(handle, replied[0])
    for error in _errors(caught.value):
        assert "zq-" not in f"{error} {error!r} {vars(error)}"


def test_an_unknown_organism_is_named(access: OrganismAccess) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'zq-base'"):
        access.handles(_detector("text"), ["zq-bas"])


def test_answers_of_one_device_do_not_stand_in_for_those_of_another(
    catalog: Catalog, tmp_path: Path
) -> None:
    request = RolloutRequest("test", 2, GenerationSettings(max_new_tokens=4))
    folder = ROOT / "environments" / "oversight-desk"
    manifest = load_manifest(folder)
    assert isinstance(manifest, EnvironmentManifest)
    environment, store = Environment(manifest, folder), Store(tmp_path / "cache")
    keys, identities = set(), set()
    for device in ("cpu", "meta"):  # `meta` is on every machine
        access = OrganismAccess(ModelStore(catalog, device=device), catalog, store)
        keys.add(access.runner("zq-base", environment).key(request))
        identities.add(access._identity("zq-base"))
    assert len(keys) == len(identities) == 2
