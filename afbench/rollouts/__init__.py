"""Stage 1: graded rollouts of an organism in an environment, in both conditions."""

from afbench.rollouts.rollout import Rollout, Twin, pair_twins
from afbench.rollouts.runner import RolloutRequest, RolloutRunner

__all__ = ["Rollout", "RolloutRequest", "RolloutRunner", "Twin", "pair_twins"]
