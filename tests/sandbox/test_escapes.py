"""What a hostile detector tries, and does not get: labels, files, sockets, keys, other instances.

Every detector here reports what it found by `explain`. The fixture `box` then looks at whether the
next submission scores as it should.
"""

from __future__ import annotations

import os
import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.sandbox.bubblewrap import Bubblewrap
from afbench.sandbox.host import SandboxFactory
from afbench.sandbox.view import View
from tests.results.fake_run import FOLD, FakeRun
from tests.sandbox.conftest import SECRET, SMALL, cases_of, plugin_of

ROOT = Path(__file__).parents[2]
TRY = '''
def tried(call):
    """"got" and what came, or the kind of the error."""
    try:
        return f"got {call()!r}"[:300]
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
'''


def found(box: SandboxFactory, folder: Path, code: str, **manifest: Any) -> dict[str, Any]:
    """What a detector says of its attempts, after its fit."""
    body = textwrap.dedent(TRY) + textwrap.dedent(code)
    detector = box(plugin_of(folder, body, **manifest))()
    detector.fit(*cases_of(folder))
    return detector.explain()


def nothing_got(attempts: dict[str, Any]) -> None:
    assert attempts
    assert not [f"{name}: {said}" for name, said in attempts.items() if str(said).startswith("got")]


# -- files and memory ------------------------------------------------------------------------------


def test_the_hosts_files_are_not_there(box: SandboxFactory, tmp_path: Path) -> None:
    secret = tmp_path / "labels.json"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    places = [
        str(secret), str(ROOT / "organisms"), str(ROOT / "environments"), str(ROOT / "leaderboard"),
        str(ROOT / "README.md"), str(ROOT / ".git"), str(tmp_path), str(tmp_path / "cache"),
        str(Path.home()), "/root/.ssh", "/etc/passwd", "/etc/shadow", "/home", "/var", "/sys",
        "/run", "/proc/1", "/proc/self/environ", "/proc/self/mem", "/proc/kcore", "/dev/mem",
        "/dev/sda", "/detectors/0",
    ]  # fmt: skip
    code = f"""
    for place in {places!r}:
        self.found[place] = tried(
            lambda: (os.listdir(place) or 1 / 0) if os.path.isdir(place) else open(place).read(9)
        )
    """
    attempts = found(box, tmp_path, code)
    # Folders that something else of the sandbox lies in are there; of theirs there is nothing.
    above = {str(path) for path in View.of_this_machine().above}
    nothing_got({place: said for place, said in attempts.items() if place not in above})


def test_nothing_below_the_root_is_a_catalog_or_a_cache(
    box: SandboxFactory, tmp_path: Path
) -> None:
    code = """
    names = []
    for folder, folders, files in os.walk("/"):
        if folder.startswith(("/usr/lib", "/root/.pyenv", "/nix")) or "site-packages" in folder:
            folders[:] = []
            continue
        names += [os.path.join(folder, name) for name in files]
    engine = [name for name in names if "/afbench/" in name]
    self.found = {
        "engine": len(engine),
        "telling": " ".join(
            name for name in names
            if name.endswith(("organism.yaml", "scenarios.jsonl", ".safetensors", "labels.json"))
        ),
        "catalogs": " ".join(name for name in names if "/_catalog/" in name),
    }
    """
    said = found(box, tmp_path, code)
    assert said["engine"] > 100
    assert (said["telling"], said["catalogs"]) == ("", "")


def test_memory_of_the_host_and_of_its_other_processes_is_out_of_reach(
    box: SandboxFactory, tmp_path: Path
) -> None:
    code = f"""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    def called(name, *given):
        if getattr(libc, name)(*given) == -1:
            raise OSError(ctypes.get_errno(), name)
        return name
    class Part(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))
    buffer = ctypes.create_string_buffer(64)
    local = Part(ctypes.addressof(buffer), 64)
    for pid in (1, 2, os.getppid(), {os.getpid()}, {os.getppid()}):
        self.found[f"proc {{pid}}"] = tried(lambda: open(f"/proc/{{pid}}/mem", "rb").read(1))
        self.found[f"environ {{pid}}"] = tried(lambda: open(f"/proc/{{pid}}/environ").read())
        self.found[f"attach {{pid}}"] = tried(lambda: called("ptrace", 16, pid, 0, 0))
        self.found[f"read {{pid}}"] = tried(
            lambda: called("process_vm_readv", pid, *[ctypes.byref(local), 1] * 2, 0)
        )
        # Not its own group, nor itself, of which a number of one of its threads is another name.
        if pid and libc.tgkill(os.getpid(), pid, 0):
            self.found[f"signal {{pid}}"] = tried(lambda: os.kill(pid, 0))
    """
    nothing_got(found(box, tmp_path, code))


