from __future__ import annotations

from pathlib import Path

from afbench.catalog import check_files, scaffold


def _failed(folder: Path) -> list[str]:
    report, _ = check_files(folder)
    return [check.name for check in report.checks if not check.passed]


def test_a_missing_or_empty_card_is_found(tmp_path: Path) -> None:
    folder = scaffold("detector", "mine", tmp_path)
    (folder / "card.md").write_text(" \n")
    assert _failed(folder) == ["card"]
    (folder / "card.md").unlink()
    assert _failed(folder) == ["card"]


def test_a_file_that_the_manifest_names_must_exist(tmp_path: Path) -> None:
    folder = scaffold("environment", "mine", tmp_path)
    (folder / "cues.yaml").unlink()
    assert _failed(folder) == ["paths"]


def test_any_symlink_out_of_the_folder_is_found(tmp_path: Path) -> None:
    folder = scaffold("detector", "mine", tmp_path)
    (tmp_path / "outside").write_text("x")
    (folder / "extra").symlink_to(tmp_path / "outside")
    assert _failed(folder) == ["paths"]


def test_a_broken_manifest_is_one_failed_check_with_its_line(tmp_path: Path) -> None:
    folder = scaffold("detector", "mine", tmp_path)
    (folder / "detector.yaml").write_text("schema: 1\nkind: detector\nname: mine\n")
    report, manifest = check_files(folder)
    assert manifest is None
    assert not report.passed
    assert "detector.yaml line" in report.failures[0]
    assert report.as_dict()["passed"] is False
