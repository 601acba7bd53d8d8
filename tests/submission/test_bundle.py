"""Bundles: complete, of one run, and refused when anything in them was changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.errors import AfbenchError, BundleError
from afbench.results.record import load_record
from afbench.store import digest_of
from afbench.submission.archive import pack, unpack
from afbench.submission.bundle import (
    MANIFEST,
    is_bundle,
    open_bundle,
    surroundings,
    write_bundle,
)
from afbench.submission.folder import files_of, open_submission
from afbench.submission.rescore import opened
from afbench.submission.scored import open_scored
from tests.submission.small_run import NAME, folder_of, run_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A submission's folder, its run, and its bundle."""
    place = tmp_path_factory.mktemp("made")
    folder = folder_of(place)
    run = run_of(place, folder)
    with open_submission(folder) as submission:
        write_bundle(place / "bundle.tar.gz", submission, run)
    return folder, run, place / "bundle.tar.gz"


@pytest.fixture
def bundle(made: tuple[Path, Path, Path], tmp_path: Path) -> Path:
    """The bundle as a folder that a test may change."""
    unpack(made[2], tmp_path / "bundle")
    return tmp_path / "bundle"


def refused(bundle: Path, match: str) -> None:
    with pytest.raises(AfbenchError, match=match) as error, open_bundle(bundle):
        pass
    assert "\n" not in str(error.value) and "/tmp" not in str(error.value)


