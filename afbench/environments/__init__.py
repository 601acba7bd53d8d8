"""Environments: scenarios, cues, twin rendering and rule graders."""

from afbench.environments.environment import Environment, Placement
from afbench.environments.grading import Grade, RuleGrader
from afbench.environments.scenarios import CONDITIONS, Condition, Cue, Partition, Scenario
from afbench.environments.states import FileState, StateGrader

__all__ = [
    "CONDITIONS",
    "Condition",
    "Cue",
    "Environment",
    "FileState",
    "Grade",
    "Partition",
    "Placement",
    "RuleGrader",
    "Scenario",
    "StateGrader",
]
