from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import afbench
from afbench.cli.app import COMMANDS, main
from afbench.errors import AfbenchError

_HEAVY = (
    "torch", "numpy", "sklearn", "scipy", "transformers", "peft", "safetensors", "altair",
    "vl_convert", "pandas", "anthropic", "httpx",
)  # fmt: skip


def _run(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(afbench.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("arguments", [None, ["list"], ["--version"], ["--help"]])
def test_no_heavy_library_is_imported_to_list_or_help(arguments: list[str] | None) -> None:
    code = (
        "import sys, afbench.cli.app as app\n"
        "try:\n"
        f"    {arguments!r} is None or app.main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"heavy = [name for name in {_HEAVY!r} if name in sys.modules]\n"
        "print('HEAVY', heavy)\n"
    )
    assert _run(code).splitlines()[-1] == "HEAVY []"


def _with_failure(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("afbench.catalog.discovery.discover", fail)
    with pytest.raises(SystemExit) as end:
        main(["list", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_an_expected_error_has_no_traceback_without_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = AfbenchError("it broke", where="here", fix="mend it")
    assert _with_failure(monkeypatch, error) == 2
    assert capsys.readouterr().err == "error: it broke (here); mend it\n"
    assert _with_failure(monkeypatch, error, "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_that_names_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _with_failure(monkeypatch, ValueError("two\nlines")) == 1
    error = capsys.readouterr().err
    assert error == "unexpected error: ValueError: two lines; add --debug for the traceback\n"
    assert _with_failure(monkeypatch, ValueError("x"), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_says_how_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _with_failure(monkeypatch, KeyboardInterrupt(), "--plugins", "a folder") == 130
    error = capsys.readouterr().err
    assert "to resume, run `afbench list --plugins 'a folder'` again" in error


def test_wrong_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["list", "--no-such-option"])
    assert end.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err


def test_a_misspelt_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["chek-plugin"])
    assert end.value.code == 2
    assert "'check-plugin'" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert f" {name} " in out
