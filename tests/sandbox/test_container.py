"""The command line of a container, run by a `docker` that is none: it carries out its tail here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from afbench.catalog.discovery import discover
from afbench.detection.loading import detector_factory
from afbench.errors import DetectorError, SandboxError
from afbench.sandbox.choose import choose
from afbench.sandbox.container import IMAGE_VARIABLE, Container
from afbench.sandbox.host import SandboxFactory
from tests.sandbox.conftest import SMALL, cases_of, plugin_of, scored

FAKE = """#!{python}
import json, os, sys
from pathlib import Path
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    print(json.dumps(arguments), file=log)
if arguments[0] == "run":
    image = arguments.index("the-image")
    source, inside, mode = arguments[arguments.index("--volume") + 1].split(":")
    assert mode == "ro"
    tail = [source if one == inside else one for one in arguments[image + 1:]]
    own = dict(one.split("=", 1) for flag, one in zip(arguments, arguments[1:]) if flag == "--env")
    os.execve({python!r}, [{python!r}, *tail], own)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `docker` was called with, a line each."""
    folder = tmp_path / "bin"
    folder.mkdir()
    found = tmp_path / "log"
    (folder / "docker").write_text(FAKE.format(python=sys.executable, log=str(found)))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv(IMAGE_VARIABLE, "the-image")
    return found


def test_the_container_has_no_network_no_privileges_and_limits(log: Path) -> None:
    container = Container(SMALL)
    command = container.command("a-name", Path("/copies/0"))
    container.close()
    joined = " ".join(command)
    for part in (
        "--network none", "--read-only", "--cap-drop ALL", "--security-opt no-new-privileges",
        "--user 65534:65534", "--pids-limit 6", f"--memory {SMALL.memory + (1 << 30)}",
        "--volume /copies/0:/detector:ro", "--pull never", "--ipc none",
        "size=4194304,nr_inodes=64", "--ulimit nofile=256:256", "--rm", "--interactive",
    ):  # fmt: skip
        assert part in joined
    assert "--privileged" not in joined
    assert command[command.index("the-image") + 1 :] == [
        "-I", "-B", "-m", "afbench.sandbox.child", "serve", "/detector",
    ]  # fmt: skip


def test_it_is_chosen_where_its_image_is_there(log: Path) -> None:
    found = choose("container")
    assert found is not None
    assert found.kind == "container"
    assert log.read_text() == ('["image", "inspect", "--format", "{{.Id}}", "the-image"]\n')


@pytest.mark.slow
def test_scores_are_those_of_a_run_in_process(log: Path, tmp_path: Path) -> None:
    plugin = discover().get("detector", "prompt-probe")
    factory = SandboxFactory(Container(SMALL))
    try:
        here = scored(detector_factory(plugin), plugin, tmp_path / "here")
        there = scored(factory(plugin), plugin, tmp_path / "there")
        hangs = factory(plugin_of(tmp_path, "while True: pass", limits={"seconds": 1}))()
        with pytest.raises(DetectorError, match="did not end fit within 1 s"):
            hangs.fit(*cases_of(tmp_path))
    finally:
        factory.close()
    assert here[0] == there[0]
    np.testing.assert_array_equal(here[1], there[1])
    started = [line for line in log.read_text().splitlines() if line.startswith('["run"')]
    killed = [line for line in log.read_text().splitlines() if line.startswith('["kill"')]
    assert len(started) == len(killed) == 4


def test_an_image_with_another_afbench_is_refused(log: Path, tmp_path: Path) -> None:
    hello = b'{"v": 1, "kind": "hello", "body": {"afbench": "0.0.1"}, "arrays": []}'
    (tmp_path / "hello").write_bytes(len(hello).to_bytes(4, "big") + hello)
    script = f"#!/bin/sh\nexec cat {tmp_path}/hello"
    (log.parent / "bin" / "docker").write_text(script)
    factory = SandboxFactory(Container(SMALL))
    try:
        with pytest.raises(SandboxError, match=r"the sandbox has afbench 0\.0\.1, and this is"):
            factory(plugin_of(tmp_path, "pass"))
    finally:
        factory.close()


def test_a_container_that_does_not_start_says_why(log: Path, tmp_path: Path) -> None:
    (log.parent / "bin" / "docker").write_text(
        "#!/bin/sh\necho 'daemon is not running' >&2; exit 1"
    )
    factory = SandboxFactory(Container(SMALL))
    try:
        with pytest.raises(SandboxError, match="does not start: daemon is not running"):
            factory(plugin_of(tmp_path, "pass"))
    finally:
        factory.close()
