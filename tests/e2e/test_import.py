"""A user's copy of a release, imported by the command line and then used like any plug-in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.importers.poser_like import write, write_release

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def afbench(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "afbench.cli.app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=600)


def test_a_release_becomes_an_environment_that_is_checked_listed_and_shown(tmp_path: Path) -> None:
    write_release(tmp_path / "POSER")
    done = afbench("import", "poser", "POSER", "--into", "mine", "--limit", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote mine/poser: 10 fit and 24 test scenarios" in done.stdout
    assert "beyond the limit of 10" in done.stdout
    following = done.stdout.rpartition("check it with: afbench ")[2].split()
    checked = afbench(*following, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "FAILED" not in checked.stdout
    listed = afbench("list", "environments", "--plugins", "mine", "--json", cwd=tmp_path)
    names = [environment["name"] for environment in json.loads(listed.stdout)["environments"]]
    assert "poser" in names
    shown = afbench("show", "poser", "--plugins", "mine", cwd=tmp_path)
    assert "no licence was found" in " ".join(shown.stdout.lower().split())


def test_json_is_the_report_that_the_folder_holds(tmp_path: Path) -> None:
    write_release(tmp_path / "POSER")
    write(tmp_path / "POSER/data/benchmark/odd_and_even.json", {"no": "list"})
    arguments = ("import", "poser", "POSER", "--name", "my-poser", "--json")
    done = afbench(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed.pop("folder") == "my-poser"
    assert printed == json.loads((tmp_path / "my-poser/import.json").read_text("utf-8"))
    again = afbench(*arguments, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == (
        "error: my-poser exists already; choose another --name, or add --force\n"
    )
    assert afbench(*arguments, "--force", cwd=tmp_path).stdout == done.stdout


@pytest.mark.parametrize("folder", ["none", "."])
def test_a_folder_that_is_no_release_is_one_line_and_exit_code_2(
    tmp_path: Path, folder: str
) -> None:
    done = afbench("import", "poser", folder, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "expected data/benchmark/*.json" in done.stderr
    assert not list(tmp_path.iterdir())


def test_import_is_a_group_whose_help_names_what_can_be_imported(tmp_path: Path) -> None:
    done = afbench("import", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "poser" in done.stdout
    assert afbench("import", "posr", cwd=tmp_path).returncode == 2
