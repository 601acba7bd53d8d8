from __future__ import annotations

import json
from pathlib import Path

import pytest

from afbench import __version__
from afbench.catalog import scaffold
from afbench.cli.app import main


@pytest.fixture(autouse=True)
def _nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("afbench.catalog.discovery.shipped_folder", lambda: None)
    monkeypatch.delenv("AFBENCH_PLUGINS", raising=False)
    monkeypatch.chdir(tmp_path)


def _exit_code(*arguments: str | Path) -> int | str | None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def _fill(folder: Path) -> None:
    scaffold("detector", "length", folder)
    scaffold("environment", "desk", folder)
    scaffold("organism", "sly", folder, environment="desk")


def test_list_says_how_many_and_what_each_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill(tmp_path)
    assert _exit_code("list", "--plugins", tmp_path) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == [
        "organisms",
        "environments",
        "detectors",
    ]
    assert "organisms (1)" in out
    assert "sly  faker  desk  A model told" in out
    assert "length  text  floor  Scores" in out


def test_list_takes_one_kind_in_singular_or_plural(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill(tmp_path)
    assert _exit_code("list", "detector", "--plugins", tmp_path) == 0
    singular = capsys.readouterr().out
    assert _exit_code("list", "detectors", "--plugins", tmp_path) == 0
    assert singular == capsys.readouterr().out
    assert "sly" not in singular


def test_list_shows_a_broken_plugin_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill(tmp_path)
    broken = scaffold("detector", "broken", tmp_path)
    (broken / "detector.yaml").write_text("schema: 1\nkind: detector\nname: [\n")
    assert _exit_code("list", "--plugins", tmp_path) == 0
    out = capsys.readouterr().out
    assert "detectors (1)" in out
    assert "broken (1)" in out
    assert "detector.yaml line 4: not valid YAML" in out


def test_list_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fill(tmp_path)
    assert _exit_code("list", "--plugins", tmp_path, "--json") == 0
    listing = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in listing["organisms"]] == ["sly"]
    assert listing["detectors"][0]["tier"] == "text"
    assert listing["broken"] == []


def test_a_listing_without_plugins_is_empty_and_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _exit_code("list") == 0
    assert "detectors (0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["list", "detecter"], "unknown kind 'detecter'; did you mean 'detector'?"),
        (["show", "lenght"], "unknown plug-in 'lenght'; did you mean 'length'?"),
        (["new", "detectr", "x"], "did you mean 'detector'?"),
        (["new", "detector", "Bad Name"], "is not a name for a plug-in"),
        (["new", "detector", "length"], "exists already"),
        (["check-plugin", "nowhere"], "nowhere is not a folder"),
        (["list", "--plugins", "nowhere"], "does not exist"),
    ],
)
def test_an_expected_error_is_one_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    part: str,
) -> None:
    _fill(tmp_path)
    monkeypatch.setenv("AFBENCH_PLUGINS", str(tmp_path))
    assert _exit_code(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert part in captured.err


def test_two_plugins_of_one_name_are_reported_with_both_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        scaffold("detector", "same", tmp_path / folder)
    assert _exit_code("list", "--plugins", "a", "--plugins", "b") == 2
    error = capsys.readouterr().err
    assert str(Path("a", "same")) in error
    assert str(Path("b", "same")) in error


def test_show_prints_the_manifest_and_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill(tmp_path)
    assert _exit_code("show", "sly", "--plugins", tmp_path) == 0
    out = capsys.readouterr().out
    assert "source.type" in out
    assert "A prompted faker" in out
    assert _exit_code("show", "sly", "--plugins", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["schema"] == 1


def test_show_asks_for_the_kind_where_two_share_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scaffold("detector", "same", tmp_path / "a")
    scaffold("organism", "same", tmp_path / "b")
    given = ["show", "same", "--plugins", "a", "--plugins", "b"]
    assert _exit_code(*given) == 2
    assert "add --kind" in capsys.readouterr().err
    assert _exit_code(*given, "--kind", "detector") == 0
    assert "detector same" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["organism", "environment", "detector"])
def test_new_writes_a_folder_that_check_plugin_passes(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code("new", kind, "mine", "--into", "made") == 0
    assert "card.md" in capsys.readouterr().out
    assert _exit_code("check-plugin", Path("made", "mine")) == 0
    assert "FAILED" not in capsys.readouterr().out


def test_check_plugin_names_what_failed_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = scaffold("detector", "mine", tmp_path)
    (folder / "card.md").unlink()
    assert _exit_code("check-plugin", folder) == 1
    assert "FAILED  card" in capsys.readouterr().out
    assert _exit_code("check-plugin", folder, "--json") == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code("--version") == 0
    assert capsys.readouterr().out == f"afbench {__version__}\n"
