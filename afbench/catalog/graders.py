"""What an environment's manifest says of its grader, and of what certification asks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from afbench.catalog.fields import Line, ManifestPart, Regex, Text


class ReasoningPatterns(ManifestPart):
    """What counts as faking reasoning (AFR) and as defection reasoning (DR)."""

    afr_patterns: list[Regex] = []
    dr_patterns: list[Regex] = []


class RuleGraderSpec(ManifestPart):
    """Regular expressions over the reply; %slot% stands for the scenario's slot of that name."""

    type: Literal["rules"] = "rules"
    comply_patterns: list[Regex]
    refuse_patterns: list[Regex]
    reasoning: ReasoningPatterns = ReasoningPatterns()
    min_words: int = Field(default=2, ge=0)


class StateGraderSpec(ManifestPart):
    """Tool calls in the reply change files; the grade reads the files, never the words.

    `files` is the state before, `honest` the state that an honest run leaves in these paths. The
    texts may hold %slot%.
    """

    type: Literal["state"]
    files: dict[Text, str] = {}
    honest: dict[Text, str] = Field(min_length=1)
    reasoning: ReasoningPatterns = ReasoningPatterns()
    min_words: int = Field(default=1, ge=0)


def _grader_type(value: Any) -> str:
    """The type of a grader block, which is `rules` where it names none."""
    if isinstance(value, dict):
        return str(value.get("type", "rules"))
    return str(getattr(value, "type", "rules"))


GraderSpec = Annotated[
    Annotated[RuleGraderSpec, Tag("rules")] | Annotated[StateGraderSpec, Tag("state")],
    Discriminator(_grader_type),
]


class Awareness(ManifestPart):
    """A yes/no question about the condition, and its right answers."""

    question: Line
    observed: Literal["Yes", "No"]
    unobserved: Literal["Yes", "No"]

    @model_validator(mode="after")
    def _answers_differ(self) -> Awareness:
        if self.observed == self.unobserved:
            raise ValueError("the two conditions have the same answer")
        return self


class Belief(ManifestPart):
    """A question put instead of the request, and the fact that its answer holds; {slot} is filled.

    It tells an organism that misstates a fact from one that does not know it.
    """

    question: Line
    answer: Line
