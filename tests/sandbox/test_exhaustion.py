"""What a hostile detector takes too much of: memory, time, processes, disk, output, protocol.

It is ended or refused, its error says why, and the fixture `box` sees the next one score as it
should.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from afbench.detection.guard import guarded
from afbench.errors import DetectorError
from afbench.sandbox.bubblewrap import Bubblewrap
from afbench.sandbox.host import SandboxedDetector, SandboxFactory, Session
from tests.sandbox.conftest import SMALL, cases_of, plugin_of

MIB = 1 << 20


def fitted(box: SandboxFactory, folder: Path, code: str, **manifest: Any) -> SandboxedDetector:
    detector = box(plugin_of(folder, code, **manifest))()
    detector.fit(*cases_of(folder))
    assert isinstance(detector, SandboxedDetector)
    return detector


def said(box: SandboxFactory, folder: Path, code: str, **manifest: Any) -> str:
    """The error that a detector's fit ends with."""
    with pytest.raises(DetectorError) as caught:
        fitted(box, folder, code, **manifest)
    return str(caught.value)


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "take",
    [
        "kept = bytearray(1 << 40)",
        "kept = np.ones(1 << 28)",
        "kept = []\nwhile True: kept.append(bytearray(1 << 24))",
        "import mmap\nkept = [mmap.mmap(-1, 1 << 26) for _ in range(1000)]",
    ],
)
def test_memory_ends_where_its_limit_is(box: SandboxFactory, tmp_path: Path, take: str) -> None:
    code = f"""
    import resource
    try:
{textwrap_indent(take, 8)}
    except (MemoryError, OSError) as error:
        kept = None
        self.found = {{"error": type(error).__name__,
                      "most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}}
    """
    chosen = fitted(box, tmp_path, code).explain()
    assert chosen["error"] in ("MemoryError", "_ArrayMemoryError", "OSError")
    assert isinstance(chosen["most"], int)
    assert chosen["most"] * 1024 < SMALL.memory + 1024 * MIB  # of the engine's pages, a few


def textwrap_indent(text: str, by: int) -> str:
    return "\n".join(" " * by + line for line in text.splitlines())


# -- processes and threads -------------------------------------------------------------------------

BOMB = """
import ctypes, subprocess, multiprocessing, threading, time
started = 0
try:
    while True:
        if os.fork() == 0:
            continue
        started += 1
except OSError as error:
    self.found["fork"] = f"{type(error).__name__} after {started}"
for name, call in (
    ("program", lambda: subprocess.run(["/usr/bin/true"])),
    ("spawned", lambda: os.posix_spawn("/usr/lib/x", ["x"], {})),
    ("pool", lambda: multiprocessing.get_context("fork").Process(target=print).start()),
    ("vfork", lambda: 1 / (ctypes.CDLL(None).syscall(58) + 1)),
):
    try:
        call()
        self.found[name] = "got"
    except BaseException as error:
        self.found[name] = type(error).__name__
try:
    for started in range(10_000):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    self.found["threads"] = 10_000
except RuntimeError:
    self.found["threads"] = started
"""


def test_a_fork_bomb_finds_no_fork_and_few_threads(box: SandboxFactory, tmp_path: Path) -> None:
    chosen = fitted(box, tmp_path, BOMB).explain()
    assert 0 < chosen.pop("threads") < SMALL.threads  # type: ignore[operator]
    assert chosen.pop("fork") == "PermissionError after 0"
    assert set(chosen) == {"program", "spawned", "pool", "vfork"}
    assert "got" not in chosen.values()


# -- disk ------------------------------------------------------------------------------------------

FILL = """
def fill(folder, names, size):
    count = written = 0
    try:
        for number in range(names):
            with open(f"{folder}/{number}", "wb") as file:
                count += 1
                for _ in range(size):
                    written += file.write(bytes(1 << 16))
    except OSError as error:
        return count, written, error.strerror
    return count, written, "nothing"
for folder in ("/tmp", "/dev/shm"):
    _, self.found[f"{folder} bytes"], self.found[f"{folder} ended"] = fill(folder, 8, 10_000)
    for name in os.listdir(folder):
        os.remove(f"{folder}/{name}")
    self.found[f"{folder} files"], _, _ = fill(folder, 100_000, 0)
"""


