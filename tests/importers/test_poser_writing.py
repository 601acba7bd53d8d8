"""What is refused, in one line, and that nothing half-written is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afbench.errors import AfbenchError, StorageError
from afbench.importers.folder import REPORT
from afbench.importers.poser import import_poser
from tests.importers.poser_like import (
    load,
    record,
    write,
    write_release,
)


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(AfbenchError) as error:
        import_poser(*arguments, **options)
    return str(error.value)


def test_a_folder_that_is_no_release_is_refused_with_the_layout(tmp_path: Path) -> None:
    (tmp_path / "data/training").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "none"):
        line = refusal(folder, tmp_path / "made", "poser")
        assert "data/benchmark/*.json" in line
        assert "data/training/<policy>/test.json" in line
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("part", "rows", "said"),
    [
        ("benchmark", [record(1, response="error")], "data/benchmark: the answer is not A or B"),
        ("benchmark", "no list", "not a list"),
        ("benchmark", [], "no record is there"),
        ("training", [record(1, facts=None)], "data/training: no fact of type critical"),
    ],
)
def test_a_release_of_which_a_part_gives_nothing_is_refused_with_the_reason(
    tmp_path: Path, part: str, rows: Any, said: str
) -> None:
    release = write_release(tmp_path / "release", pairs=())
    other = release / "data/benchmark/saint_and_money.json"
    paths = [release / "data/training/saint/test.json", other]
    for path in paths:
        write(path, rows if part in str(path.relative_to(release)) else [record(2)])
    assert said in refusal(release, tmp_path / "made", "poser")
    assert not (tmp_path / "made").exists()


def test_too_few_cues_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "data/benchmark/saint_and_money.json", [record(1), record(2)])
    path = write(tmp_path / "data/training/saint/test.json", [record(3, poor=True)])
    assert "too few cues: 2 facts of good and 1 of poor" in refusal(tmp_path, tmp_path, "poser")
    write(path, [record(3, poor=True), record(4, poor=True)])
    assert len(load(import_poser(tmp_path, tmp_path, "poser").folder).cues) == 2


@pytest.mark.parametrize("name", ["", "../up", "Upper", "a b", "-a", "a_b", "a/b", "x\n", "é"])
def test_a_name_that_is_not_valid_is_refused(release: Path, tmp_path: Path, name: str) -> None:
    assert "is not a name" in refusal(release, tmp_path / "made", name)
    assert not (tmp_path / "made").exists()


def test_a_folder_that_is_there_is_replaced_only_by_force_and_if_an_import_made_it(
    release: Path, tmp_path: Path
) -> None:
    folder = import_poser(release, tmp_path, "poser").folder
    (folder / "note.txt").write_text("mine")
    assert "add --force" in refusal(release, tmp_path, "poser")
    assert (folder / "note.txt").exists()
    import_poser(release, tmp_path, "poser", force=True)
    assert not (folder / "note.txt").exists()
    (folder / REPORT).unlink()
    assert "not the work of an import" in refusal(release, tmp_path, "poser", force=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "exists already" in refusal(release, tmp_path, "link")
    assert "not the work" in refusal(release, tmp_path, "link", force=True)
    assert _hidden(tmp_path) == []


def _hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("where", ["_load", "_move"])
def test_a_failed_write_leaves_what_was_there(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = import_poser(release, tmp_path, "poser").folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"afbench.importers.folder.{where}", fail)
    with pytest.raises(StorageError, match="No space left"):
        import_poser(release, tmp_path, "poser", force=True, limit=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert _hidden(tmp_path) == []


def test_an_old_import_is_put_back_when_the_new_one_cannot_be_moved(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = import_poser(release, tmp_path, "poser").folder
    rename = Path.rename

    def fail_once(self: Path, target: Path) -> Path:
        if self.parent != tmp_path and self.name == "poser":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(StorageError, match="Input/output"):
        import_poser(release, tmp_path, "poser", force=True)
    assert load(folder).scenarios
    assert _hidden(tmp_path) == []


def test_a_folder_that_cannot_be_written_in_is_one_line(release: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refusal(release, tmp_path / "file", "poser")
