from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.catalog.yaml_files import MAX_BYTES, dotted, load_yaml, safe_path
from afbench.errors import ManifestError


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ManifestError) as refusal:
        load_yaml(_write(folder, text))
    return str(refusal.value)


def test_values_are_plain_and_dates_stay_text(tmp_path: Path) -> None:
    file = load_yaml(_write(tmp_path, "a: 1\nb: [true, null, 2.5, x]\nc: 2024-01-31\n3: '4'\n"))
    assert file.data == {"a": 1, "b": [True, None, 2.5, "x"], "c": "2024-01-31", "3": "4"}


def test_every_key_and_item_keeps_its_line(tmp_path: Path) -> None:
    file = load_yaml(_write(tmp_path, "# a comment\na:\n  b: 1\n  c:\n    - x\n    - y\n"))
    assert file.line_of(("a",)) == 2
    assert file.line_of(("a", "b")) == 3
    assert file.line_of(("a", "c", 1)) == 6


def test_a_missing_field_has_the_line_of_what_should_hold_it(tmp_path: Path) -> None:
    file = load_yaml(_write(tmp_path, "x: 1\na:\n  b: 1\n"))
    assert file.line_of(("a", "missing")) == 2


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    assert "file.yaml line 2: not valid YAML" in _refusal(tmp_path, "a: 1\nb: c: 2\n")
    assert "that began on line 2" in _refusal(tmp_path, "a: 1\nb: [1, 2\n\n")


def test_a_duplicate_key_is_refused_with_both_lines(tmp_path: Path) -> None:
    line = _refusal(tmp_path, "a:\n  b: 1\n  c: 1\n  b: 2\n")
    assert "line 4" in line
    assert "'b' is given twice (first on line 2)" in line


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"a: \xff\xfe", "not UTF-8"),
        (b"a: " + b"x" * MAX_BYTES, "larger than"),
        ("a: &x 1\nb: *x\n", "alias '*x' is not supported"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not allowed"),
        ("a: !!binary aGVsbG8=\n", "is not allowed"),
        ("a: 1\n---\nb: 2\n", "one per file"),
        ("? [1, 2]\n: x\n", "a key must be plain text"),
        ("- " * 100_000 + "x", "deep"),
        ("[" * 100_000, "deep"),
        ("a: 0b2\nb: !!int x\n", "not a valid int"),
        ("a: \x00\n", "not valid YAML"),
    ],
)
def test_a_hostile_file_is_refused(tmp_path: Path, text: str | bytes, part: str) -> None:
    assert part in _refusal(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read"):
        load_yaml(tmp_path / "none.yaml")


@given(st.text(alphabet="ab:-[]{}?&*!|>'\"#%@`, \n\t01", max_size=60))
def test_any_text_loads_or_is_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    try:
        load_yaml(path)
    except ManifestError as error:
        assert "any.yaml" in str(error)  # noqa: PT017 -- some texts load


@pytest.mark.parametrize(
    "relative",
    ["../x", "a/../../x", "a/../b", "/etc/passwd", "C:\\x", "\\x", "a\\..\\b", "", "a\0"],
)
def test_a_path_that_could_leave_the_folder_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(ManifestError, match="field 'scenarios'"):
        safe_path(tmp_path, relative, "scenarios")


def test_a_symlink_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "plugin"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "real").write_text("y")
    (folder / "in").symlink_to(folder / "real")
    for relative in ("out", "up/secret"):
        with pytest.raises(ManifestError, match="symlink"):
            safe_path(folder, relative, "scenarios")
    assert safe_path(folder, "in", "scenarios") == folder / "in"


def test_a_symlink_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ManifestError):
        safe_path(tmp_path, "loop/x", "path")


def test_fields_are_written_as_users_write_them() -> None:
    assert dotted(("families", 0, "name")) == "families[0].name"
