"""Writes the site into a folder: whole or not at all, and never over something else."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Final

from afbench.errors import LeaderboardError, StorageError
from afbench.store import UMASK

MARK: Final = "site.json"
_KIND: Final = "afbench-site"
_STATIC: Final = ("site.css", "site.js", "icon.svg")


@dataclass(frozen=True, slots=True)
class Built:
    """What was written: how many files, and bytes of all and of the first page."""

    folder: Path
    files: int
    bytes: int
    first_page: int


def static_files() -> dict[str, str]:
    """The style sheet, the script and the icon, by path."""
    folder = files("afbench.site") / "static"
    return {f"static/{name}": (folder / name).read_text("utf-8") for name in _STATIC}


def write_site(out: Path, pages: Iterable[tuple[str, str]]) -> Built:
    """Write pages and static files into a folder, in place of the site that stands there.

    They are written beside it first. What is there must be a site that was written by this
    function, with nothing added, or an empty folder.

    Args:
        pages: path and text of each file.

    Raises:
        LeaderboardError: something else is there.
        StorageError: it could not be written; what was there is kept.
    """
    check_replaceable(out)
    target = out.absolute()
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        built = _write_all(temporary, out, {**dict(pages), **static_files()})
        temporary.chmod(0o777 & ~UMASK)
        _put_in_place(temporary, target)
        temporary = None
    except OSError as error:
        raise StorageError(
            f"cannot write the site: {error.strerror or error}",
            where=str(out),
            fix="free some space or give another --out; what was there is kept",
        ) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return built


def check_replaceable(out: Path) -> None:
    """Whether a site may be put here.

    Raises:
        LeaderboardError: it is no folder, or holds what this program has not written.
    """
    fix = "give another --out, or empty it"
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise LeaderboardError("not a folder", where=str(out), fix="give another --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    known = _written(out / MARK)
    if known is None:
        raise LeaderboardError("the folder is no site of afbench", where=str(out), fix=fix)
    for path in sorted(out.rglob("*")):
        relative = path.relative_to(out).as_posix()
        if (path.is_symlink() or not path.is_dir()) and relative not in known:
            raise LeaderboardError(
                f"the folder holds a file that is not of the site: {relative}",
                where=str(out),
                fix=fix,
            )


def _write_all(folder: Path, out: Path, texts: dict[str, str]) -> Built:
    texts[MARK] = json.dumps({"kind": _KIND, "files": sorted([*texts, MARK])}, indent=1) + "\n"
    sizes: dict[str, int] = {}
    for name, text in texts.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise LeaderboardError(f"a page would lie outside of the site: {name[:60]!r}")
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        path.write_bytes(content)
        sizes[name] = len(content)
    return Built(out, len(sizes), sum(sizes.values()), sizes.get("index.html", 0))


def _put_in_place(new: Path, target: Path) -> None:
    """Rename, keeping the old folder until the new one stands."""
    if not target.exists():
        os.rename(new, target)
        return
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
    try:
        os.rename(target, aside / "site")
        try:
            os.rename(new, target)
        except OSError:
            os.rename(aside / "site", target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _written(mark: Path) -> set[str] | None:
    """The files that the site was written with; None where the mark is not of a site."""
    try:
        content: Any = json.loads(mark.read_text("utf-8"))
        if content["kind"] != _KIND:
            return None
        return {str(name) for name in content["files"]}
    except (OSError, ValueError, TypeError, KeyError):
        return None
