"""Isolation by a container: docker or podman, with an image that has afbench installed.

Each instance of a detector gets a container of its own, which costs it the import of the engine.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from afbench import __version__
from afbench.sandbox.limits import Limits
from afbench.sandbox.processes import Piped, Process, Snapshots, tried
from afbench.sandbox.view import environment

PROGRAMS: Final = ("docker", "podman")
IMAGE_VARIABLE: Final = "AFBENCH_SANDBOX_IMAGE"
_DETECTOR: Final = "/detector"
_NOBODY: Final = "65534:65534"
# What the engine takes before a detector is loaded.
_ENGINE_BYTES: Final = 1 << 30
# Of the host's environment, what a client needs to find its server and its files.
_CLIENT: Final = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR")


def program() -> str | None:
    """Where docker or podman is, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def image() -> str:
    """The image that detectors are run in."""
    return os.environ.get(IMAGE_VARIABLE) or f"afbench-sandbox:{__version__}"


class Container:
    """Runs detectors in containers.

    Args:
        limits: of each detector.
    """

    kind: Final = "container"

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._snapshots = Snapshots()

    def problem(self) -> str | None:
        """Why it does not work here, found by asking; None where it does."""
        found = program()
        if found is None:
            return "neither docker nor podman is installed"
        command = [found, "image", "inspect", "--format", "{{.Id}}", image()]
        return tried(command, f"{found} does not answer", f"no image '{image()}'")

    def start(self) -> None:
        """As `Sandbox.start`; there is nothing to be prepared."""

    def open(self, folder: Path) -> tuple[Process, str]:
        """As `Sandbox.open`."""
        number = self._snapshots.of(folder)
        name = f"afbench-{secrets.token_hex(8)}"
        client = {one: os.environ[one] for one in _CLIENT if one in os.environ}
        command = self.command(name, self._snapshots.root / number)
        return Piped(command, self.limits, client, [command[0], "kill", name]), number

    def prepare(self) -> None:
        """As `Sandbox.prepare`; there is nothing to be prepared."""

    def close(self) -> None:
        """As `Sandbox.close`."""
        self._snapshots.close()

    def command(self, name: str, folder: Path) -> list[str]:
        """The command line of one instance.

        Args:
            name: of the container.
            folder: the copy of the detector's.
        """
        limits, found = self.limits, program() or PROGRAMS[0]
        memory = str(limits.memory + _ENGINE_BYTES)
        tmp = f"rw,noexec,nosuid,nodev,size={limits.tmp_bytes},nr_inodes={limits.tmp_files}"
        settings = [part for one in environment().items() for part in ("--env", "=".join(one))]
        return [
            found, "run", "--rm", "--interactive", "--name", name, "--network", "none",
            "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
            "--user", _NOBODY, "--ipc", "none", "--pids-limit", str(limits.threads),
            "--memory", memory, "--memory-swap", memory,
            "--ulimit", f"nofile={limits.open_files}:{limits.open_files}", "--ulimit", "core=0:0",
            "--ulimit", f"fsize={limits.tmp_bytes}:{limits.tmp_bytes}",
            "--tmpfs", f"/tmp:{tmp}", "--volume", f"{folder}:{_DETECTOR}:ro", *settings,
            "--workdir", "/", "--pull", "never", "--entrypoint", "python", image(),
            "-I", "-B", "-m", "afbench.sandbox.child", "serve", _DETECTOR,
        ]  # fmt: skip
