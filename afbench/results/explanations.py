"""`afbench run --explain`: where in the organisms each detector that can say so reads its score."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.detector import Detector
from afbench.detection.explaining import LayerMap, MapsLayers, ScoresTokens
from afbench.detection.guard import guarded
from afbench.detection.loading import detector_factory
from afbench.errors import AfbenchError, DetectorError
from afbench.figures.layer_map import MapCell, layer_map_csv, layer_map_plot
from afbench.figures.token_page import ShadedTranscript, token_page
from afbench.results.scoring import fits_of
from afbench.store import write_bytes

if TYPE_CHECKING:
    from afbench.cases.assembly import CaseSet
    from afbench.cases.splits import Fold
    from afbench.results.case_source import CaseSource
    from afbench.results.progress import Progress

FOLDER: Final = "explain"
TRANSCRIPTS: Final = 3
"""Transcripts of each label that are shown token by token."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains the detectors of a run, fold by fold.

    Args:
        source: the cases.
        folder: of the record; what is written goes to `explain/` beside it.
    """

    source: CaseSource
    folder: Path

    def explain(self, folds: Sequence[Fold], progress: Progress) -> list[Path]:
        """Write `explain/<detector>/<fold>/` for each detector that offers a hook.

        Returns:
            The files.

        Raises:
            AfbenchError: no detector of the run offers one, or a file could not be written.
        """
        plan = self.source.plan
        able = [one for one in plan.detectors if one.name not in plan.saved and _offers(one)]
        if not able:
            raise AfbenchError(
                "no detector of this run can say where its score is read",
                where="--explain",
                fix="name one that has layer_map() or token_scores() and is fitted here",
            )
        written: list[Path] = []
        fits = fits_of(folds)
        progress.start(FOLDER, len(able) * len(fits))
        for plugin in able:
            for numbers in fits:
                try:
                    written += self._folds(plugin, [folds[number] for number in numbers])
                except DetectorError as error:
                    progress.say(str(error))
                progress.advance(FOLDER, 1)
        return written

    def _folds(self, plugin: Plugin[DetectorManifest], folds: Sequence[Fold]) -> list[Path]:
        """Explain some folds with one fit side."""
        manifest, contrast = plugin.manifest, plugin.manifest.sees_contrast
        names = [*folds[0].fit, *(name for fold in folds for name in fold.test)]
        handles = self.source.access.handles(manifest, dict.fromkeys(names))
        fit, _ = self.source.sides(folds[0], handles, contrast=contrast)
        tests = [self.source.test_side(fold, handles, contrast=contrast) for fold in folds]
        detector = detector_factory(plugin)()
        limit, labels = manifest.limits.seconds, fit.labels
        guarded(plugin.name, "fit", limit, lambda: detector.fit(fit.cases, labels.copy()))
        further = [case for test in tests for case in test.cases]
        found = None
        if isinstance(detector, MapsLayers):
            maps: MapsLayers = detector
            found = guarded(
                plugin.name,
                "layer_map",
                limit,
                lambda: maps.layer_map(fit.cases, labels.copy(), further),
            )
        written, start = [], 0
        for fold, test in zip(folds, tests, strict=True):
            place = self.folder / FOLDER / plugin.name / _file_name(fold.name)
            title = f"{plugin.name}, {fold.name}"
            if found is not None:
                scores = found.scores[start : start + len(test)]
                cells = _cells(replace(found, scores=scores), test, detector)
                written += [
                    _written(place / "layer-map.svg", layer_map_plot(cells, title=title)),
                    _written(place / "layer-map.csv", layer_map_csv(cells)),
                ]
            if isinstance(detector, ScoresTokens):
                page = _page(plugin, detector, test, title)
                written.append(_written(place / "tokens.html", page))
            start += len(test)
        return written


def _offers(plugin: Plugin[DetectorManifest]) -> bool:
    try:
        detector = detector_factory(plugin)()
    except DetectorError:
        return False
    return isinstance(detector, MapsLayers | ScoresTokens)


def _cells(found: LayerMap, test: CaseSet, detector: Detector) -> list[MapCell]:
    scored = np.array([row.scored for row in test.rows], np.bool_)
    labels = test.labels[scored]
    chosen = detector.explain()
    return [
        MapCell(
            pooling,
            layer,
            fit=_value(found.fit_auroc[p, at]),
            test=_auroc(found.scores[scored, p, at], labels),
            chosen=(chosen.get("pooling"), chosen.get("layer")) == (pooling, layer),
        )
        for p, pooling in enumerate(found.poolings)
        for at, layer in enumerate(found.layers)
    ]


def _page(
    plugin: Plugin[DetectorManifest], detector: ScoresTokens, test: CaseSet, title: str
) -> str:
    rows = _examples(test)
    cases = [test.cases[row] for row in rows]
    limit = plugin.manifest.limits.seconds
    found = guarded(plugin.name, "token_scores", limit, lambda: detector.token_scores(cases))
    transcripts = [
        ShadedTranscript(
            f"{test.rows[row].label}: {test.rows[row].organism}, {test.rows[row].twin.scenario}",
            one.tokens,
            [float(score) for score in one.scores],
            one.reply_start,
        )
        for row, one in zip(rows, found, strict=True)
    ]
    note = (
        "What the fitted detector says of each token by itself. It was fitted on pooled tokens, so "
        "that a token's score says where its score comes from and is no score of a case."
    )
    return token_page(transcripts, title=title, note=note)


def _examples(test: CaseSet) -> list[int]:
    """The first few cases of either label, of as many organisms as there are."""
    rows: list[int] = []
    for label in ("faking", "sincere"):
        of_label = [i for i, row in enumerate(test.rows) if row.label == label]
        first = list({test.rows[i].organism: i for i in reversed(of_label)}.values())
        rows += [*sorted(first), *(i for i in of_label if i not in first)][:TRANSCRIPTS]
    return rows


def _auroc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float | None:
    if labels.all() or not labels.any():
        return None
    return float(roc_auc_score(labels, scores))


def _value(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _file_name(fold: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", fold)


def _written(path: Path, text: str) -> Path:
    write_bytes(path, text.encode())
    return path
