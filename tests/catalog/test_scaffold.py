from __future__ import annotations

from pathlib import Path

import pytest

from afbench.catalog import KINDS, Kind, check_files, scaffold
from afbench.errors import AfbenchError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["my-own", "3rd", "a"])
def test_a_scaffold_is_complete_and_its_files_pass_the_check(
    tmp_path: Path, kind: Kind, name: str
) -> None:
    folder = scaffold(kind, name, tmp_path / "made")
    names = {path.name for path in folder.iterdir()}
    assert {f"{kind}.yaml", "card.md", f"test_{name.replace('-', '_')}.py"} <= names
    for path in folder.iterdir():
        assert "${" not in path.read_text()
    report, manifest = check_files(folder)
    assert report.passed, report.failures
    assert manifest is not None
    assert (manifest.name, manifest.kind) == (name, kind)


def test_a_scaffold_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(AfbenchError, match="exists already"):
        scaffold("detector", "mine", tmp_path)
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("name", ["", "../up", "Upper", "a b", "-a", "a_b", "a/b", "x\n", "é"])
def test_a_name_that_is_not_valid_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AfbenchError, match="is not a name"):
        scaffold("detector", name, tmp_path)
    assert not list(tmp_path.iterdir())
