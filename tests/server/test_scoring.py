"""A scoring process: what becomes of it is no harm to its worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from afbench.server.queue import Job
from afbench.server.scoring import (
    BlindScoring,
    ChildScorer,
    DiedError,
    RefusedError,
    Scoring,
)
from afbench.server.supervisor import Workers
from tests.leaderboard.boards import small
from tests.server.processes import until

SETTINGS = BlindScoring(
    Path("board"), "spring", Path("sealed"), Path("key"), (Path("data"),), Path("cache"),
    (Path("plugins"),), "auto", True,
)  # fmt: skip
JOB = Job(1, "0a", 1, "ada", "probing", "sha256:00", 1, 1)
START = """
import json, os, signal, sys, time
json.loads(sys.stdin.readline())
print("{}", flush=True)
"""


@contextmanager
def scoring(code: str) -> Iterator[Scoring]:
    scorer = ChildScorer(SETTINGS, [sys.executable, "-c", START + code])
    with scorer.begin(Path("bundle"), JOB) as found:
        yield found


def test_settings_travel_whole() -> None:
    assert BlindScoring.of_json(json.loads(json.dumps(SETTINGS.as_json()))) == SETTINGS


def test_an_answer_is_taken(tmp_path: Path) -> None:
    entry = small(tmp_path).verified()
    path = tmp_path / "reply.json"
    path.write_text(json.dumps({"entry": entry.content(), "best": 0.7}))
    code = f"""
for line in sys.stdin:
    asked = json.loads(line)
    if asked["do"] == "measure":
        print("{{}}", flush=True)
    else:
        assert asked["best"] == 0.6
        print(open({str(path)!r}).read(), flush=True)
"""
    with scoring(code) as found:
        found.measure()
        done = found.release(0.6)
    assert done.entry == entry and done.best == 0.7


def test_a_refusal_and_a_fault_are_told_apart() -> None:
    said = {"measure": {"refused": "no score", "fix": "mend it"}, "release": {"failed": "no disk"}}
    code = f"""
for line in sys.stdin:
    print(json.dumps({said!r}[json.loads(line)["do"]]), flush=True)
"""
    with scoring(code) as found:
        with pytest.raises(RefusedError, match="no score") as refused:
            found.measure()
        assert refused.value.fix == "mend it"
        with pytest.raises(DiedError, match="no disk"):
            found.release(None)


@pytest.mark.parametrize(
    ("code", "match"),
    [("os._exit(7)", "ended with 7"), ("os.kill(os.getpid(), signal.SIGKILL)", "ended with -9"),
     ("raise MemoryError", "ended with 1"), ("print('nonsense', flush=True)", "something else"),
     ("os.close(1); time.sleep(0.2)", "ended with 0")],
)  # fmt: skip
def test_a_process_that_dies_is_an_error_and_nothing_more(code: str, match: str) -> None:
    with scoring(f"sys.stdin.readline()\n{code}") as found, pytest.raises(DiedError, match=match):
        found.measure()


def test_a_process_that_hangs_is_stopped() -> None:
    started = time.monotonic()
    with scoring("time.sleep(600)") as found:
        threading.Timer(0.3, found.stop).start()
        with pytest.raises(DiedError, match="ended with -15"):
            found.measure()
    assert time.monotonic() - started < 60


def test_a_process_is_not_told_the_secrets_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFBENCH_DATABASE", "postgresql://u:hidden@h/d")
    monkeypatch.setenv("AFBENCH_TOKEN", "afb_hidden")
    code = """
sys.stdin.readline()
print(json.dumps({"failed": str([v for v in os.environ.values() if "hidden" in v])}), flush=True)
"""
    with scoring(code) as found, pytest.raises(DiedError, match=r"^\[\]$"):
        found.measure()


def test_a_process_ends_with_its_worker() -> None:
    """The real one: its standard input ends when the worker is gone, however that went."""
    process = subprocess.Popen(
        [sys.executable, "-m", "afbench.server.child"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    print(json.dumps({**SETTINGS.as_json(), "bundle": "x", "account": "ada"}), file=process.stdin,
          flush=True)  # fmt: skip
    assert process.stdout.readline() == "{}\n"
    process.stdin.close()
    assert process.wait(60) == 143
    process.stdout.close()


# -- workers beside a server ----------------------------------------------------------------------


def test_a_worker_that_dies_is_started_again_and_all_end_with_the_server(tmp_path: Path) -> None:
    code = f"""
import os, sys
open({str(tmp_path)!r} + "/" + str(os.getpid()), "w").close()
sys.stdin.read()
"""

    def seen() -> set[int]:
        return {int(path.name) for path in tmp_path.iterdir()}

    with Workers([sys.executable, "-c", code], 2):
        first = until(lambda: len(seen()) == 2 and seen(), 60)
        os.kill(min(first), 9)
        every = until(lambda: len(seen()) == 3 and seen(), 60)
    for pid in every:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
