"""A submission's folder: what it says of itself is what is there, or it is refused in one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.catalog.discovery import discover
from afbench.errors import AfbenchError, ArchiveError, ManifestError, SubmissionError
from afbench.submission.archive import Limits, pack
from afbench.submission.folder import files_of, open_submission, write_draft
from afbench.submission.manifest import SubmissionManifest
from afbench.submission.submit import added_to, check_contract
from tests.submission.small_run import filled_in, folder_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path)


def refused(path: Path, match: str | None, kind: type[AfbenchError] = AfbenchError) -> str:
    with pytest.raises(kind, match=match) as error, open_submission(path):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def digest_of(path: Path) -> str:
    with open_submission(path) as submission:
        return submission.manifest.code_digest


def test_a_folder_and_its_archives_are_one_submission(tmp_path: Path, folder: Path) -> None:
    digest = digest_of(folder)
    for place in ("", "whatever/"):  # the files themselves, or their folder
        archive = tmp_path / "submission.tar.gz"
        archive.write_bytes(pack({place + k: v for k, v in files_of(folder).items()}))
        assert digest_of(archive) == digest
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", folder.parent, folder.name)
    assert digest_of(Path(zipped)) == digest


def test_what_is_run_is_a_copy_without_what_tools_leave_behind(folder: Path) -> None:
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    (folder / ".secret").write_text("x")
    with open_submission(folder) as submission:
        (folder / "detector.py").write_text("changed while it runs")
        assert set(submission.files) == {"detector.py", "detector.yaml", "card.md"}
        assert b"changed" not in submission.files["detector.py"]


def test_a_draft_knows_the_code_and_asks_for_the_rest(folder: Path) -> None:
    before = yaml.safe_load((folder / "submission.yaml").read_text())
    (folder / "submission.yaml").unlink()
    write_draft(folder)
    refused(folder, "authors")
    filled_in(folder)
    assert yaml.safe_load((folder / "submission.yaml").read_text()) == before


def test_the_digest_of_a_draft_is_written_anew_and_nothing_else(folder: Path) -> None:
    filled_in(folder, links={"paper": "https://example.org/x"})
    before = yaml.safe_load((folder / "submission.yaml").read_text())
    (folder / "detector.py").write_text("# other code\n")
    refused(folder, "code_digest.*is not that of the folder.*--init", ManifestError)
    write_draft(folder)
    after = yaml.safe_load((folder / "submission.yaml").read_text())
    assert digest_of(folder) == after.pop("code_digest") != before.pop("code_digest")
    assert after == before


def test_a_missing_manifest_is_named(folder: Path) -> None:
    (folder / "submission.yaml").unlink()
    refused(folder, "submission.yaml", ManifestError)


def test_a_folder_of_another_kind_is_no_submission(folder: Path) -> None:
    (folder / "detector.yaml").unlink()
    refused(folder, "holds no detector.yaml", SubmissionError)


def test_what_is_not_there_is_no_submission(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder or archive", SubmissionError)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("authors", [], "field 'authors'"),
        ("authors", "A. Nother", "field 'authors'"),
        ("authors", ["two\nlines"], "one line"),
        ("licence", "TODO", "no licence"),
        ("licence", "do what you like!", "no SPDX"),
        ("tier", "godlike", "unknown value 'godlike'"),
        ("tier", "weights", "says 'weights', and detector.yaml 'activations'"),
        ("detector", "another", "says 'another', and detector.yaml 'my-reader'"),
        ("budget", {"seconds": 1}, "says '1.0', and detector.yaml '600"),
        ("budget", {"seconds": -1}, "greater than 0"),
        ("budget", {}, "required field is missing"),
        ("training_data", "", "is empty"),
        ("dependencies", ["numpy>=1"], "is no pin"),
        ("dependencies", ["numpy==0.0.1"], "pins numpy==0.0.1, and .* is installed"),
        ("dependencies", ["no-such-thing==1"], "it is not installed"),
        ("code_digest", "sha256:abc", "field 'code_digest'"),
        ("links", {"paper": "file:///etc/passwd"}, "no address of a page"),
        ("links", {"paper": "https://user:secret@example.org"}, "no address of a page"),
        ("links", {"paper": "javascript:alert(1)"}, "no address of a page"),
        ("schema", 2, "schema"),
        ("licenze", "MIT", "unknown field; did you mean 'licence'"),
    ],
)
def test_a_wrong_field_is_named(folder: Path, field: str, value: Any, match: str) -> None:
    filled_in(folder, **{field: value})
    said = refused(folder, match, ManifestError)
    assert "submission.yaml line" in said


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "Apache-2.0 OR MIT",
        "GPL-3.0-or-later",
        "LicenseRef-own",
        "GPL-2.0 WITH Classpath-exception-2.0",
    ],
)
def test_licences_of_spdx_are_taken(folder: Path, licence: str) -> None:
    filled_in(folder, licence=licence)
    assert digest_of(folder)


def test_an_error_inside_an_archive_names_no_temporary_place(tmp_path: Path, folder: Path) -> None:
    filled_in(folder, licence="none")
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(pack(files_of(folder)))
    assert refused(archive, "licence").startswith("submission.yaml line")


@pytest.mark.parametrize("target", ["/etc/passwd", "detector.py", "nowhere"])
def test_a_link_is_refused_wherever_it_leads(folder: Path, target: str) -> None:
    (folder / "data").symlink_to(target)
    refused(folder, "a link; .*data", SubmissionError)


def test_a_link_to_a_folder_is_refused(tmp_path: Path, folder: Path) -> None:
    (folder / "data").symlink_to(tmp_path)
    refused(folder, "a link", SubmissionError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_read(folder: Path) -> None:
    os.mkfifo(folder / "data")
    refused(folder, "a device or pipe", SubmissionError)


def test_a_folder_that_is_too_large_is_refused(folder: Path) -> None:
    (folder / "weights").write_bytes(bytes(2_000))
    for limits in (Limits(total=1_000), Limits(files=2)):
        with pytest.raises(SubmissionError, match="more than"), open_submission(folder, limits):
            pass


def test_a_bomb_is_no_submission(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(pack({"detector.yaml": bytes(300_000_000)}))
    refused(path, "grows to more than", ArchiveError)


def test_code_that_imports_what_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, code="import no_such_library\nclass It(Detector): ...\n")
    with open_submission(folder) as submission:
        with pytest.raises(SubmissionError, match="No module named 'no_such_library'") as error:
            check_contract(submission)
        assert "\n" not in str(error.value)


def test_a_name_that_another_detector_has_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, name="probe")
    named = pytest.raises(SubmissionError, match="another detector is named 'probe'")
    with open_submission(folder) as submission, named:
        added_to(discover(), submission)


def test_a_detector_that_is_installed_may_be_submitted_as_it_is(tmp_path: Path) -> None:
    shipped = discover().get("detector", "floor-length")
    folder = tmp_path / shipped.name
    shutil.copytree(shipped.folder, folder)
    filled_in(folder)
    with open_submission(folder) as submission:
        catalog = added_to(discover(), submission)
    assert catalog.detectors[shipped.name].folder != shipped.folder


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from([*SubmissionManifest.model_fields, "schema"])


@given(content=st.dictionaries(FIELDS, ANY) | ANY, raw=st.none() | st.binary(max_size=40))
@settings(max_examples=150)
def test_any_manifest_is_taken_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: Any, raw: bytes | None
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "detector.yaml").write_text("x")
    text = yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "replace")
    (folder / "submission.yaml").write_bytes(text if raw is None else raw)
    refused(folder, None)
