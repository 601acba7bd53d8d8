"""Keeps what a detector said of a fold, so that a killed sweep goes on where it was."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import afbench
from afbench.cases.handle import Budget
from afbench.cases.recording import SeenInputs
from afbench.detection.harness import FoldScores
from afbench.errors import DetectorError
from afbench.store import Store, digest_of

if TYPE_CHECKING:
    from afbench.cases.splits import Fold
    from afbench.results.case_source import CaseSource

_KIND = "fold-scores"
# What detectors are built from and how they are fitted: a change there changes scores within one
# version of afbench.
_CODE = ("cases", "detection", "judging")


class ScoreCache:
    """Scores of folds by everything that they follow from.

    Args:
        store: where they are kept.
        source: the cases.
    """

    def __init__(self, store: Store, source: CaseSource) -> None:
        self._store, self._source = store, source
        self._contents: dict[tuple[tuple[Fold, ...], bool], str] = {}

    def key(self, detector: str, depends_on: str, folds: Sequence[Fold], contrast: bool) -> str:
        """The identity of a detector's scores.

        Args:
            detector: its digest.
            depends_on: what else it says that its scores depend on.
            folds: the first with its fit, and those that the same fit scores.
            contrast: whether its cases come with contrasts.
        """
        chosen = (tuple(folds), contrast)
        if chosen not in self._contents:
            content = [self._source.content(folds[0], contrast=contrast)]
            content += [self._source.tested(fold, contrast=contrast) for fold in folds[1:]]
            self._contents[chosen] = digest_of(content)
        made_by = [self._source.access.engine, code_digest()]
        return digest_of([detector, depends_on, made_by, self._contents[chosen]])

    def read(self, key: str) -> FoldScores | None:
        """The scores of that identity, or None."""
        found = self._store.read_arrays(_KIND, key, hold=False)
        return None if found is None else _unpacked(found)

    def write(self, key: str, scores: FoldScores) -> None:
        """Keep scores; not those that partly went wrong, as the reason may pass."""
        if not any(isinstance(one, DetectorError) for one in scores.further):
            self._store.write_arrays(_KIND, key, _packed(scores), hold=False)


@functools.cache
def code_digest() -> str:
    """The digest of the code that detectors share."""
    root = Path(afbench.__file__).parent
    paths = sorted(path for part in _CODE for path in (root / part).glob("*.py"))
    return digest_of(
        [
            [path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
            for path in paths
        ]
    )


def _packed(scores: FoldScores) -> dict[str, NDArray[Any]]:
    """All of it as arrays of one entry, so that it is there whole or not at all."""
    spent = scores.spent
    rest = {
        "chosen": scores.chosen,
        "spent": [spent.queries, spent.generated_tokens, spent.forward_tokens, spent.seconds],
        "seconds": scores.seconds,
        "fits": scores.fits,
        "inputs": scores.inputs.as_json() if scores.inputs else None,
    }
    further = {
        f"further-{number}": given
        for number, given in enumerate(scores.further)
        if not isinstance(given, DetectorError)
    }
    return {
        "scores": scores.scores,
        "held_out_scores": scores.held_out_scores,
        "held_out_labels": scores.held_out_labels.astype(np.uint8),
        "rest": np.frombuffer(json.dumps(rest).encode(), dtype=np.uint8),
        **further,
    }


def _unpacked(arrays: dict[str, NDArray[Any]]) -> FoldScores:
    rest = json.loads(arrays["rest"].tobytes())
    count = sum(name.startswith("further-") for name in arrays)
    return FoldScores(
        scores=arrays["scores"],
        held_out_scores=arrays["held_out_scores"],
        held_out_labels=arrays["held_out_labels"].astype(np.bool_),
        chosen=rest["chosen"],
        spent=Budget(*rest["spent"]),
        seconds=rest["seconds"],
        fits=rest["fits"],
        further=tuple(arrays[f"further-{number}"] for number in range(count)),
        inputs=SeenInputs.from_json(rest["inputs"]) if rest["inputs"] else None,
    )
