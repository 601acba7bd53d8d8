"""What `--explain` writes, and for whom."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from afbench.catalog.discovery import discover
from afbench.errors import AfbenchError
from afbench.results.explanations import Explainer
from afbench.results.progress import Silent
from tests.results.fake_run import FOLD, FakeRun, detector
from tests.results.test_behaviour_reading import MANY, SIGN, Marked

PROBE = discover().get("detector", "probe")


def explained(folder: Path, *plugins: object, gap: bool = True) -> list[Path]:
    run = FakeRun(
        folder / "cache",
        plugins,  # type: ignore[arg-type]
        {name: labels[:12] for name, labels in MANY.items()},
        make=lambda name: Marked(gap and "faker" in name, owns_up=False),
    )
    return Explainer(run.source, folder / "run").explain([FOLD], Silent())


def test_a_probe_writes_its_map_and_its_tokens_beside_the_record(tmp_path: Path) -> None:
    written = explained(tmp_path, PROBE, detector(tmp_path, "mute", SIGN))
    place = tmp_path / "run" / "explain" / "probe" / "desk"
    assert written == [place / name for name in ("layer-map.svg", "layer-map.csv", "tokens.html")]
    rows = list(csv.DictReader((place / "layer-map.csv").open()))
    # Two organisms of a class on the fit side, so that one can be held out.
    assert len(rows) == 4 * 4 and all(float(row["fit_auroc"]) == 1.0 for row in rows)
    assert all(float(row["test_auroc_diagnostic"]) == 1.0 for row in rows)
    assert sum(row["chosen"] == "yes" for row in rows) == 1
    page = (place / "tokens.html").read_text("utf-8")
    assert page.count("<h2>faking: test-faker") == page.count("<h2>sincere: test-honest") == 3


def test_without_a_difference_the_test_side_is_at_chance_whatever_the_fit_side_says(
    tmp_path: Path,
) -> None:
    explained(tmp_path, PROBE, gap=False)
    rows = csv.DictReader((tmp_path / "run/explain/probe/desk/layer-map.csv").open())
    values = [float(row["test_auroc_diagnostic"]) for row in rows]
    assert abs(np.mean(values) - 0.5) < 0.2


def test_a_run_without_a_detector_that_can_say_so_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AfbenchError, match="no detector of this run"):
        explained(tmp_path, detector(tmp_path, "mute", SIGN))
