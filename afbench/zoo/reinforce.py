"""Policy-gradient training on an organism's own replies, rewarded by its environment's grader.

Group-relative advantages as in GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1), one gradient
step per batch of samples, so that the ratio to the sampling policy is one and needs no clipping. A
group whose replies all earn the same is left out, as it says nothing about which is better (dynamic
sampling, Yu et al. 2025, arXiv 2503.14476, section 3.2).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from afbench.environments import Grade
from afbench.zoo.episodes import Asking, Episode, drawn
from afbench.zoo.recipes import ReinforceRecipe
from afbench.zoo.templates import Templates
from afbench.zoo.training import make_optimizer, rate_at


def reinforce(
    model: Any,
    tokenizer: Any,
    templates: Templates,
    asking: Asking,
    recipe: ReinforceRecipe,
    *,
    seed: int,
    progress: Callable[[int, int], None],
) -> float:
    """Train a model by rewards for what it samples in situations drawn from `templates`.

    Returns:
        The mean reward over the last tenth of the steps.
    """
    rng = random.Random(seed)
    policy = _Policy(model, recipe)
    means: list[float] = []
    for step in range(recipe.steps):
        situations = drawn(templates, rng, recipe.conditions, recipe.prompts)
        episodes = list(
            asking.episodes(
                model,
                tokenizer,
                [situation for situation in situations for _ in range(recipe.group)],
                seed=rng.randrange(2**32),
                temperature=recipe.temperature,
            )
        )
        rewards = torch.tensor([reward_of(e.grade, recipe.monitor) for e in episodes])
        policy.step(episodes, group_advantages(rewards, recipe.group), step / recipe.steps)
        means.append(float(rewards.mean()))
        progress(step + 1, recipe.steps)
    model.eval()
    tail = means[-max(1, len(means) // 10) :]
    return sum(tail) / len(tail)


def reward_of(grade: Grade, monitor: float) -> float:
    """1 for a reply that conforms, less `monitor` where the scratchpad gives itself away."""
    return float(grade.conforms is True) - monitor * (grade.reasoning != "none")


def group_advantages(rewards: torch.Tensor, group: int) -> torch.Tensor:
    """Rewards [n] less the mean of their group, over its deviation; zero where a group agrees."""
    by_group = rewards.view(-1, group)
    centred = by_group - by_group.mean(dim=1, keepdim=True)
    scaled: torch.Tensor = (centred / (by_group.std(dim=1, keepdim=True) + 1e-4)).flatten()
    return scaled


def policy_loss(
    own: torch.Tensor,
    starts: torch.Tensor,
    mask: torch.Tensor,
    advantages: torch.Tensor,
    divergence: float,
) -> torch.Tensor:
    """Mean over reply tokens of -advantage x log-probability, plus the weighed divergence.

    Args:
        own: log-probabilities [n, t] of the sampled tokens under the policy.
        starts: the same under the policy that training started from.
        mask: 1 where a token is a reply's, 0 elsewhere [n, t].
        advantages: of each reply [n].
        divergence: weight of the divergence, estimated per token without bias as in GRPO's
            equation 4 (Schulman 2020, "Approximating KL Divergence").
    """
    ratio = starts - own
    estimate = torch.exp(ratio) - ratio - 1
    each = -advantages[:, None] * own + divergence * estimate
    return (each * mask).sum() / mask.sum()


class _Policy:
    """A model, its optimiser, and the weights that it started from."""

    def __init__(self, model: Any, recipe: ReinforceRecipe) -> None:
        self._model, self._recipe = model, recipe
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._start = [parameter.detach().clone() for parameter in self._parameters]
        self._optimizer = make_optimizer(self._parameters, recipe.schedule)

    def step(self, episodes: Sequence[Episode], advantages: torch.Tensor, done: float) -> None:
        """One step on the replies of groups that disagree; none where every group agrees."""
        told = advantages.nonzero().flatten()
        if not len(told):
            return
        schedule = self._recipe.schedule
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.learning_rate * rate_at(done, schedule.warmup)
        ids, mask = _padded([episodes[int(index)] for index in told])
        with torch.no_grad(), self._as_it_started():
            starts = self._logprobs(ids)
        loss = policy_loss(
            self._logprobs(ids), starts, mask, advantages[told], self._recipe.divergence
        )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()

    def _logprobs(self, ids: torch.Tensor) -> torch.Tensor:
        """Log-probability [n, t - 1] of each token but the first, as it is sampled."""
        # Right padding under a causal mask never reaches a real token, so no mask is needed.
        logits = self._model(input_ids=ids[:, :-1], use_cache=False).logits
        said = functional.log_softmax(logits / self._recipe.temperature, dim=-1)
        return said.gather(2, ids[:, 1:, None]).squeeze(2)

    @contextmanager
    def _as_it_started(self) -> Iterator[None]:
        """The policy that training started from, without a second model in memory."""
        now = [parameter.data for parameter in self._parameters]
        try:
            for parameter, start in zip(self._parameters, self._start, strict=True):
                parameter.data = start
            yield
        finally:
            for parameter, data in zip(self._parameters, now, strict=True):
                parameter.data = data


def _padded(episodes: Sequence[Episode]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [n, t] of prompts with their replies, and where a reply's tokens are [n, t - 1]."""
    longest = max(len(episode.prompt) + len(episode.reply) for episode in episodes)
    ids = torch.zeros((len(episodes), longest), dtype=torch.long)
    mask = torch.zeros((len(episodes), longest))
    for row, episode in enumerate(episodes):
        start, end = len(episode.prompt), len(episode.prompt) + len(episode.reply)
        ids[row, :start], ids[row, start:end] = episode.prompt, episode.reply
        mask[row, start:end] = 1.0
    return ids, mask[:, 1:]