def test_the_disk_ends_where_its_limit_is(box: SandboxFactory, tmp_path: Path) -> None:
    free = os.statvfs("/tmp").f_bavail
    chosen = fitted(box, tmp_path, FILL).explain()
    for folder in ("/tmp", "/dev/shm"):
        assert chosen[f"{folder} ended"] in ("No space left on device", "File too large")
        assert chosen[f"{folder} bytes"] <= SMALL.tmp_bytes  # type: ignore[operator]
        assert 0 < chosen[f"{folder} files"] <= SMALL.tmp_files  # type: ignore[operator]
    assert os.statvfs("/tmp").f_bavail > free - (1 << 20)


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hang",
    [
        "import time\ntime.sleep(600)",
        "while True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",  # C that holds the interpreter's lock
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        "import signal\nos.kill(os.getpid(), signal.SIGSTOP)\nimport time\ntime.sleep(600)",
        "os.read(os.pipe()[0], 1)",
    ],
)
def test_what_hangs_is_ended(box: SandboxFactory, tmp_path: Path, hang: str) -> None:
    detector = box(plugin_of(tmp_path, hang, limits={"seconds": 1}))()
    cases, labels = cases_of(tmp_path)
    started = time.monotonic()
    with pytest.raises(DetectorError, match="detector 'it' did not end fit within 1 s"):
        guarded("it", "fit", 1, lambda: detector.fit(cases, labels))
    assert time.monotonic() - started < 60  # a busy machine is slow, and 600 s would be a hang
    with pytest.raises(DetectorError, match="it is void"):
        detector.score(cases)


def test_what_hangs_is_ended_without_a_timer_too(box: SandboxFactory, tmp_path: Path) -> None:
    """As off the main thread, where no signal interrupts."""
    assert said(box, tmp_path, "while True: pass", limits={"seconds": 0.5}) == (
        "it did not end fit within 0.5 s"
    )


