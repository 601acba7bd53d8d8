"""What white-box access adds for its price: uplift at equal budget, and the cost/score front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from afbench.catalog.manifests import DetectorManifest

if TYPE_CHECKING:
    from afbench.results.evaluation import Scored
    from afbench.results.record import DetectorFigures

BLACK_BOX: Final = ("text", "logprobs")
WHITE_BOX: Final = ("activations", "weights")


def is_rival(manifest: DetectorManifest, *, of: DetectorManifest) -> bool:
    """Whether a white-box detector is compared with it: a black box, no floor and no ceiling.

    One that sees the unobserved cue is compared only with those that see it too: what access to
    the inside adds is not to be mixed with what the other cue adds.
    """
    black_box = manifest.tier in BLACK_BOX and not manifest.floor and not manifest.ceiling
    return black_box and (of.sees_contrast or not manifest.sees_contrast)


def tokens_of(scored: Scored) -> int:
    """A detector's budget: tokens that organisms read or wrote for it, over fits and scores."""
    spent = scored.spent
    return spent.forward_tokens + spent.generated_tokens


def affordable(budget: int, costs: Mapping[str, int]) -> list[str]:
    """Names of the detectors that cost no more than a budget, in tokens."""
    return sorted(name for name, cost in costs.items() if cost <= budget)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of some (cost, score) points no other beats: costs as little or less, scores more.

    Of points that are equal in both, all are on the front.
    """
    return [
        not any(
            (cost <= own_cost and score > own_score) or (cost < own_cost and score >= own_score)
            for cost, score in points
        )
        for own_cost, own_score in points
    ]


def on_front(detectors: Sequence[DetectorFigures]) -> dict[str, bool]:
    """For each detector with a score, ceilings left out: is it on the front of cost and AUROC?"""
    able = [one for one in detectors if one.auroc.value is not None and not one.ceiling]
    found = pareto_front([(one.cost.tokens, one.auroc.value or 0.0) for one in able])
    return {one.name: yes for one, yes in zip(able, found, strict=True)}