def test_labels_of_the_cases_to_be_scored_are_in_no_object(
    box: SandboxFactory, tmp_path: Path
) -> None:
    code = """
    def look(cases):
        import gc
        seen = [one for one in gc.get_objects() if isinstance(one, np.ndarray)]
        alike = [one for one in seen if one.dtype == bool and one.shape == (len(cases),)]
        telling = [one for one in alike if one.any() and not one.all()]
        handle = cases[0].handle
        self.found = {
            "arrays": len(telling), "spent": handle.spent.queries,
            "kept": " ".join(sorted(name for name in dir(handle) if name[0] == "_" != name[1])),
            "asker": hasattr(handle, "_ask"),
        }
        return np.zeros(len(cases))
    self.score = look
    del labels
    """
    detector = box(plugin_of(tmp_path, code))()
    cases, labels = cases_of(tmp_path)
    detector.fit(cases[:20], labels[:20])
    detector.score(cases)
    said = detector.explain()
    assert said["arrays"] == 0
    assert not said["asker"]


def test_environment_variables_and_keys_stay_outside(box: SandboxFactory, tmp_path: Path) -> None:
    code = f"""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    self.found = {{
        "variables": " ".join(sorted(os.environ)),
        "secret": {SECRET!r} in str(dict(os.environ)),
        "argv": " ".join(__import__("sys").argv),
        "keys": libc.syscall(250, 11, -4, 0, 0, 0),
        "add": libc.syscall(248, b"user", b"x", b"y", 1, -4),
    }}
    """
    said = found(box, tmp_path, code)
    # The last is torch's own: set by its import in there.
    allowed = {"GLIBC_TUNABLES", "HOME", "TMPDIR", "LANG", "HF_HUB_OFFLINE", "PWD", "LC_CTYPE"}
    allowed.add("TORCHINDUCTOR_CACHE_DIR")
    # What the number of threads depends on, and what libraries set themselves.
    numeric = {
        name
        for name in said["variables"].split()
        if name.endswith("_NUM_THREADS") or name.startswith("KMP_")
    }
    assert set(said["variables"].split()) - numeric <= allowed
    assert not said["secret"]
    assert (said["keys"], said["add"]) == (-1, -1)


# -- sockets ---------------------------------------------------------------------------------------


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Sockets of the host that anybody may talk to."""
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        udp.bind(("127.0.0.1", 0))
        abstract.bind(f"\0afbench-test-{os.getpid()}")
        abstract.listen()
        udp.settimeout(0.2)
        yield {
            "tcp": tcp.getsockname(),
            "udp": udp.getsockname(),
            "abstract": abstract.getsockname().decode(),
        }
        with pytest.raises(TimeoutError):
            udp.recv(1)


CONNECT = """
import socket
addresses = {addresses!r}
def connect(family, kind, address):
    with socket.socket(family, kind) as one:
        one.settimeout(5)
        one.connect(address)
        one.send(b"x")
    return address
self.found["tcp"] = tried(
    lambda: connect(socket.AF_INET, socket.SOCK_STREAM, tuple(addresses["tcp"])))
self.found["udp"] = tried(
    lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, tuple(addresses["udp"])))
self.found["abstract"] = tried(
    lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, addresses["abstract"]))