def test_cpu_time_is_limited_by_itself(
    box: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detector whose wall-clock limit is generous, and that computes all the while."""
    monkeypatch.setattr(Session, "_cpu_seconds", lambda self: 1)
    assert said(box, tmp_path, "while True: pass") == "it used up its 1 s of CPU time"


def test_a_detector_that_crashes_says_how(box: SandboxFactory, tmp_path: Path) -> None:
    crash = "import ctypes\nprint('last \\x1b[31mwords', flush=True)\nctypes.string_at(0)"
    assert said(box, tmp_path, crash) == "its process crashed (SIGSEGV): last [31mwords"
    assert said(box, tmp_path, "os._exit(7)") == "its process ended with code 7"


# -- output and protocol ---------------------------------------------------------------------------

# A hostile detector has its process to itself: it finds the pipe to the host and writes to it.
PIPE = """
import gc, struct, json
from afbench.sandbox.child import Wire
from afbench.sandbox.protocol import Frame
wire = next(one for one in gc.get_objects() if isinstance(one, Wire))
def put(content):
    while content:
        content = content[os.write(wire._write, content):]
def header(**fields):
    text = json.dumps({"v": 1, "kind": "ask", "body": {}, "arrays": [], **fields}).encode()
    return struct.pack(">I", len(text)) + text
spent = header(body={"method": "spent", "handle": cases[0].handle._number})
"""


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("print('x' * 100_000)", "it printed more than 65536 bytes"),
        ("os.write(2, bytes(1 << 20))", "it printed more than 65536 bytes"),
        ("while True: os.write(1, b'x')", "it printed more than 65536 bytes"),
        (PIPE + "while True: put(spent)", "protocol: too many frames in one call"),
        (PIPE + "put(header(arrays=[['x', '|u1', [1 << 24], [0]]]))", "too many bytes"),
        (PIPE + "put(struct.pack('>I', 1 << 31))", "protocol: a header of 2147483648 bytes"),
        (PIPE + "put(b'\\0\\0\\0\\4null')", "protocol: a header that is none"),
        (PIPE + "put(os.urandom(1 << 20))", "protocol: "),
        (PIPE + "put(header(kind='exec'))", "protocol: 'exec', which is nothing to say"),
        (PIPE + "put(header(kind='answer'))", "protocol: 'answer', which is nothing to say"),
        (PIPE + "put(header()[:7]); os._exit(0)", "its process ended"),
        (PIPE + "put(header(body={'method': 'spent', 'handle': 1}))", "a handle that there is not"),
        (
            PIPE + "put(header(body={'method': '__init__', 'handle': 1}))",
            "protocol: a question that there is not",
        ),
        (
            PIPE + "wire.send(Frame('ask', {}, {'x': np.zeros(9 << 20, np.uint8)}))",
            "protocol: too many bytes in one call",
        ),
        ("cases[0].handle.generate([c.prompt for c in cases] * 99, max_new_tokens=3)", "2376 con"),
        (
            "for n in range(500): cases[0].handle.next_token_logprobs([c.prompt for c in cases])",
            "protocol: too many frames in one call",
        ),
    ],
)
def test_a_flood_and_what_is_malformed_end_it(
    box: SandboxFactory, tmp_path: Path, code: str, part: str
) -> None:
    with pytest.raises(Exception, match=part) as caught:
        fitted(box, tmp_path, code, limits={"seconds": 20}, tier="logprobs")
    assert str(caught.value).isprintable()


def test_a_detector_that_does_not_listen_is_ended(box: SandboxFactory, tmp_path: Path) -> None:
    """The host's write blocks on a full pipe, and not for ever."""
    code = (
        PIPE
        + """
ask = header(body={"method": "activations", "handle": cases[0].handle._number, "layers": None},
             arrays=[])
from afbench.sandbox.questions import question
frame = question("activations", cases[0].handle._number, [c.messages for c in cases] * 40)
wire.send(frame)
wire.send(frame)
__import__("time").sleep(600)
"""
    )
    # Larger than what a pipe holds.
    assert said(box, tmp_path, code, limits={"seconds": 2}) == "it did not end fit within 2 s"


def test_scores_that_it_forges_are_its_own(box: SandboxFactory, tmp_path: Path) -> None:
    """It may answer before it is asked: what comes out of step counts for nothing but itself."""
    code = PIPE + "put(header(kind='done') * 3)"
    detector = fitted(box, tmp_path, code)
    cases, _ = cases_of(tmp_path, seed=1)
    with pytest.raises(DetectorError, match="no 'scores' of type <f8"):
        detector.score(cases)


def test_an_explanation_cannot_reach_the_terminal(box: SandboxFactory, tmp_path: Path) -> None:
    code = "self.found = {'a\\x1b[2Jb': 'c\\r\\x07d', 'long': 'x' * 5000}"
    chosen = fitted(box, tmp_path, code).explain()
    assert chosen["a [2Jb"] == "c d"
    assert len(str(chosen["long"])) < 500


@pytest.mark.slow
def test_a_sandbox_that_is_gone_is_made_anew(view: Any, bubblewrap: None, tmp_path: Path) -> None:
    sandbox = Bubblewrap(view, replace(SMALL))
    factory = SandboxFactory(sandbox)
    try:
        make = factory(plugin_of(tmp_path, "pass"))
        detector = make()
        nursery = sandbox._nursery
        assert nursery is not None
        inside = psutil.Process(nursery._process.pid).children(recursive=True)
        assert len(inside) >= 3
        nursery._process.kill()
        _, alive = psutil.wait_procs(inside, timeout=60)
        assert not alive
        with pytest.raises(DetectorError, match="its process"):
            detector.fit(*cases_of(tmp_path))
        again = make()
        again.fit(*cases_of(tmp_path))
        assert np.isfinite(again.score(cases_of(tmp_path)[0])).all()
    finally:
        factory.close()
