"""The parts of a check that need no organism; `tests/e2e/test_check.py` runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from afbench.catalog.discovery import discover
from afbench.errors import AfbenchError, UnknownNameError
from afbench.regression.check import DEFAULT_MAX_DROP, Machine, Question, check, tolerances
from afbench.regression.measuring import choose_detectors
from afbench.results.progress import Silent
from afbench.store import Store
from tests.regression.drawn import as_baseline, made_up

CATALOG = discover()
PROBE = CATALOG.get("detector", "probe")


def question(path: Path, **given: object) -> Question:
    return Question(baselines=[path], **given)  # type: ignore[arg-type]


def machine(folder: Path) -> Machine:
    return Machine(CATALOG, Store(folder / "cache"), Silent())


def saved(folder: Path, *names: str, **changed: object) -> Path:
    path = folder / "baseline.json"
    as_baseline(made_up({name: [0.0] * 8 for name in names}, **changed)).save(path)  # type: ignore[arg-type]
    return path


def copy_of_probe(folder: Path, name: str = "probe") -> Path:
    target = folder / name
    shutil.copytree(PROBE.folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = target / "detector.yaml"
    manifest.write_text(manifest.read_text().replace("name: probe\n", f"name: {name}\n"))
    return target


def test_a_tolerated_drop_is_for_all_metrics_or_for_one() -> None:
    metrics = ["auroc", "brier"]
    assert tolerances([], metrics) == dict.fromkeys(metrics, DEFAULT_MAX_DROP)
    assert tolerances(["0.1"], metrics) == {"auroc": 0.1, "brier": 0.1}
    # Whichever comes first: the one for a metric counts for that metric.
    for given in (["0.1", "brier=0"], ["brier=0", "0.1"]):
        assert tolerances(given, metrics) == {"auroc": 0.1, "brier": 0.0}
    assert tolerances(["fpr:values-talk=0.3"], ["fpr:values-talk"]) == {"fpr:values-talk": 0.3}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("much", "'much' is no drop"), ("auroc=", "'' is no drop"), ("-0.1", "no drop"),
        ("nan", "no drop"), ("1.5", "no drop"), ("brier=0.1", "add --metric brier"),
        ("auorc=0.1", "did you mean 'auroc'"),
    ],
)  # fmt: skip
def test_a_tolerated_drop_that_makes_no_sense_is_refused(given: str, line: str) -> None:
    with pytest.raises(AfbenchError) as error:
        tolerances([given], ["auroc"])
    assert line in str(error.value)


def test_a_detector_is_named_or_a_folder(tmp_path: Path) -> None:
    mine, theirs = copy_of_probe(tmp_path, "mine"), copy_of_probe(tmp_path)
    chosen = choose_detectors(["lda", str(mine), str(theirs)], CATALOG)
    assert list(chosen.plugins) == ["lda", "mine", "probe"]
    assert chosen.plugins["mine"].folder == mine.resolve()
    assert chosen.plugins["probe"].folder == theirs.resolve()  # not the shipped one
    with pytest.raises(AfbenchError, match="two detectors are named 'probe'"):
        choose_detectors(["probe", str(theirs)], CATALOG)
    with pytest.raises(UnknownNameError, match="did you mean 'probe'"):
        choose_detectors(["prob"], CATALOG)


def test_a_folder_that_is_no_detector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "detector.yaml").write_text("kind: organism\n")
    with pytest.raises(AfbenchError):
        choose_detectors([str(tmp_path)], CATALOG)


@pytest.mark.parametrize(
    ("names", "given", "line"),
    [
        (("nobodys",), {}, "unknown detector 'nobodys'"),
        (("probe@0123abcd",), {}, "give the folder with --detector"),
        (("probe", "lda"), {"detectors": ["ccs"]}, "say with --against"),
        (("probe",), {"against": "prob"}, "unknown detector of the baseline 'prob'"),
        (("probe",), {"metrics": ["aurox"]}, "did you mean 'auroc'"),
        (("probe",), {}, "unknown organism 'faker'"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_anything_runs(
    tmp_path: Path, names: tuple[str, ...], given: dict[str, object], line: str
) -> None:
    with pytest.raises(AfbenchError) as error:
        check(question(saved(tmp_path, *names), **given), machine(tmp_path))
    assert line in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_a_baseline_of_prompted_organisms_needs_the_model(tmp_path: Path) -> None:
    path = saved(tmp_path, "probe", model="somebody/model@abc")
    with pytest.raises(AfbenchError, match="give it with --model"):
        check(question(path), machine(tmp_path))


def test_a_baseline_made_on_a_gpu_asks_for_one(tmp_path: Path) -> None:
    import torch

    versions = {"afbench": "0.2.0", "device": "cuda", "dtype": "torch.bfloat16"}
    if torch.cuda.is_available():
        local = machine(tmp_path).bench(versions).local
        assert (local.placement.device, local.placement.dtype) == ("cuda", "bfloat16")
    else:
        with pytest.raises(AfbenchError, match="'cuda' is no device of this machine"):
            machine(tmp_path).bench(versions)
    local = machine(tmp_path).bench({"afbench": "0.2.0"}).local
    assert local.identity == {}  # float32 on a CPU


def test_a_crash_never_ends_with_the_code_that_means_worse() -> None:
    from afbench.cli.check import _no_unexpected_errors

    unexpected = pytest.raises(AfbenchError, match="unexpected error: ZeroDivisionError")
    with unexpected, _no_unexpected_errors():
        print(1 / 0)
    with pytest.raises(UnknownNameError), _no_unexpected_errors():
        choose_detectors(["nobodys"], CATALOG)