self.found["ipv6"] = tried(
    lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", addresses["tcp"][1])))
self.found["raw"] = tried(
    lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
self.found["netlink"] = tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
self.found["name"] = tried(lambda: socket.getaddrinfo("localhost", 80, flags=0x400))
"""


def test_no_socket_can_be_opened(
    box: SandboxFactory, tmp_path: Path, listening: dict[str, Any]
) -> None:
    attempts = found(box, tmp_path, CONNECT.format(addresses=listening))
    nothing_got({name: said for name, said in attempts.items() if name != "name"})
    assert all("PermissionError" in attempts[name] for name in ("tcp", "udp", "abstract"))


def test_namespaces_alone_keep_the_network_and_the_files_away(
    view: View, bubblewrap: None, tmp_path: Path, listening: dict[str, Any]
) -> None:
    """The filter of system calls is a second wall: this is the first one, without it."""
    import json
    import subprocess

    sandbox = Bubblewrap(view, SMALL)
    script = (
        "import os, json\n" + TRY + "\nclass Self: found = {}\nself = Self()\n"
        + CONNECT.format(addresses=listening)
        + "del self.found['raw'], self.found['netlink'], self.found['name']\n"
        + f"self.found['file'] = tried(lambda: open({str(ROOT / 'README.md')!r}).read(3))\n"
        + "self.found['write'] = tried(lambda: open('/detectors/x', 'w'))\n"
        + "print(json.dumps(self.found))\n"
    )  # fmt: skip
    command = [
        *sandbox.arguments(), "--", view.command[0], "-I", "-S", "-c", script,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    finally:
        sandbox.close()
    assert done.returncode == 0, done.stderr
    attempts = json.loads(done.stdout)
    assert attempts.pop("udp").startswith("got")  # sent to nobody: `listening` looks for it
    nothing_got(attempts)


# -- writing ---------------------------------------------------------------------------------------


def test_nothing_can_be_written_but_in_its_own_tmp(box: SandboxFactory, tmp_path: Path) -> None:
    import afbench

    places = [
        "/", "/dev", "/proc", "/detector", "/detectors", "/usr/lib", "/etc",
        str(Path(afbench.__file__).parent), str(Path(np.__file__).parent),
        str(Path(os.__file__).parent), str(tmp_path), str(ROOT),
    ]  # fmt: skip
    code = f"""
    for place in {places!r}:
        self.found[place] = tried(lambda: open(os.path.join(place, "x"), "w"))
    import afbench.errors
    self.found["engine"] = tried(lambda: open(afbench.errors.__file__, "a"))
    self.found["own code"] = tried(lambda: os.chmod("/detector/detector.py", 0o777))
    self.found["device"] = tried(lambda: os.mknod("/tmp/d", 0o020666, os.makedev(1, 1)))
    self.found["allowed"] = open("/tmp/x", "w").write("x")
    self.found["program"] = tried(lambda: os.execv("/tmp/x", ["x"]))
    """
    attempts = found(box, tmp_path, code)
    assert attempts.pop("allowed") == 1
    nothing_got(attempts)


def test_privileges_cannot_be_taken_back(box: SandboxFactory, tmp_path: Path) -> None:
    code = """
    import ctypes, resource
    libc = ctypes.CDLL(None, use_errno=True)
    def called(name, *given):
        if getattr(libc, name)(*given) == -1:
            raise OSError(ctypes.get_errno(), name)
        return name
    self.found = {
        "root": tried(lambda: os.setuid(0)), "groups": tried(lambda: os.setgroups([0])),
        "user namespace": tried(lambda: called("unshare", 0x10000000)),
        "mount": tried(lambda: called("mount", b"x", b"/tmp", b"tmpfs", 0, None)),
        "unmount": tried(lambda: called("umount2", b"/proc", 2)),
        "chroot": tried(lambda: os.chroot("/tmp")),
        "memory": tried(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))),
        "cpu": tried(lambda: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))),
        "host name": tried(lambda: called("sethostname", b"x", 1)),
        "clock": tried(lambda: __import__("time").clock_settime(0, 0)),
        "nice": tried(lambda: os.nice(-5)),
        "anonymous file": tried(lambda: os.memfd_create("x")),
    }
    """
    nothing_got(found(box, tmp_path, code))


# -- from one instance to the next -----------------------------------------------------------------

LEAVE = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
for place in ("/tmp", "/dev/shm"):
    open(f"{place}/left", "w").write("1")
libc.syscall(29, 4242, 4096, 0o1666)
np.linalg.left = True
__import__("sys").modules["left"] = np
import afbench.detection.features as features
features.activations = lambda *_: np.zeros((24, 1, 1, 1))
threading.Thread(target=lambda: time.sleep(600), daemon=True).start()
os.environ["LEFT"] = "1"
np.random.seed(0)
self.found = {"drawn": float(np.random.uniform())}
"""
LOOK = """
import ctypes, sys, threading
import afbench.detection.features as features
self.found = {
    "files": " ".join(os.listdir("/tmp") + os.listdir("/dev/shm")),
    "shared": ctypes.CDLL(None).syscall(29, 4242, 4096, 0o666),
    "module": hasattr(np.linalg, "left") or "left" in sys.modules or "LEFT" in os.environ,
    "features": features.activations.__module__,
    "threads": threading.active_count(),
    "process": os.getpid(),
    "drawn": float(np.random.uniform()),
}
"""


