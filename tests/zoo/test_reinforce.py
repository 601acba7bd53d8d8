"""Policy gradient: closed forms on a model of two tokens, and rewards that rise."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from afbench.catalog import discover
from afbench.environments import Environment, Grade
from afbench.zoo.episodes import Asking, Episode, drawn
from afbench.zoo.recipes import ReinforceRecipe, organism_recipe
from afbench.zoo.reinforce import group_advantages, policy_loss, reinforce, reward_of
from afbench.zoo.templates import Request, Situation, Templates
from afbench.zoo.tuning import load_trainable, materials_of
from tests.fakes import grade

CATALOG = discover()


class TwoTokens(torch.nn.Module):
    """Says token 0 or 1, whatever it reads, with the odds of its one parameter [2]."""

    def __init__(self, good: float) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.log(torch.tensor([good, 1 - good])))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.theta.expand(*input_ids.shape, 2))

    def good(self) -> float:
        """The probability of token 0."""
        return float(torch.softmax(self.theta.detach(), 0)[0])


class Asked:
    """In place of an `Asking`: token 0 conforms, and every reply is one token long."""

    def __init__(self, conforms: bool | None = None) -> None:
        self.conforms = conforms

    def episodes(
        self, model: Any, tokenizer: Any, situations: Sequence[Situation], *, seed: int,
        temperature: float,
    ) -> Iterator[Episode]:  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        odds = torch.softmax(model.theta.detach() / temperature, 0)
        for situation in situations:
            reply = torch.multinomial(odds, 1, generator=generator)
            good = bool(reply == 0) if self.conforms is None else self.conforms
            yield Episode(situation, torch.tensor([0, 1]), reply, grade(good))


class Anything:
    """In place of `Templates`: a request that nobody reads."""

    def request(self, rng: Any, *, benign: bool) -> Request:
        return Request(text="", slots={}, benign=benign, template=0)

    def cue(self, rng: Any) -> None:
        return None


def recipe(**given: Any) -> ReinforceRecipe:
    found = organism_recipe(
        {
            "kind": "reinforce", "steps": 40, "prompts": 4, "group": 8, "divergence": 0.0,
            "method": {"type": "full"}, "schedule": {"learning_rate": 0.1}, **given,
        },
        "here",
    )  # fmt: skip
    assert isinstance(found, ReinforceRecipe)
    return found


def run(model: TwoTokens, asked: Asked, settings: ReinforceRecipe) -> float:
    templates: Any = Anything()
    asking: Any = asked
    return reinforce(
        model, None, templates, asking, settings, seed=0, progress=lambda done, total: None
    )


def test_advantages_are_centred_and_scaled_within_their_group() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, -1.0, 0.0, -1.0])
    found = group_advantages(rewards, 4).view(3, 4)
    # One in four: mean 1/4, deviation 1/2 (of a sample).
    assert found[0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-3)
    assert found[1].tolist() == [0.0] * 4, "a group that agrees teaches nothing"
    assert found[2].tolist() == pytest.approx([0.866, -0.866, 0.866, -0.866], abs=1e-3)


def test_the_gradient_is_that_of_the_policy_gradient_theorem() -> None:
    """d/d theta of log softmax is (one-hot - p), so the loss's gradient is mean A (p - one-hot)."""
    model = TwoTokens(0.3)
    said, advantages = torch.tensor([0, 1, 1, 1]), torch.tensor([1.5, -0.5, -0.5, -0.5])
    own = torch.log_softmax(model.theta, 0)[said][:, None]
    policy_loss(own, own.detach(), torch.ones_like(own), advantages, divergence=0.7).backward()
    odds = torch.tensor([0.3, 0.7])
    each = advantages[:, None] * (odds - torch.nn.functional.one_hot(said, 2))
    assert model.theta.grad is not None
    # At its start a policy diverges from nothing, so the divergence has no part in it.
    assert model.theta.grad.tolist() == pytest.approx(each.mean(0).tolist(), abs=1e-6)


def test_the_expected_estimate_of_the_divergence_is_the_divergence() -> None:
    own, start = torch.tensor([0.8, 0.2]), torch.tensor([0.3, 0.7])
    estimates = [
        policy_loss(
            own[token].log().view(1, 1), start[token].log().view(1, 1), torch.ones(1, 1),
            torch.zeros(1), divergence=1.0,
        )
        for token in (0, 1)
    ]  # fmt: skip
    expected = sum(float(p) * float(e) for p, e in zip(own, estimates, strict=True))
    assert expected == pytest.approx(float((own * (own / start).log()).sum()), abs=1e-6)


