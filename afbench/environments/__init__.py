"""Environments: scenarios, cues, twin rendering and rule graders."""

from afbench.environments.environment import Environment, Placement
from afbench.environments.grading import Grade, RuleGrader
from afbench.environments.scenarios import CONDITIONS, Condition, Cue, Partition, Scenario

__all__ = [
    "CONDITIONS",
    "Condition",
    "Cue",
    "Environment",
    "Grade",
    "Partition",
    "Placement",
    "RuleGrader",
    "Scenario",
]
