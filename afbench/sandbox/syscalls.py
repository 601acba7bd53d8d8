"""System calls that a detector cannot make, as a filter that the kernel runs (seccomp).

It closes what namespaces and limits leave open: further processes and programs (so that limits of
one process are limits of all), sockets, other processes' memory, namespaces and mounts, keyrings,
shared memory outside of the private folders, and calls that are known for kernel faults.

Numbers are those of the kernel's tables for x86-64 and for aarch64 (asm-generic).
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD: Final = 0x10000
_X32: Final = 0x40000000

# Denied calls, by name: number on x86-64 (None where it has none) and on aarch64.
_DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "userfaultfd": (323, 282), "bpf": (321, 280),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "fanotify_init": (300, 262), "personality": (135, 92),
    "modify_ldt": (154, None), "iopl": (172, None), "ioperm": (173, None),
    "syslog": (103, 116), "acct": (163, 89), "swapon": (167, 224), "reboot": (169, 142),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "quotactl": (179, 60),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Machine:
    audit: int
    column: int
    clone: int
    clone3: int
    seccomp: int


_MACHINES: Final = {
    "x86_64": _Machine(0xC000003E, 0, clone=56, clone3=435, seccomp=317),
    "aarch64": _Machine(0xC00000B7, 1, clone=220, clone3=435, seccomp=277),
}

# Classic BPF: (code, jump if true, jump if false, operand).
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

_SET_FILTER, _ALL_THREADS = 1, 1
_NO_NEW_PRIVILEGES: Final = 38


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid() -> bool:
    """Put the filter on this process, all of its threads and those to come, for good.

    Returns:
        False where the machine or the kernel offers no such filter.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    code = program(machine)
    given = _Program(len(code) // 8, code)
    done = libc.syscall(machine.seccomp, _SET_FILTER, _ALL_THREADS, ctypes.byref(given))
    return bool(done == 0)


def program(machine: _Machine) -> bytes:
    """The filter in the kernel's format."""
    column = machine.column
    numbers = [pair[column] for pair in _DENIED.values()]
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, machine.audit),  # another machine's calls have other numbers
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        *_refused((number for number in numbers if number is not None), _EPERM),
        # Its flags lie in memory, which a filter cannot read; the C library falls back to clone.
        *_refused([machine.clone3], _ENOSYS),
        (_EQUAL, 0, 3, machine.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 1, 0, _CLONE_THREAD),  # a thread, and no process
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _refused(numbers: Iterable[int], error: int) -> list[tuple[int, int, int, int]]:
    steps = []
    for number in numbers:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | error)]
    return steps