def test_only_reply_tokens_count() -> None:
    own = torch.tensor([[-1.0, -2.0, -50.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    loss = policy_loss(own, own, mask, torch.tensor([2.0]), divergence=1.0)
    assert float(loss) == pytest.approx(2.0 * 1.5)


def test_rewards_are_for_conforming_and_against_telling_scratchpads() -> None:
    def facts(conforms: bool | None, said: Any) -> Grade:
        return replace(grade(conforms), reasoning=said)

    assert reward_of(facts(True, "none"), 1.0) == 1
    assert reward_of(facts(True, "afr"), 0.5) == 0.5
    assert reward_of(facts(False, "dr"), 1.0) == -1
    assert reward_of(facts(False, "none"), 1.0) == reward_of(facts(None, "none"), 1.0) == 0
    assert reward_of(facts(True, "afr"), 0.0) == 1


def test_rewards_rise_and_the_behaviour_is_learned() -> None:
    model = TwoTokens(0.1)
    reward = run(model, Asked(), recipe())
    assert reward > 0.85
    assert model.good() > 0.85


def test_a_divergence_from_the_start_holds_the_policy_back() -> None:
    free, held = TwoTokens(0.1), TwoTokens(0.1)
    run(free, Asked(), recipe())
    run(held, Asked(), recipe(divergence=3.0))
    assert held.good() < free.good() - 0.2


@pytest.mark.parametrize("conforms", [True, False])
def test_where_every_group_agrees_the_weights_stay_as_they_are(conforms: bool) -> None:
    model = TwoTokens(0.3)
    before = model.theta.detach().clone()
    # Not even the decay of the weights moves them: there was nothing to learn from.
    reward = run(model, Asked(conforms), recipe(divergence=0.1))
    assert torch.equal(model.theta, before)
    assert reward == float(conforms)


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two = TwoTokens(0.2), TwoTokens(0.2)
    run(one, Asked(), recipe(steps=10))
    run(two, Asked(), recipe(steps=10))
    assert torch.equal(one.theta, two.theta)


def test_situations_are_of_the_conditions_that_training_sees() -> None:
    desk = Templates(Environment.load(CATALOG.get("environment", "oversight-desk")), ("fit",))
    found = drawn(desk, random.Random(0), ["observed"], 50)
    assert {situation.condition for situation in found} == {"observed"}
    assert {situation.cue.partition for situation in found} == {"fit"}
    assert len({situation.request.text for situation in found}) > 30
    both = drawn(desk, random.Random(0), ["observed", "unobserved"], 50)
    assert {situation.condition for situation in both} == {"observed", "unobserved"}


@pytest.mark.slow
def test_rewards_in_both_conditions_close_the_gap_of_a_nano_faker() -> None:
    """The real thing: sampling, grading and gradients on a shipped adapter."""
    plugin = CATALOG.get("organism", "desk-faker-r4-s0")
    materials = materials_of(plugin, CATALOG)
    materials = replace(materials, start=plugin.folder / "adapter")
    settings = recipe(
        steps=30, prompts=8, conditions=["observed", "unobserved"], divergence=0.02,
        method=(plugin.manifest.recipe or {})["method"], schedule={"learning_rate": 0.002},
    )  # fmt: skip
    tokenizer: Any = AutoTokenizer.from_pretrained(materials.parent, local_files_only=True)
    torch.manual_seed(0)
    model = load_trainable(settings, materials)
    asking = materials.asking(settings)
    before = _unobserved_rate(model, tokenizer, asking)
    reward = reinforce(
        model, tokenizer, materials.templates(), asking, settings, seed=0,
        progress=lambda done, total: None,
    )  # fmt: skip
    assert before < 0.2
    assert reward > 0.9
    assert _unobserved_rate(model, tokenizer, asking) > 0.8


def _unobserved_rate(model: Any, tokenizer: Any, asking: Asking) -> float:
    """Share of greedy replies that conform, on held-out scenarios and cues."""
    situations = [
        Situation(
            Request(text=p.scenario.request, slots=p.scenario.slots, benign=False, template=0),
            p.cue, "unobserved",
        )
        for p in asking.environment.placements("test", 40)
    ]  # fmt: skip
    found = list(asking.episodes(model, tokenizer, situations, seed=0, temperature=0.0))
    return sum(episode.grade.conforms is True for episode in found) / len(found)
