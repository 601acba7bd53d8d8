"""What every way of isolation gives the host: a process that serves one detector."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from afbench.errors import DetectorError
from afbench.sandbox.channel import Channel, widened
from afbench.sandbox.limits import GIB, Limits
from afbench.sandbox.protocol import plain
from afbench.store import digest_of

_MAX_FOLDER: Final = GIB
_MAX_FILES: Final = 10_000
_PATIENCE: Final = 10.0
_TRIAL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended.

    Attributes:
        signal: that killed it; None where none did.
        code: its exit code.
        cpu: seconds that it computed, over all threads.
    """

    signal: int | None = None
    code: int | None = None
    cpu: float = 0.0

    def told(self, cpu_seconds: int) -> str:
        """In words.

        Args:
            cpu_seconds: the limit.
        """
        if self.signal is None:
            return "its process ended" + (f" with code {self.code}" if self.code else "")
        if self.signal == signal.SIGKILL:
            if self.cpu >= cpu_seconds - 1:
                return f"it used up its {cpu_seconds} s of CPU time"
            return "its process was killed, as for lack of memory"
        with suppress(ValueError):
            return f"its process crashed ({signal.Signals(self.signal).name})"
        return f"its process crashed (signal {self.signal})"


class Process(Protocol):
    """A process that waits to be told which detector it serves."""

    @property
    def channel(self) -> Channel: ...

    def end(self, *, ask: bool) -> Ending:
        """Kill it and all that it may have started; a second time does nothing.

        Args:
            ask: find out how it ended, where it ended by itself.
        """
        ...


class Sandbox(Protocol):
    """A way to isolate detectors, for one run."""

    @property
    def kind(self) -> str: ...

    @property
    def limits(self) -> Limits: ...

    def start(self) -> None:
        """Begin what takes time; returns at once."""
        ...

    def open(self, folder: Path) -> tuple[Process, str]:
        """A process for the detector of a folder, and what the detector is called in there.

        Raises:
            SandboxError: none can be started.
            DetectorError: the folder is not one to be run.
        """
        ...

    def prepare(self) -> None:
        """A detector trains networks: processes to come may be made ready for it."""
        ...

    def close(self) -> None:
        """End everything."""
        ...


def tried(command: Sequence[str], silent: str, failed: str, **options: Any) -> str | None:
    """Why a program cannot be used, found by running it; None if it can.

    Args:
        silent: how it is said that it does not start or answer.
        failed: how it is said that it ended with an error, whose last line follows.
        options: of `subprocess.run`.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TRIAL_SECONDS, **options
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{silent}: {error}"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return f"{failed}: {plain(lines[-1]) if lines else done.returncode}"


class Snapshots:
    """Copies of detectors' folders that a user without rights can read, and that do not change.

    Attributes:
        root: holds one folder for each, by number.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="afbench-detectors-"))
        self.root.chmod(0o755)
        self._numbers: dict[tuple[Path, str], str] = {}
        self._next = itertools.count()
        self.close = weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)

    def of(self, folder: Path) -> str:
        """The number of a folder's copy.

        Raises:
            DetectorError: it holds a link or a device, or is too large.
        """
        place = folder.resolve()
        key = place, _state_of(place)  # one that changed is another one
        if key not in self._numbers:
            number = str(next(self._next))
            _copy(place, self.root / number)
            self._numbers[key] = number
        return self._numbers[key]


class Piped:
    """A process of its own for each instance, over standard input and output.

    Args:
        command: starts it.
        environment: of the command; nothing of the host's goes in by itself.
        kill: a further command that ends it, where killing `command` does not.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits,
        environment: dict[str, str] | None = None,
        kill: Sequence[str] = (),
    ) -> None:
        self._kill, self._environment = list(kill), environment or {}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        pipes = (self._process.stdout, self._process.stdin, self._process.stderr)
        read, write, errors = (os.dup(pipe.fileno()) for pipe in pipes)
        for pipe in pipes:
            pipe.close()
        for descriptor in (read, write):
            widened(descriptor)
        self.channel = Channel(read, write, errors, limits)
        self._ending: Ending | None = None

    def end(self, *, ask: bool) -> Ending:
        """As `Process.end`."""
        if self._ending is None:
            if ask:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(1.0)
            code = self._process.poll()
            # First what takes long: it goes on where a time limit interrupts what follows.
            killer = self._started(self._kill) if self._kill else None
            self._process.kill()
            self.channel.close()
            self._ending = _ending_of(code)
            self._process.wait()
            if killer is not None:
                with suppress(subprocess.TimeoutExpired):
                    killer.wait(_PATIENCE)
        return self._ending

    def _started(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(
            command,
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
            env=self._environment,
            start_new_session=True,
        )


def _ending_of(code: int | None) -> Ending:
    if code is not None and code < 0:
        return Ending(signal=-code)
    if code is not None and code > 128:  # as a shell says it
        return Ending(signal=code - 128)
    return Ending(code=code)


def _contents(folder: Path) -> Iterator[tuple[Path, Path, os.stat_result]]:
    """What of a detector's folder it may need: each path, from the folder on, and what it is."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not any(part.startswith((".", "__pycache__")) for part in relative.parts):
            yield path, relative, path.lstat()


def _state_of(folder: Path) -> str:
    return digest_of(
        [
            [str(relative), found.st_size, found.st_mtime_ns]
            for _, relative, found in _contents(folder)
        ]
    )


def _copy(folder: Path, target: Path) -> None:
    """Copy a detector's folder without what it does not need, readable for all."""
    size = count = 0
    target.mkdir(mode=0o755)
    for path, relative, found in _contents(folder):
        mode = found.st_mode
        if stat.S_ISDIR(mode):
            (target / relative).mkdir(mode=0o755)
            continue
        if not stat.S_ISREG(mode):
            raise DetectorError(
                f"a detector's folder holds files and folders alone, and '{plain(relative)}' is "
                "neither",
                where=str(folder),
                fix="put the file itself there",
            )
        size, count = size + found.st_size, count + 1
        if size > _MAX_FOLDER or count > _MAX_FILES:
            raise DetectorError(
                f"a detector's folder holds at most {_MAX_FILES} files and {_MAX_FOLDER} bytes",
                where=str(folder),
            )
        shutil.copyfile(path, target / relative, follow_symlinks=False)
        (target / relative).chmod(0o644)
