"""What of this machine a sandbox shows: the system's libraries, Python, the engine, no more.

No catalog, no cache and no home folder is among it. Where one of these lies inside of what has to
be shown (the plug-ins that ride in the wheel), it is covered.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import afbench
from afbench.catalog.discovery import ENTRY_POINT_GROUP
from afbench.errors import SandboxError

_LIBRARIES: Final = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64")
# The linker's table, the BLAS that Debian chose, and where NixOS keeps everything.
_FURTHER: Final = ("/etc/ld.so.cache", "/etc/alternatives", "/nix/store")
_START: Final = (
    "import sys, json; sys.path += json.loads(sys.argv[1]); "
    "from afbench.sandbox.child import main; main(sys.argv[2:])"
)
# A process that is a few seconds old pays for each page that it touches: these make pages larger,
# and keep what was freed.
_ALLOCATION: Final = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:"
    "glibc.malloc.trim_threshold=1073741824:glibc.malloc.top_pad=16777216"
)
# Settings of the host that change how sums round, and so scores.
_NUMERIC: Final = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """What is shown, at the paths that it has outside.

    Attributes:
        shown: files and folders to be read.
        links: symbolic links, and where they lead.
        covered: folders below them that are empty in there.
        command: starts Python on the engine; arguments of `child.main` follow.
    """

    shown: tuple[Path, ...]
    links: tuple[tuple[Path, str], ...]
    covered: tuple[Path, ...]
    command: tuple[str, ...]

    @classmethod
    def of_this_machine(cls, secret: Iterable[Path] = ()) -> View:
        """What this Python needs.

        Args:
            secret: folders that must not be seen, whatever lies around them.

        Raises:
            SandboxError: one of them is, or holds, what has to be shown.
        """
        engine = Path(afbench.__file__).resolve().parent
        sites = [Path(entry) for entry in sys.path if _is_site(entry)]
        python = Path(os.path.realpath(sys.executable))
        libraries = [Path(name) for name in (*_LIBRARIES, *_FURTHER) if Path(name).exists()]
        links = [(path, os.readlink(path)) for path in libraries if path.is_symlink()]
        built = [sysconfig.get_config_var(name) for name in ("DESTSHARED", "LIBDIR")]
        standard = [Path(os.__file__).parent, *(Path(one) for one in built if one)]
        wanted = [path for path in libraries if not path.is_symlink()]
        wanted += [python, *standard, *sites, engine]
        shown = _outermost(path for path in wanted if path.exists())
        hidden = [engine / "_catalog", *_plugin_packages(), *secret]
        paths = [str(path) for path in (*sites, engine.parent)]
        return cls(
            shown,
            tuple(links),
            _covered(hidden, shown),
            (str(python), "-I", "-S", "-B", "-c", _START, json.dumps(paths)),
        )

    @property
    def above(self) -> tuple[Path, ...]:
        """The folders that what is shown lies in, from the outermost on."""
        found = {folder for path in self.shown for folder in path.parents if folder.name}
        return tuple(sorted(found, key=lambda one: len(one.parts)))


def environment() -> dict[str, str]:
    """Of a sandboxed process: nothing of the host's, but what its sums depend on."""
    given = {name: os.environ[name] for name in _NUMERIC if name in os.environ}
    return {
        "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "HF_HUB_OFFLINE": "1",
        "GLIBC_TUNABLES": _ALLOCATION, **given,
    }  # fmt: skip


def _is_site(entry: str) -> bool:
    return Path(entry).name in ("site-packages", "dist-packages") and Path(entry).is_dir()


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Without those that lie below another."""
    found: list[Path] = []
    for path in sorted(set(paths), key=lambda one: len(one.parts)):
        if not any(path.is_relative_to(above) for above in found):
            found.append(path)
    return tuple(found)


def _covered(hidden: Iterable[Path], shown: tuple[Path, ...]) -> tuple[Path, ...]:
    found = []
    for path in _outermost(path.resolve() for path in hidden if path.is_dir()):
        inside = [one for one in shown if one.resolve().is_relative_to(path)]
        if inside:
            raise SandboxError(
                f"'{path}' holds organisms or the cache, and '{inside[0]}' lies in it, which "
                "detectors need",
                fix="move it to a folder of its own (--cache, --plugins)",
            )
        if any(path.is_relative_to(one.resolve()) for one in shown):
            found.append(path)
    return tuple(found)


def _plugin_packages() -> list[Path]:
    """Installed packages that bring plug-ins: they may hold organisms."""
    found = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        spec = importlib.util.find_spec(point.module.partition(".")[0])
        found += [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return found
