"""Which isolation is used: what works, or a refusal that says why nothing does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afbench.cli.options import SANDBOXES, isolation_of, with_sandbox_kind
from afbench.errors import AfbenchError, SandboxError, UnknownNameError
from afbench.sandbox.choose import KINDS, choose
from afbench.sandbox.view import View

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no program is found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_bubblewrap_is_used_where_it_works(bubblewrap: None) -> None:
    found = choose()
    assert found is not None
    assert found.kind == "bubblewrap"


def test_without_any_isolation_a_run_is_refused_with_the_reasons(nothing_installed: Path) -> None:
    with pytest.raises(SandboxError) as caught:
        choose()
    assert str(caught.value) == (
        "nothing here isolates a stranger's code: bubblewrap (bwrap) is not installed; neither "
        "docker nor podman is installed; install bubblewrap (Linux: apt-get install bubblewrap) or "
        "docker, or add --trust to run it unprotected"
    )
    assert choose(trust=True) is None


def test_what_is_installed_and_does_not_work_is_passed_over(nothing_installed: Path) -> None:
    program(
        nothing_installed, "bwrap", "echo 'bwrap: no permissions to make namespaces' >&2; exit 1"
    )
    with pytest.raises(SandboxError, match="bubblewrap does not work: bwrap: no permissions"):
        choose()
    program(nothing_installed, "podman", "echo 'Error: no such image' >&2; exit 125")
    with pytest.raises(SandboxError, match="no image 'afbench-sandbox:.*: Error: no such image"):
        choose()
    program(nothing_installed, "podman", "exit 0")
    found = choose()
    assert found is not None
    assert found.kind == "container"


def test_the_kind_that_is_asked_for_is_the_only_one_tried(nothing_installed: Path) -> None:
    with pytest.raises(SandboxError, match="neither docker nor podman is installed; install"):
        choose("container")
    with pytest.raises(UnknownNameError, match="unknown sandbox 'bublewrap'"):
        choose("bublewrap")


def test_the_option_may_stand_without_a_value() -> None:
    assert SANDBOXES == KINDS
    given = ["run", "-d", "x", "--sandbox", "--json"]
    assert with_sandbox_kind(given) == ["run", "-d", "x", "--sandbox=auto", "--json"]
    assert with_sandbox_kind(["run", "--sandbox"]) == ["run", "--sandbox=auto"]
    given = ["run", "--sandbox", "container"]
    assert with_sandbox_kind(given) == given


def test_trust_needs_something_to_trust() -> None:
    assert isolation_of(None, False) is None
    with pytest.raises(AfbenchError, match="there is nothing to trust"):
        isolation_of(None, True)


def test_a_catalog_inside_of_what_is_shown_is_covered(tmp_path: Path) -> None:
    import sklearn

    secret = Path(sklearn.__file__).parent / "datasets"  # stands for plug-ins of a wheel
    view = View.of_this_machine([secret, secret / "data", tmp_path])
    assert view.covered == (secret,)


def test_a_secret_around_of_what_is_shown_is_refused() -> None:
    with pytest.raises(SandboxError, match="holds organisms or the cache, and"):
        View.of_this_machine([Path(os.__file__).parent.parent])


def test_the_checkout_is_not_shown_but_for_the_engine() -> None:
    view = View.of_this_machine()
    environment = Path(sys.prefix)  # may be a folder of the checkout
    shown = [path for path in view.shown if not path.is_relative_to(environment)]
    assert [path for path in shown if path.is_relative_to(ROOT)] in (
        [ROOT / "afbench"],
        [],  # installed from a wheel
    )


ORDINARY = """
import os, sys
os.setgroups([]); os.setresgid(54321, 54321, 54321); os.setresuid(54321, 54321, 54321)
sys.path[:0] = {path!r}
from pathlib import Path
import numpy as np
from tests.sandbox.conftest import SMALL, cases_of, plugin_of
from afbench.sandbox.bubblewrap import Bubblewrap
from afbench.sandbox.host import SandboxFactory
from afbench.sandbox.view import View
folder = Path("/tmp/own")
folder.mkdir()
sandbox = Bubblewrap(View.of_this_machine(), SMALL)
assert sandbox.problem() is None, sandbox.problem()
assert "--unshare-user" in sandbox.arguments()
factory = SandboxFactory(sandbox)
code = '''
self.found = {{"user": os.getuid()}}
try:
    os.fork()
except OSError as error:
    self.found["fork"] = error.strerror
'''
detector = factory(plugin_of(folder, code))()
detector.fit(*cases_of(folder))
print(detector.explain(), sandbox._forks)
factory.close()
"""


@pytest.mark.slow
def test_an_ordinary_user_can_isolate_too(view: View, bubblewrap: None) -> None:
    """As a user who owns nothing. Folders of root's that Python lies in are opened for it."""
    if os.geteuid() != 0:
        return  # it is an ordinary user who runs all of these tests
    closed = [path for path in view.above if path.stat().st_mode & 0o005 != 0o005]
    arguments = ["bwrap", "--dev-bind", "/", "/", "--cap-add", "ALL", "--die-with-parent"]
    for folder in closed[:1]:
        arguments += ["--perms", "0755", "--tmpfs", str(folder)]
        for path in view.above:
            if path.is_relative_to(folder) and path != folder:
                arguments += ["--perms", "0755", "--dir", str(path)]
        for path in view.shown:
            if path.is_relative_to(folder):
                arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--perms", "1777", "--tmpfs", "/tmp", "--", view.command[0], "-I", "-S", "-c"]
    script = ORDINARY.format(path=[str(ROOT), *json.loads(view.command[-1])])
    done = subprocess.run(
        [*arguments, script], capture_output=True, text=True, cwd="/", timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'user': 65534, 'fork': 'Operation not permitted'} True\n"
