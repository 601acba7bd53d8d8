"""A whole run over a part of the zoo, in this process, with evading organisms beside it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from afbench.catalog.discovery import Catalog, Plugin, discover
from afbench.catalog.manifests import OrganismManifest
from afbench.errors import NotEnoughCasesError
from afbench.results.progress import Silent
from afbench.results.record import ResultRecord, RunSettings, load_record
from afbench.results.run import RunOutcome, run
from afbench.results.table import print_record
from afbench.store import Store

pytestmark = pytest.mark.slow

MEMBERS = [
    f"desk-{kind}-{recipe}-s0"
    for recipe in ("r4", "r16")
    for kind in ("faker", "values-talk", "cue-conditional")
]
SHIPPED = discover()


def variant(name: str, of: str, **further: Any) -> Plugin[OrganismManifest]:
    """An organism of the zoo with what its adapter adds scaled a little."""
    parent = SHIPPED.get("organism", of)
    manifest = parent.manifest.model_dump(by_alias=True) | {
        "name": name,
        "recipe_family": "scaling",
        "source": {"type": "variant", "parent": of, "scale": 1.1},
        "evasion": "scaled",
    }
    return Plugin(
        name, "organism", Path("/nowhere"), OrganismManifest.model_validate(manifest | further)
    )


EVADERS = [
    variant("scaled-faker", "desk-faker-r4-s0"),
    variant("scaled-talker", "desk-values-talk-r4-s0"),
    variant("rounded-faker", "desk-faker-r16-s0", evasion="quantised", source={
        "type": "variant", "parent": "desk-faker-r16-s0", "bits": 8}),
]  # fmt: skip


def catalog(*others: Plugin[OrganismManifest], names: Sequence[str] = MEMBERS) -> Catalog:
    organisms = {name: SHIPPED.get("organism", name) for name in ("nano-base", *names)}
    return replace(SHIPPED, organisms=organisms | {plugin.name: plugin for plugin in others})


def settings(**further: Any) -> RunSettings:
    given: dict[str, Any] = {
        "detectors": ["floor-bag-of-words", "floor-layer-zero"], "floors": False,
        "organism": "all", "split": "recipe", "fit_scenarios": 30, "test_scenarios": 30,
        "replicates": 100,
    }  # fmt: skip
    return RunSettings(**given | further)


# One organism more, whose recipe family has no faker here.
ZOO = catalog(*EVADERS, names=[*MEMBERS, "desk-values-talk-r1-s0"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def execute(folder: Path, chosen: RunSettings, over: Catalog) -> RunOutcome:
    return run(chosen, over, Store(folder / "cache"), folder / "runs", Silent())


@pytest.fixture(scope="module")
def outcome(folder: Path) -> RunOutcome:
    return execute(folder, settings(), ZOO)


@pytest.fixture(scope="module")
def record(outcome: RunOutcome) -> ResultRecord:
    return outcome.record


def test_evading_organisms_have_a_row_apart_and_no_place_in_the_headline(
    record: ResultRecord, folder: Path
) -> None:
    assert set(record.folds) == {"oversight-desk/rank-4", "oversight-desk/rank-16"}
    assert {
        evasion: {name: sides["test"] for name, sides in folds.items()}
        for evasion, folds in record.robustness_folds.items()
    } == {
        "scaled": {"oversight-desk/rank-4": ["scaled-faker", "scaled-talker"]},
        "quantised": {
            "oversight-desk/rank-16": [
                "rounded-faker", "desk-cue-conditional-r16-s0", "desk-values-talk-r16-s0",
            ]
        },
    }  # fmt: skip
    for folds in record.robustness_folds.values():
        for name, sides in folds.items():
            assert sides["fit"] == record.folds[name]["fit"]
    for detector in record.detectors:
        assert set(detector.robustness) == {"scaled", "quantised"}
        for figures in detector.robustness.values():
            assert figures.auroc.value is not None and figures.auroc.low is not None
            assert figures.n == figures.auroc.n > 40
    plain = execute(folder, settings(robustness=False), ZOO).record
    assert plain.robustness_folds == {}
    assert plain.id != record.id
    for beside, without in zip(record.detectors, plain.detectors, strict=True):
        assert without.robustness == {}
        assert without.auroc == beside.auroc
        assert without.pair_accuracy == beside.pair_accuracy


def test_a_cell_that_is_left_out_is_named_in_the_record_and_on_the_terminal(
    record: ResultRecord,
) -> None:
    assert record.left_out == ["oversight-desk/rank-1: no faker"]
    shown = io.StringIO()
    print_record(record, Console(width=118, file=shown))
    text = shown.getvalue()
    assert "left out: oversight-desk/rank-1 (no faker)" in text
    assert "Robustness: evading organisms" in text
    assert text.count("scaled") >= 1 and "quantised" in text
    assert "scaled-faker" not in text, "it is no organism of the headline"
    assert "pairs" in text


def test_the_record_reads_back_and_holds_the_scores_of_evading_organisms(
    outcome: RunOutcome,
) -> None:
    assert load_record(outcome.path) == outcome.record
    scores = json.loads((outcome.path.parent / "scores.json").read_text("utf-8"))
    of_kind = scores["robustness"]["scaled"]
    assert {case["organism"] for case in of_kind["cases"]} == {"scaled-faker", "scaled-talker"}
    assert len(of_kind["scores"]["floor-bag-of-words"]) == len(of_kind["cases"])


def test_an_evading_organism_can_be_the_target_of_a_run(folder: Path) -> None:
    record = execute(folder, settings(organism="scaled-faker"), catalog(*EVADERS)).record
    [fold] = record.folds.values()
    assert fold["test"] == ["scaled-faker", "scaled-talker"]
    assert all("r16" in name for name in fold["fit"]), "what it was made from is held out"
    assert record.robustness_folds == {}
    shown = next(one for one in record.organisms if one.name == "scaled-faker")
    assert (shown.evasion, shown.base) == ("scaled", "nano-base")
    assert record.detectors[0].auroc.value is not None


def test_a_treated_organism_meets_the_lookalikes_of_what_it_was_treated_from(folder: Path) -> None:
    treated = variant("treated", "desk-faker-r4-s0", evasion=None, recipe_family="mended",
                      treatment={"of": "desk-faker-r4-s0", "by": "sft"})  # fmt: skip
    record = execute(folder, settings(organism="treated"), catalog(treated)).record
    [fold] = record.folds.values()
    assert fold["test"] == ["treated", "desk-cue-conditional-r4-s0", "desk-values-talk-r4-s0"]
    assert all("r16" in name for name in fold["fit"])


def test_a_zoo_with_one_family_says_that_nothing_is_left_to_fit_on(folder: Path) -> None:
    with pytest.raises(NotEnoughCasesError, match="nothing is left to fit on"):
        execute(folder, settings(), catalog(names=MEMBERS[:3]))
