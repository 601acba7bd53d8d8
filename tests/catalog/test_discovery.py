from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from afbench.catalog import KINDS, Catalog, Kind, discover
from afbench.catalog.shipped import shipped_folder
from afbench.errors import AfbenchError, DuplicateNameError, ManifestError, UnknownNameError
from tests.catalog.manifest_texts import write_plugin


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afbench.catalog.discovery.shipped_folder", lambda: None)
    monkeypatch.delenv("AFBENCH_PLUGINS", raising=False)


def _names(catalog: Catalog) -> dict[Kind, list[str]]:
    return {kind: sorted(catalog.of_kind(kind)) for kind in KINDS}


def test_the_three_layouts_of_a_plugin_folder_are_found(tmp_path: Path) -> None:
    single = write_plugin(tmp_path / "one", "detector", "single")
    write_plugin(tmp_path / "two" / "organisms", "organism", "sorted")
    write_plugin(tmp_path / "three", "environment", "direct")
    catalog = discover([single, tmp_path / "two", tmp_path / "three"])
    assert _names(catalog) == {
        "organism": ["sorted"],
        "environment": ["direct"],
        "detector": ["single"],
    }


def test_the_variable_and_the_shipped_folder_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path / "a", "detector", "one")
    write_plugin(tmp_path / "b", "detector", "two")
    write_plugin(tmp_path / "shipped" / "detectors", "detector", "three")
    monkeypatch.setenv("AFBENCH_PLUGINS", f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}")
    monkeypatch.setattr("afbench.catalog.discovery.shipped_folder", lambda: tmp_path / "shipped")
    assert sorted(discover().detectors) == ["one", "three", "two"]


def test_entry_points_are_searched_and_a_failing_one_is_not_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_afbench_package"
    write_plugin(package / "detectors", "detector", "packaged")
    (package / "__init__.py").write_text(
        "from pathlib import Path\ndef folder():\n    return Path(__file__).parent.parent / 'f'\n"
    )
    write_plugin(tmp_path / "f", "organism", "called")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "some_afbench_package", raising=False)
    points = [
        EntryPoint("package", "some_afbench_package", "afbench.plugins"),
        EntryPoint("callable", "some_afbench_package:folder", "afbench.plugins"),
        EntryPoint("gone", "no_such_afbench_package", "afbench.plugins"),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    catalog = discover()
    assert list(catalog.detectors) == ["packaged"]
    assert list(catalog.organisms) == ["called"]
    [(path, error)] = catalog.broken
    assert path.name == "gone"
    assert "no_such_afbench_package" in str(error)


def test_two_plugins_of_one_name_are_an_error_that_names_both_folders(tmp_path: Path) -> None:
    first = write_plugin(tmp_path / "a", "detector", "same")
    second = write_plugin(tmp_path / "b", "detector", "same")
    with pytest.raises(DuplicateNameError) as error:
        discover([tmp_path / "a", tmp_path / "b"])
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


def test_one_name_in_two_kinds_is_no_clash(tmp_path: Path) -> None:
    write_plugin(tmp_path / "a", "detector", "same")
    write_plugin(tmp_path / "b", "organism", "same")
    catalog = discover([tmp_path / "a", tmp_path / "b"])
    assert [plugin.kind for plugin in catalog.find("same")] == ["organism", "detector"]


def test_a_folder_found_twice_is_one_plugin(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path / "detectors", "detector", "one")
    assert list(discover([tmp_path, folder, tmp_path / "detectors"]).detectors) == ["one"]


def test_a_missing_plugin_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AfbenchError, match="does not exist"):
        discover([tmp_path / "nowhere"])


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    write_plugin(tmp_path, "detector", "follow-up")
    with pytest.raises(UnknownNameError, match="did you mean 'follow-up'"):
        discover([tmp_path]).get("detector", "folow-up")
    with pytest.raises(UnknownNameError, match="did you mean 'follow-up'"):
        discover([tmp_path]).find("follow-ups")


def test_a_broken_plugin_is_kept_apart_and_raised_when_asked_for(tmp_path: Path) -> None:
    write_plugin(tmp_path, "detector", "good")
    bad = write_plugin(tmp_path, "detector", "bad", "schema: 1\nkind: detector\n")
    catalog = discover([tmp_path])
    assert list(catalog.detectors) == ["good"]
    assert [folder for folder, _ in catalog.broken] == [bad]
    with pytest.raises(ManifestError, match=r"bad.detector\.yaml line 1"):
        catalog.get("detector", "bad")
    with pytest.raises(UnknownNameError):
        catalog.get("organism", "bad")
    with pytest.raises(ManifestError):
        catalog.find("bad")


def test_a_plugin_folder_without_manifest_is_broken_and_an_empty_or_hidden_one_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "detectors" / "half-done").mkdir(parents=True)
    (tmp_path / "detectors" / "half-done" / "detector.py").write_text("")
    (tmp_path / "detectors" / "left-over" / "__pycache__").mkdir(parents=True)
    (tmp_path / "detectors" / ".hidden").mkdir()
    assert [folder.name for folder, _ in discover([tmp_path]).broken] == ["half-done"]


def test_shipped_plugins_are_inside_a_wheel_and_beside_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "afbench"
    package.mkdir()
    assert shipped_folder(package) is None
    (tmp_path / "detectors").mkdir()
    assert shipped_folder(package) is None
    (tmp_path / "pyproject.toml").write_text("")
    assert shipped_folder(package) == tmp_path
    (package / "_catalog").mkdir()
    assert shipped_folder(package) == package / "_catalog"
