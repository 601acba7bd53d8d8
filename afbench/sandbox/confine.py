"""What a process does to itself before it runs a stranger's code. Linux; runs in the child.

`enter` gives it namespaces of its own (where the kernel lets it), `lock` takes away privileges,
resources and system calls. Neither can be undone by what is run afterwards.
"""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

from afbench.sandbox.limits import Limits
from afbench.sandbox.syscalls import forbid

# Where a launcher puts the detectors of a run, and where a detector finds itself.
DETECTORS: Final = Path("/detectors")
DETECTOR: Final = Path("/detector")

_NEW_USER, _NEW_PID, _NEW_MOUNTS, _NEW_NETWORK = 0x10000000, 0x20000000, 0x00020000, 0x40000000
_NEW_IPC, _NEW_UTS = 0x08000000, 0x04000000
_NAMESPACES: Final = _NEW_USER | _NEW_PID | _NEW_MOUNTS | _NEW_NETWORK | _NEW_IPC | _NEW_UTS
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC, _BIND, _RECURSIVE, _PRIVATE = (
    1, 2, 4, 8, 1 << 12, 1 << 14, 1 << 18,
)  # fmt: skip
_SET_DUMPABLE, _DROP_BOUNDING, _SET_SUBREAPER = 4, 24, 36
_CAPABILITIES: Final = 64
_CAPABILITY_VERSION: Final = 0x20080522

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def become(identity: int) -> None:
    """Take a user and group that own nothing. The kernel counts their processes, not root's.

    Raises:
        OSError: this process may not.
    """
    os.setgroups([])
    os.setresgid(identity, identity, identity)
    os.setresuid(identity, identity, identity)
    # The kernel makes what changed its user unreadable to itself, /proc/self/uid_map included.
    _prctl(_SET_DUMPABLE, 1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends."""
    _prctl(_SET_SUBREAPER, 1)


def unshare() -> None:
    """Leave every namespace of this process; the next child is the first process of its own.

    Raises:
        OSError: the kernel does not let an ordinary process do so.
    """
    user, group = os.geteuid(), os.getegid()
    if _LIBC.unshare(_NAMESPACES):
        raise _failed("unshare")
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{user} {user} 1")
    (own / "gid_map").write_text(f"{group} {group} 1")


def enter(limits: Limits) -> None:
    """In the first process of new namespaces: private folders, and nothing of the other processes.

    Raises:
        OSError: the kernel does not let it.
    """
    with suppress(OSError):  # covered by the host's /proc in some places; calls are denied as well
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    for folder in ("/tmp", "/dev/shm"):
        size = f"size={limits.tmp_bytes},nr_inodes={limits.tmp_files},mode=1777"
        _mount("tmpfs", folder, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_EXEC, size)


def show(number: str) -> None:
    """Of the run's detectors, leave one to be seen.

    Raises:
        OSError: it is not there.
    """
    _mount(str(DETECTORS / number), str(DETECTOR), None, _BIND)
    hidden = _READ_ONLY | _NO_SUID | _NO_DEVICES | _NO_EXEC
    _mount("tmpfs", str(DETECTORS), "tmpfs", hidden, "size=4k,nr_inodes=1")


def hide_processes() -> None:
    """Cover /proc: it says nothing that a detector needs, and a lot of the machine."""
    hidden = _READ_ONLY | _NO_SUID | _NO_DEVICES | _NO_EXEC
    _mount("tmpfs", "/proc", "tmpfs", hidden, "size=4k,nr_inodes=1")


def address_space() -> int:
    """Bytes of address space that this process has."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 16 << 30  # nobody says; a large engine on top of the limit is as good a guess
    return pages * resource.getpagesize()


def lock(limits: Limits, cpu_seconds: int, memory: int) -> bool:
    """Take away, for good, what a detector has no use for.

    Args:
        cpu_seconds: of its whole life, over all threads.
        memory: bytes of address space in all.

    Returns:
        Whether system calls are filtered; without that, limits are those of each process alone.
    """
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.tmp_bytes),
        (resource.RLIMIT_NPROC, limits.threads),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _lower(what, most)
    _drop_capabilities()
    return forbid()


def _lower(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (value, value))


def _drop_capabilities() -> None:
    for capability in range(_CAPABILITIES):
        _LIBC.prctl(_DROP_BOUNDING, capability, 0, 0, 0)  # fails where there is none to drop
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if _LIBC.capset(header, (ctypes.c_uint32 * 6)()):
        raise _failed("capset")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    given = [part.encode() if part is not None else None for part in (source, target, kind)]
    if _LIBC.mount(*given, ctypes.c_ulong(flags), data.encode() or None):
        raise _failed(f"mount of {target}")


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        raise _failed("prctl")


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