def test_an_instance_leaves_nothing_to_the_next(box: SandboxFactory, tmp_path: Path) -> None:
    plugins = [plugin_of(tmp_path, code, name) for name, code in (("a", LEAVE), ("b", LOOK))]
    first, second, third = (box(plugin)() for plugin in (*plugins, plugins[1]))
    for detector in (first, second, third):  # the first is alive while the others look
        detector.fit(*cases_of(tmp_path))
    drawn = {detector.explain()["drawn"] for detector in (first, second, third)}
    assert len(drawn) == 3  # forks do not share the state of a generator
    for detector in (second, third):
        said = detector.explain()
        assert (said["files"], said["shared"], said["module"]) == ("", -1, False)
        assert said["features"] == "afbench.detection.features"
        assert (said["threads"], said["process"]) == (1, 1)


def test_detectors_of_one_run_do_not_see_each_others_code(
    box: SandboxFactory, tmp_path: Path
) -> None:
    (plugin_of(tmp_path / "other", "pass", "other").folder / "idea.txt").write_text(SECRET)
    box(plugin_of(tmp_path / "other", "pass", "other"))
    code = """
    self.found = {"others": " ".join(os.listdir("/detectors")),
                  "own": " ".join(os.listdir("/detector")),
                  "up": tried(lambda: os.listdir("/detector/../detectors/0"))}
    """
    said = found(box, tmp_path, code)
    assert (said["others"], said["own"]) == ("", "detector.py")
    nothing_got({"up": said["up"]})


# -- what cases themselves tell --------------------------------------------------------------------


def test_ids_and_handles_tell_nothing_from_call_to_call(
    box: SandboxFactory, tmp_path: Path
) -> None:
    code = """
    def look(cases):
        self.found[str(len(self.found))] = " ".join(case.id for case in cases)
        self.found[str(len(self.found))] = " ".join(
            str(case.handle._number) for case in cases)
        return np.zeros(len(cases))
    self.score = look
    look(cases)
    """
    detector = box(plugin_of(tmp_path, code))()
    cases, labels = cases_of(tmp_path)
    detector.fit(cases, labels)
    detector.score(cases)
    detector.score(cases)
    ids, numbers = ([set(detector.explain()[str(at)].split()) for at in ats]
                    for ats in ((0, 2, 4), (1, 3, 5)))  # fmt: skip
    for drawn, count in ((ids, len(cases)), (numbers, 4)):
        assert all(len(one) == count for one in drawn)
        assert len(set.union(*drawn)) == 3 * count
    assert not {case.id for case in cases} & set.union(*ids)


def test_the_place_of_a_case_does_not_tell_its_label(tmp_path: Path) -> None:
    """The order is that of a digest; here over enough cases to see a lean."""
    from sklearn.metrics import roc_auc_score

    labels = {f"test-{one}": ["faking", "sincere"] * 20 for one in range(10)}
    run = FakeRun(tmp_path, [], labels | {"fit-a-x": ["faking"], "fit-b-x": ["sincere"]})
    rows = run.source.rows(FOLD.__class__("desk", ("fit-a-x", "fit-b-x"), tuple(labels)))
    faking = [row.label == "faking" for row in rows]
    assert len(faking) == 400
    # Three standard errors of the AUROC of a place that says nothing.
    assert abs(roc_auc_score(faking, range(400)) - 0.5) < 3 * 0.029


def test_the_host_does_the_same_for_a_case_of_either_label(
    box: SandboxFactory, tmp_path: Path
) -> None:
    """Answers and their work depend on what is asked: a clock shows nothing of a label."""
    code = """
    def look(cases):
        for case in cases:
            before = case.handle.spent
            case.handle.generate([case.prompt], max_new_tokens=4)
            case.handle.activations([case.messages])
            after = case.handle.spent
            self.found[f"{case.cue} {case.response}"] = after.queries - before.queries
        return np.zeros(len(cases))
    self.score = look
    """
    detector = box(plugin_of(tmp_path, code))()
    cases, labels = cases_of(tmp_path)
    detector.fit(cases, labels)
    detector.score(cases)
    assert set(detector.explain().values()) == {2}


def test_the_running_python_is_the_one_that_is_shown() -> None:
    view = View.of_this_machine()
    assert view.command[0] == os.path.realpath(sys.executable)
    assert not any(path == ROOT or path in ROOT.parents for path in view.shown)
