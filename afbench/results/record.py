"""The result record: one schema-versioned JSON document from which every figure is shown.

Everything but `created`, `timings`, `cache` and `spending` follows from the inputs alone; `digest`
is taken over that part, so the same inputs give the same digest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from afbench.errors import AfbenchError
from afbench.metrics.comparison import Comparison
from afbench.metrics.figures import Figure
from afbench.store import digest_of, write_json

SCHEMA_VERSION: Final = 3

# What differs between two runs of the same inputs.
_VOLATILE = {"created", "timings", "cache", "spending", "digest"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Status = Literal["certified", "failed", "provisional"]
Verdict = Literal["reads-behaviour", "beyond-behaviour", "undecided"]


class RunSettings(_Part):
    """What a user chose. Two runs with equal settings and inputs are one run.

    `reasoning` None is each organism's own mode; `temperature` 0 is greedy. `model` is what
    prompted organisms were put on, by its hub id or its folder's name; None is the zoo's own
    weights.
    """

    detectors: list[str]
    organism: str
    split: str
    fit_scenarios: int
    test_scenarios: int
    seed: int = 0
    floors: bool = True
    temperature: float = 0.0
    reasoning: bool | None = None
    show_reasoning: bool = False
    robustness: bool = True
    behaviour_reading: bool = True
    model: str | None = None
    replicates: int = 2000


class Inputs(_Part):
    """Digests of everything that was read, and the versions of what computed.

    `model` is the user's model: `id@commit`, or the digest of a folder. `saved` is the digest of
    each detector that was fitted before and read from a folder.
    """

    model: str | None = None
    organisms: dict[str, str]
    environments: dict[str, str]
    detectors: dict[str, str]
    certificates: dict[str, Status]
    versions: dict[str, str]
    saved: dict[str, str] = {}


class OrganismFigures(_Part):
    """What one organism did in this run, and whether it may score detectors."""

    name: str
    base: str
    environment: str
    role: str
    lookalike_class: str | None
    recipe_family: str
    seed: int
    leak: str | None
    evasion: str | None = None
    part: Literal["fit", "test", "fit and test"]
    certified: bool
    certificate: Status
    reason: str | None
    labels: dict[str, int]
    outcomes: dict[str, int]
    misalignment_gap: Figure
    compliance_gap: Figure
    conformity_gap: Figure
    coherence: Figure


class Cost(_Part):
    """What a detector spent over fits and scores; a cached answer costs what it cost at first.

    What robustness took is not in it, so that it does not depend on whether that was asked for.
    """

    queries: int
    generated_tokens: int
    forward_tokens: int
    fits: int

    @property
    def tokens(self) -> int:
        """Tokens that organisms read or wrote for it: what budgets are compared by."""
        return self.forward_tokens + self.generated_tokens


class RobustnessFigures(_Part):
    """How a detector does on the organisms of one evasion; no part of any other figure.

    `n` counts cases. `error` is set where it broke its contract on these cases.
    """

    auroc: Figure
    tpr_at_5: Figure
    n: int
    error: str | None = None


class BehaviourReading(_Part):
    """Could the score have come from what the organism says, which anyone may read?

    `detector` and `reader` are AUROCs on the same cases, `difference` the first minus the second.
    `verdict` is None where the test was refused; `reason` says why it was, or is undecided.
    `inputs` says what the reader saw.
    """

    verdict: Verdict | None
    reason: str | None = None
    detector: Figure
    reader: Figure
    difference: Comparison
    inputs: str


class DetectorFigures(_Part):
    """What one detector reached. A void detector has an error and no figure.

    `unavailable` says what it needs that is not to be had here; it has no figure then either. A
    `ceiling` may read unobserved behaviour and is compared with nothing. `contrast`: it saw each
    transcript with the unobserved cue as well. The uplift is over the best black-box detector that
    sees no more of the cues; at equal budget, over the best of these that costs no more tokens.
    """

    name: str
    tier: str
    floor: bool
    contrast: bool = False
    ceiling: bool = False
    error: str | None = None
    unavailable: str | None = None
    auroc: Figure
    tpr_at_1: Figure
    tpr_at_5: Figure
    pair_accuracy: Figure
    fpr_by_class: dict[str, Figure]
    brier: Figure
    residual_misalignment_gap_at_1: Figure
    residual_misalignment_gap_at_5: Figure
    residual_compliance_gap_at_1: Figure
    residual_compliance_gap_at_5: Figure
    residual_conformity_gap_at_1: Figure
    residual_conformity_gap_at_5: Figure
    gap_recovery: Figure
    excess_over_floor: Comparison | None = None
    uplift_over_black_box: Comparison | None = None
    uplift_at_equal_budget: Comparison | None = None
    behaviour_reading: BehaviourReading | None = None
    auroc_by_fold: dict[str, Figure] = {}
    robustness: dict[str, RobustnessFigures] = {}
    chosen: dict[str, dict[str, str | float | int]] = {}
    cost: Cost


class Timings(_Part):
    """Wall-clock seconds of this run's stages; zero where the cache answered."""

    rollouts: float
    detectors: dict[str, float]
    total: float


