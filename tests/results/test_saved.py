"""A fitted detector that is kept: it scores as it did, or is refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.splits import Member
from afbench.catalog.discovery import Catalog, discover
from afbench.detection.harness import FittedDetector, fit_detector
from afbench.detection.loading import detector_factory
from afbench.errors import AfbenchError, DigestMismatchError, StorageError, UnknownNameError
from afbench.results.fitting import Fitter
from afbench.results.progress import Silent
from afbench.results.record import RunSettings
from afbench.results.run import run
from afbench.results.saved import FittedOn, Saved, is_saved, read_saved, save_detector
from afbench.store import Store
from tests.results.fake_run import FOLD, FakeRun
from tests.results.test_several_runs import MEMBERS, SHIPPED, catalog

PROBE = discover().get("detector", "probe")


def fitted_on(family: str = "rank-4", environment: str = "desk", seed: int = 0) -> FittedOn:
    return FittedOn(
        digest="sha256:0", base="nano", environment=environment, family=family, seed=seed,
        faker=True,
    )  # fmt: skip


def about(**further: Any) -> dict[str, Any]:
    return {
        "shape": (3, 8), "organisms": {"old": fitted_on()}, "environments": {}, "scenarios": 8,
        "seed": 0, "versions": {}, "thresholds": {"0.05": 1.0}, **further,
    }  # fmt: skip


def fit(folder: Path, run: FakeRun) -> FittedDetector:
    handles = run.access.handles(PROBE.manifest, [*FOLD.fit, *FOLD.test])
    side, _ = run.source.sides(FOLD, handles, contrast=False)
    return fit_detector("probe", detector_factory(PROBE), 60, side, run.source.families())


@pytest.fixture
def own(tmp_path: Path) -> Catalog:
    """A catalog whose probe may be changed."""
    folder = tmp_path / "plugins" / "probe"
    shutil.copytree(PROBE.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return replace(SHIPPED, detectors={"probe": replace(PROBE, folder=folder)})


@pytest.fixture
def folder(tmp_path: Path, own: Catalog) -> Path:
    run = FakeRun(tmp_path / "cache", [PROBE])
    save_detector(tmp_path / "saved", own.detectors["probe"], fit(tmp_path, run), **about())
    return tmp_path / "saved"


def test_what_is_read_back_scores_as_what_was_saved(
    tmp_path: Path, folder: Path, own: Catalog
) -> None:
    run = FakeRun(tmp_path / "cache", [PROBE])
    before = fit(tmp_path, run)
    saved = read_saved(folder, own)
    after = saved.fitted()
    handles = run.access.handles(PROBE.manifest, [*FOLD.fit, *FOLD.test])
    _, test = run.source.sides(FOLD, handles, contrast=False)
    np.testing.assert_array_equal(
        before.detector.score(test.cases), after.detector.score(test.cases)
    )
    np.testing.assert_array_equal(before.held_out_scores, after.held_out_scores)
    np.testing.assert_array_equal(before.held_out_labels, after.held_out_labels)
    assert (after.chosen, after.fits) == (before.chosen, 0)
    assert saved.name.startswith("probe@") and is_saved(folder) and not is_saved(tmp_path)
    assert "import" not in (folder / "saved.json").read_text()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "name", ["state.safetensors", "state.json", "held-out.safetensors", "detector.yaml"]
)
@pytest.mark.parametrize("harm", [damage, Path.unlink])
def test_a_damaged_or_missing_file_is_refused(
    folder: Path, own: Catalog, name: str, harm: Callable[[Path], None]
) -> None:
    harm(folder / name)
    with pytest.raises((DigestMismatchError, StorageError), match=name):
        read_saved(folder, own)


def test_saved_json_must_be_one(folder: Path, own: Catalog, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no saved detector"):
        read_saved(tmp_path / "nowhere", own)
    for text in ("", "[]", '{"schema_version": 1}', "[" * 100_000):
        (folder / "saved.json").write_text(text)
        with pytest.raises(StorageError, match="damaged"):
            read_saved(folder, own)


def test_another_code_or_manifest_is_refused(folder: Path, own: Catalog) -> None:
    code = own.detectors["probe"].folder / "detector.py"
    text = code.read_text()
    code.write_text(text + "# changed\n")
    with pytest.raises(DigestMismatchError, match="not the one that was fitted"):
        read_saved(folder, own)
    code.write_text(text)
    read_saved(folder, own)
    manifest = PROBE.manifest.model_copy(update={"params": {**PROBE.manifest.params, "seed": 1}})
    other = replace(own.detectors["probe"], manifest=manifest)
    with pytest.raises(DigestMismatchError, match="manifest or code"):
        read_saved(folder, replace(own, detectors={"probe": other}))
    with pytest.raises(UnknownNameError, match="unknown detector"):
        read_saved(folder, replace(own, detectors={}))


def test_a_link_is_refused(folder: Path, own: Catalog, tmp_path: Path) -> None:
    real = folder / "state.safetensors"
    real.rename(tmp_path / "elsewhere")
    real.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="no links"):
        read_saved(folder, own)


def test_a_base_of_another_shape_is_refused(folder: Path, own: Catalog) -> None:
    saved = read_saved(folder, own)
    saved.check_shape("same", (3, 8))
    with pytest.raises(AfbenchError, match=r"3 layers of width 8, and 'wide' has 3 layers of wid"):
        saved.check_shape("wide", (3, 16))


@pytest.mark.parametrize(
    ("split", "family", "environment", "refused"),
    [
        ("in-distribution", "rank-4", "desk", False),
        ("recipe", "rank-4", "desk", True),
        ("recipe", "rank-4", "tier", True),
        ("recipe", "full", "desk", False),
        ("organism", "rank-4", "desk", True),
        ("environment", "full", "desk", True),
        ("environment", "rank-4", "tier", False),
        ("cue", "full", "desk", True),
    ],
)
def test_what_a_split_holds_out_may_not_have_been_fitted_on(
    folder: Path, own: Catalog, split: Any, family: str, environment: str, refused: bool
) -> None:
    saved = read_saved(folder, own)
    test = [Member("new", "nano", environment, family, 0, True)]
    if refused:
        with pytest.raises(AfbenchError, match="fitted on 'old'"):
            saved.check_split(test, split)
    else:
        saved.check_split(test, split)


@pytest.mark.slow
def test_a_saved_detector_scores_organisms_and_takes_part_in_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    fitter = Fitter(catalog(), store, Silent())
    at_r4 = [name for name in MEMBERS if "-r4-" in name]
    into = tmp_path / "saved"
    about = fitter.save("probe", at_r4, into, scenarios=12)
    assert set(about.organisms) == set(at_r4)
    assert about.thresholds["0.05"] is None, "one recipe family, so that none was held out"
    assert json.loads((into / "saved.json").read_text())["detector"] == "probe"
    found = fitter.score(into, [MEMBERS[0], MEMBERS[3]], scenarios=12)
    assert [(one.name, one.fitted) for one in found.organisms] == [
        (MEMBERS[0], True), (MEMBERS[3], False),
    ]  # fmt: skip
    settings = RunSettings(
        detectors=[str(into)], floors=False, organism=MEMBERS[3], split="recipe",
        fit_scenarios=12, test_scenarios=12, replicates=50,
    )  # fmt: skip
    record = run(settings, catalog(), store, tmp_path / "runs", Silent()).record
    saved: Saved = read_saved(into, catalog())
    [row] = record.detectors
    assert (row.name, row.cost.fits) == (saved.name, 0)
    assert record.inputs.saved == {saved.name: about.digest}
    assert record.settings.detectors == [saved.name], "no path in a record"
    with pytest.raises(AfbenchError, match="which split 'recipe' holds out"):
        run(settings.model_copy(update={"organism": MEMBERS[0]}), catalog(), store,
            tmp_path / "runs", Silent())  # fmt: skip
    with pytest.raises(AfbenchError, match="not empty"):
        fitter.save("probe", at_r4, into)
