"""A private PostgreSQL for tests, from the system's packages, on a free port of this machine."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg


class Absent(Exception):
    """There is no PostgreSQL on this machine."""


@dataclass
class Postgres:
    """A server, which can be stopped for a while."""

    port: int
    place: Path
    binaries: Path
    owner: pwd.struct_passwd | None
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It does not answer for a while."""
        self.stop()
        yield
        self.start()

    def start(self) -> None:
        options = ["-h", "127.0.0.1", "-p", self.port, "-k", self.place]
        command = [self.binaries / "postgres", "-D", self.place / "data", *options]
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(one) for one in [*command, "-c", "max_connections=200", "-c", "fsync=off"]],
                stdout=log, stderr=log, cwd=self.place, **_as(self.owner),
            )  # fmt: skip
        _wait(self.process, self.url(), self.place / "log")

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)  # "fast": connections are closed
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server of our own, gone afterwards.

    Raises:
        Absent: its programs are not installed.
    """
    place = Path(tempfile.mkdtemp(prefix="afbench-postgres-"))
    try:
        own = Postgres(free_port(), place, _binaries(), _owner())
        if own.owner is not None:
            os.chown(place, own.owner.pw_uid, own.owner.pw_gid)
        initdb = [own.binaries / "initdb", "-D", place / "data", "-U", "tests", "--auth=trust"]
        done = subprocess.run(
            [str(one) for one in [*initdb, "--no-sync"]], capture_output=True, text=True,
            cwd="/", **_as(own.owner),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        try:
            own.start()
            yield own
        finally:
            own.stop()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        raise Absent("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return (found[-1] if found else Path(str(on_path))).parent


def _owner() -> pwd.struct_passwd | None:
    """Whom it runs as where this is root, as whom it refuses to run."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Absent("PostgreSQL does not run as root, and there is no other user here")


def _as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    if owner is None:
        return {}
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _wait(process: subprocess.Popen[bytes], url: str, said: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, said.read_text()
        try:
            with psycopg.connect(url):
                return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError(said.read_text())