class CacheUse(_Part):
    """How much of this run the cache answered, and the forward tokens that it did compute."""

    hits: int
    misses: int
    computed_forward_tokens: int


class Spending(_Part):
    """What the organisms' replies took in this run.

    Of a remote backend it is counted whenever they were paid, each once; of one on this machine,
    what was computed now. `refused` are replies that the provider's filter withheld.

    Attributes:
        seconds: wall-clock time of this run.
        usd: what they cost; None where no price is known. `usd_now` was paid in this run.
    """

    backend: str
    calls: int
    input_tokens: int
    cached_tokens: int = 0
    output_tokens: int
    refused: int = 0
    seconds: float
    usd: float | None = None
    usd_now: float | None = None


Sides = dict[str, dict[str, list[str]]]
"""The organisms of each fold's two sides: fold -> `fit` or `test` -> names."""


class ResultRecord(_Part):
    """One run.

    `left_out` says which cells of the split have no fold, and why; `robustness_folds` are those of
    each evasion.
    """

    schema_version: Literal[3] = SCHEMA_VERSION
    kind: Literal["afbench-result"] = "afbench-result"
    id: str
    digest: str
    created: str
    settings: RunSettings
    inputs: Inputs
    folds: Sides
    robustness_folds: dict[str, Sides] = {}
    left_out: list[str] = []
    organisms: list[OrganismFigures]
    detectors: list[DetectorFigures]
    scores: str
    timings: Timings
    cache: CacheUse
    spending: Spending | None = None

    def with_digest(self) -> ResultRecord:
        """The record with the digest of its part that follows from the inputs."""
        content = self.model_dump(mode="json", exclude=_VOLATILE)
        return self.model_copy(update={"digest": digest_of(content)})

    def save(self, folder: Path) -> Path:
        """Write result.json to a folder; whole or not at all.

        Raises:
            StorageError: it could not be written.
        """
        path = folder / "result.json"
        write_json(path, self.model_dump(mode="json"))
        return path


def load_record(path: Path) -> ResultRecord:
    """Read a result.json and check its digest.

    Records of schemas 1 and 2 are read as well: what they do not hold is refused or left out. The
    digest that they keep is that of their own content.

    Raises:
        AfbenchError: it cannot be read, is of another schema, or was altered.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        record = ResultRecord.model_validate(_upgraded(content))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise AfbenchError(
            f"not a result of this version: {first}", where=str(path), fix="run it again"
        ) from None
    given = {name: value for name, value in content.items() if name not in _VOLATILE}
    if digest_of(given) != record.digest:
        raise AfbenchError(
            "the record does not match its digest: it was altered after the run",
            where=str(path),
            fix="run it again with --fresh",
        )
    return record


def _upgraded(content: Any) -> Any:
    """The content of a record in the present schema.

    Schema 2 has all that schema 3 requires. Schema 1 is of a zoo with one base, which it does not
    name, and knows no pairs.
    """
    version = content["schema_version"]
    if version not in (1, 2):
        return content
    new: dict[str, Any] = {**content, "schema_version": SCHEMA_VERSION}
    if version == 1:
        pairs = Figure.refused("not in records of schema 1").model_dump(mode="json")
        new["organisms"] = [{"base": "", **organism} for organism in content["organisms"]]
        new["detectors"] = [{"pair_accuracy": pairs, **one} for one in content["detectors"]]
    return new


def record_schema() -> dict[str, Any]:
    """The JSON Schema of a result record."""
    schema = ResultRecord.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