def listed_anew(bundle: Path) -> None:
    """What a forger does who knows of MANIFEST.json."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"] = {
        path.relative_to(
            bundle
        ).as_posix(): f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(bundle.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def changed(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_bundle_holds_the_run_and_the_code(made: tuple[Path, Path, Path]) -> None:
    folder, run, path = made
    with open_bundle(path) as bundle:
        assert bundle.record == load_record(run / "result.json")
        assert bundle.figures.name == NAME == bundle.submission.detector
        code = files_of(bundle.folder / "detector")
        assert code == {k: v for k, v in files_of(folder).items() if k != "submission.yaml"}
        assert bundle.surroundings.versions["afbench"]


def test_a_bundle_is_itself_however_it_is_packed(
    made: tuple[Path, Path, Path], bundle: Path, tmp_path: Path
) -> None:
    zipped = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", bundle))
    digests = set()
    for path in (made[2], bundle, zipped):
        with open_bundle(path) as opened_one:
            digests.add(opened_one.digest)
        assert is_bundle(path)
    assert len(digests) == 1


def test_a_submission_is_no_bundle(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert not is_bundle(made[0])
    assert not is_bundle(tmp_path / "nowhere")
    refused(made[0], MANIFEST)
    with pytest.raises(BundleError, match="no such bundle"), open_bundle(tmp_path / "nowhere"):
        pass


def test_a_scorer_gets_the_detector_that_is_in_the_bundle(made: tuple[Path, Path, Path]) -> None:
    folder, _, path = made
    with open_scored(folder) as (one, none), open_scored(path) as (other, digest):
        assert one.files == other.files and one.manifest == other.manifest
        assert none is None and digest is not None


def test_nothing_names_the_machine_or_its_user() -> None:
    given = surroundings()
    text = json.dumps([*given.versions.values(), given.system, given.machine])
    for private in (str(Path.home()), socket.gethostname()):
        assert private not in text


@pytest.mark.parametrize(
    "name",
    [
        "record.json",
        "scores.json",
        "evidence.json",
        "environment.json",
        "submission.yaml",
        "detector/detector.py",
    ],
)
def test_a_changed_or_missing_file_is_named(bundle: Path, name: str) -> None:
    path = bundle / name
    path.write_bytes(path.read_bytes() + b"\n")
    refused(bundle, f"was altered.*{name}")
    path.unlink()
    refused(bundle, f"the file is missing.*{name}")


def test_a_file_that_is_not_listed_is_refused(bundle: Path) -> None:
    (bundle / "detector" / "more.py").write_text("x = 1\n")
    refused(bundle, "does not list the file.*more.py")


def test_other_code_is_refused_even_if_it_is_listed(bundle: Path) -> None:
    with (bundle / "detector" / "detector.py").open("a") as file:
        file.write("# tuned on the test\n")
    listed_anew(bundle)
    refused(bundle, "code_digest.*is not that of the folder")


def test_other_code_is_refused_even_if_submission_says_so(bundle: Path) -> None:
    with (bundle / "detector" / "detector.py").open("a") as file:
        file.write("# tuned on the test\n")
    path = bundle / "submission.yaml"
    old = json.loads((bundle / MANIFEST).read_text())["code_digest"]
    path.write_text(path.read_text().replace(old, "sha256:" + "0" * 64))
    changed(bundle / MANIFEST, lambda m: m.update(code_digest="sha256:" + "0" * 64))
    listed_anew(bundle)
    refused(bundle, "the record is of other code")


def test_an_altered_figure_is_refused_even_if_it_is_listed(bundle: Path) -> None:
    changed(bundle / "record.json", lambda r: r["detectors"][0]["auroc"].update(value=0.99))
    listed_anew(bundle)
    refused(bundle, "does not match its digest|not a result")


def test_a_bundle_of_another_detectors_run_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", folder_of(tmp_path / "other", name="another"))
    shutil.copy(other / "result.json", bundle / "record.json")
    listed_anew(bundle)
    refused(bundle, "other code than the 'my-reader'")


def test_a_record_without_the_detectors_row_is_refused(bundle: Path) -> None:
    def without(record: dict[str, Any]) -> None:
        record["detectors"] = record["detectors"][1:]
        volatile = {"created", "timings", "cache", "spending", "digest"}
        record["digest"] = digest_of({k: v for k, v in record.items() if k not in volatile})

    changed(bundle / "record.json", without)
    listed_anew(bundle)
    refused(bundle, "no row of 'my-reader'")


def test_a_run_of_other_code_makes_no_bundle(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = folder_of(tmp_path, code="class It(Detector): ...\n")
    with open_submission(other) as submission, pytest.raises(BundleError, match="other code"):
        write_bundle(tmp_path / "x.tar.gz", submission, made[1])
    assert not (tmp_path / "x.tar.gz").exists()


def test_a_run_that_cannot_be_rescored_makes_no_bundle(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(made[1], tmp_path / "run")
    (tmp_path / "run" / "evidence.json").unlink()
    with open_submission(made[0]) as submission, pytest.raises(BundleError, match="--fresh"):
        write_bundle(tmp_path / "x.tar.gz", submission, tmp_path / "run")


@given(
    name=st.sampled_from([MANIFEST, "record.json", "scores.json", "evidence.json",
                          "environment.json", "submission.yaml"]),
    where=st.integers(0, 1_000_000),
    put=st.binary(min_size=1, max_size=6),
)  # fmt: skip
@settings(max_examples=60)
def test_any_damage_is_one_clear_line(
    made: tuple[Path, Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    where: int,
    put: bytes,
) -> None:
    place = tmp_path_factory.mktemp("damaged")
    unpack(made[2], place / "bundle")
    path = place / "bundle" / name
    content = bytearray(path.read_bytes())
    at = where % len(content)
    before = bytes(content)
    content[at : at + len(put)] = put
    path.write_bytes(bytes(content))
    if bytes(content) == before:
        return
    if name != MANIFEST:
        listed_anew(place / "bundle")
    assert "\n" not in (said_of(place / "bundle") or "")


def said_of(bundle: Path) -> str | None:
    """The error of a bundle; None where it is sound."""
    try:
        with opened(bundle):
            return None
    except AfbenchError as error:
        return str(error)


def test_deep_or_odd_json_is_one_clear_line(bundle: Path) -> None:
    for text in ("[" * 100_000, '{"a": NaN}', '{"a": 1, "a": 2}', "\x00", "[]", "nul"):
        (bundle / "scores.json").write_text(text)
        listed_anew(bundle)
        with pytest.raises(AfbenchError, match="scores.json"), opened(bundle):
            pass


def test_a_packed_bundle_names_its_files_plainly(bundle: Path, tmp_path: Path) -> None:
    (bundle / "record.json").write_text("{}")
    listed_anew(bundle)
    path = tmp_path / "x.tar.gz"
    path.write_bytes(pack(files_of(bundle)))
    refused(path, "record.json")
