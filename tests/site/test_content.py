"""What is not as it should be is named in one line, with its file and field."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from afbench.errors import AfbenchError
from afbench.results.record import ResultRecord
from afbench.site.content import read_content
from afbench.store import digest_of, write_json
from tests.site.boards import ZOO, cut, put_sweep

VOLATILE = {"created", "timings", "cache", "spending", "digest"}


def changed(board: Path, *path: Any, value: Any) -> Path:
    """A record whose field was set to something, with the digest that belongs to it."""
    file = put_sweep(board, cut("recipe"), with_curves=False)
    content = json.loads(file.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    given = {name: part for name, part in content.items() if name not in VOLATILE}
    write_json(file, content | {"digest": digest_of(given)})
    return file


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("detectors", 0, "auroc"), "high", "detectors.0.auroc"),
        (("detectors", 2, "cost", "queries"), None, "detectors.2.cost.queries"),
        (("organisms", 1, "role"), 3, "organisms.1.role"),
        (("more",), 1, "more"),
        (("detectors",), [], "detectors"),
        (("detectors", 1, "name"), "../../x", "detectors.1.name"),
        (("detectors", 1, "name"), "<b>", "detectors.1.name"),
        (("detectors", 1, "name"), "a" * 81, "detectors.1.name"),
        (("detectors", 1, "tier"), "=cmd()", "detectors.1.tier"),
        (("detectors", 0, "excess_over_floor", "rival"), "=1", "detectors.0.excess_over_floor"),
        (("organisms", 0, "name"), "/etc/passwd", "organisms.0.name"),
        (("organisms", 0, "environment"), "", "organisms.0.environment"),
    ],
)
def test_a_broken_record_is_named_with_its_field(
    path: tuple[Any, ...], value: Any, field: str, tmp_path: Path
) -> None:
    changed(tmp_path, *path, value=value)
    with pytest.raises(AfbenchError) as caught:
        read_content(tmp_path)
    line = str(caught.value)
    assert f"field '{field}" in line and f"results/{ZOO}/recipe.json" in line
    assert "\n" not in line


def test_a_detector_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    record = cut("recipe")
    twice = [*record.detectors, record.detectors[0]]
    put_sweep(tmp_path, record.model_copy(update={"detectors": twice}).with_digest(),
              with_curves=False)  # fmt: skip
    with pytest.raises(AfbenchError, match="given twice"):
        read_content(tmp_path)


def test_a_record_that_was_altered_is_refused(tmp_path: Path) -> None:
    file = put_sweep(tmp_path, cut("recipe"))
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(AfbenchError, match="altered after the run"):
        read_content(tmp_path)


def test_an_entry_that_was_altered_is_refused(board: Path, tmp_path: Path) -> None:
    copy = tmp_path / "board"
    shutil.copytree(board, copy)
    file = next((copy / "results" / "spring" / "probing").glob("*.json"))
    file.write_text(file.read_text().replace('"licence": "MIT"', '"licence": "ISC"'))
    with pytest.raises(AfbenchError, match=f"probing/{file.name}: .*signature"):
        read_content(copy)


def test_an_empty_leaderboard_or_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(AfbenchError, match="holds no result"):
        read_content(tmp_path)
    with pytest.raises(AfbenchError, match="there is no leaderboard"):
        read_content(tmp_path / "none")


def test_seasons_alone_make_a_site(board: Path, tmp_path: Path) -> None:
    from tests.site.boards import built

    copy = tmp_path / "board"
    shutil.copytree(board, copy)
    shutil.rmtree(copy / "results" / ZOO)
    shutil.rmtree(copy / "curves")
    pages = built(copy)
    assert "Season spring" in pages["index.html"]
    assert "compare.html" not in pages


def test_the_command_ends_with_2_and_leaves_what_was_there(tmp_path: Path) -> None:
    from afbench.cli.app import main

    board, out = tmp_path / "board", tmp_path / "site"
    put_sweep(board, cut("recipe"))
    run(main, board, out, expected=0)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    changed(board, "detectors", 0, "auroc", value="high")
    run(main, board, out, expected=2)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board", "site"]


def run(main: Any, board: Path, out: Path, *, expected: int) -> None:
    arguments = ["leaderboard", "build", "--board", str(board), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in ((0, None) if expected == 0 else (expected,))


@pytest.mark.parametrize("address", ["board", "javascript:alert(1)", "//evil.example/", "ftp://x/"])
def test_a_base_url_is_a_path_or_an_address(address: str, tmp_path: Path) -> None:
    from afbench.cli.leaderboard import app
    from afbench.errors import LeaderboardError

    put_sweep(tmp_path, cut("recipe"))
    arguments = ["build", "--board", str(tmp_path), "--base-url", address]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, LeaderboardError)
    assert "--base-url" in str(result.exception)


def test_a_record_of_an_older_schema_is_shown(tmp_path: Path) -> None:
    record: ResultRecord = cut("recipe")
    content = record.model_dump(mode="json") | {"schema_version": 2}
    given = {name: part for name, part in content.items() if name not in VOLATILE}
    write_json(tmp_path / "results" / ZOO / "recipe.json", content | {"digest": digest_of(given)})
    [sweep] = read_content(tmp_path).sweeps
    assert sweep.split == "recipe"
