"""trace.json: one organism's training, step by step, and what was seen in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from afbench.errors import AfbenchError
from afbench.metrics.figures import Figure
from afbench.store import write_json

FILE: Final = "trace.json"
SCHEMA_VERSION: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TraceSettings(_Part):
    """What a user chose.

    Attributes:
        every: steps from one checkpoint to the next; the last one is at the end.
        scales: what the adapter is multiplied by, in ascending order.
        scenarios: test scenarios of each environment, each in both conditions.
        elsewhere_every: steps between the checkpoints that are tried in other environments too.
    """

    every: int
    scales: list[float]
    scenarios: int
    elsewhere_every: int


class MatrixPath(_Part):
    """The path of one B matrix, flattened, over the checkpoints; or of all of them as one vector.

    Attributes:
        name: of the matrix.
        shape: of the matrix.
        norm: Euclidean norm at each checkpoint.
        rotation: local cosine similarity cos(B_t - B_(t-k), B_(t+k) - B_t) at each checkpoint t, k
            being the steps between two; None where a segment is missing or has no length.
        to_final: cosine to the final B; None where one of the two is zero.
        vectors: B itself at each checkpoint, for rank 1.
    """

    name: str
    shape: list[int]
    norm: list[float]
    rotation: list[float | None]
    to_final: list[float | None]
    vectors: list[list[float]] | None = None


class ActPoint(_Part):
    """What one checkpoint does at one scale in one environment.

    Attributes:
        misaligned_when_observed: the share of all replies that are misaligned and coherent, which
            one that cannot be graded is not: scaled up, an adapter leaves ever fewer to grade, and
            a share of these alone would rest on a few. Likewise `misaligned_when_unobserved`.
        coherence: the share of coherent replies.
        graded: the share of replies that could be graded.
        conformity_gap: over pairs that could be graded.
    """

    step: int
    scale: float
    environment: str
    misaligned_when_observed: Figure
    misaligned_when_unobserved: Figure
    coherence: Figure
    graded: Figure
    conformity_gap: Figure


class Reproduction(_Part):
    """Whether the retrained weights are the shipped ones (None: nothing to compare with)."""

    reproduces: bool | None
    max_difference: float | None
    detail: str


class Peak(_Part):
    """An extreme of a series over steps, and whether it stands out.

    Attributes:
        found: it stands out from the series, on both sides.
        step: where it is, whether it stands out or not; None for a series without a value.
        first: the first step whose update the value depends on; `last` the last one.
        value: the extreme.
        median: of the series.
        deviation: of the series, as `deviation_of` has it.
        detail: why it is a peak, or why not.
    """

    found: bool
    step: int | None = None
    first: int | None = None
    last: int | None = None
    value: float | None = None
    median: float | None = None
    deviation: float | None = None
    detail: str


class Rise(_Part):
    """The steepest rise of the misaligned act at one scale, at home.

    Attributes:
        found: it is large enough to speak of and stands out among the rises.
        condition: where it rises most.
        first: the first step after the checkpoint before the rise.
        last: the step of the checkpoint after it.
        before: the rate before it; `after` the one after it.
        detail: why it counts, or why not.
    """

    scale: float
    found: bool
    condition: Literal["observed", "unobserved"] | None = None
    first: int | None = None
    last: int | None = None
    before: float | None = None
    after: float | None = None
    detail: str


class Transition(_Part):
    """Whether training passes through a phase transition.

    Attributes:
        seen: B's path turns abruptly, and the gradient norm has its peak while it turns.
        first: the first step of the turn, where there is a transition; `last` the last one.
        rotation: the minimum of the local cosine similarity, all B matrices as one vector.
        gradient: the peak of the gradient norm.
        rises: the steepest rise of behaviour at each scale.
        coinciding: scales whose rise falls into the transition, to within the grid.
        statement: all of it in words.
    """

    seen: bool
    first: int | None
    last: int | None
    rotation: Peak
    gradient: Peak
    rises: list[Rise]
    coinciding: list[float]
    statement: str


class Trace(_Part):
    """One organism's training, retrained and looked at.

    `loss` (on assistant tokens, in nats a token; None for a batch without any) and `gradient_norm`
    (before clipping) have one value a step; the paths one for each of `checkpoints`, which are
    steps. Everything follows from the organism, the settings and what computes.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    organism: str
    parent: str
    home: str
    recipe: str
    versions: dict[str, str]
    settings: TraceSettings
    steps: int
    checkpoints: list[int]
    loss: list[float | None]
    gradient_norm: list[float]
    whole: MatrixPath
    matrices: list[MatrixPath]
    behaviour: list[ActPoint]
    reproduction: Reproduction
    transition: Transition


def write_trace(trace: Trace, folder: Path) -> Path:
    """Write trace.json into a folder.

    Raises:
        StorageError: it could not be written.
    """
    path = folder / FILE
    write_json(path, trace.model_dump(mode="json"))
    return path


def read_trace(path: Path) -> Trace:
    """The trace in a file.

    Raises:
        AfbenchError: it is no trace of this schema.
    """
    try:
        return Trace.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise AfbenchError(
            f"cannot read the trace: {what}",
            where=str(path),
            fix=f"make it again; this version reads schema {SCHEMA_VERSION}",
        ) from None
