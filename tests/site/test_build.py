"""Writing the site: whole or not at all, and never over what is not of the site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from afbench.errors import LeaderboardError, StorageError
from afbench.site.build import MARK, static_files, write_site


def pages(text: str = "one") -> list[tuple[str, str]]:
    return [("index.html", text), ("detectors/probe.html", text)]


def test_pages_and_static_files_are_written_and_counted(tmp_path: Path) -> None:
    built = write_site(tmp_path / "deep" / "site", pages())
    there = [path for path in built.folder.rglob("*") if path.is_file()]
    assert built.files == len(there) == 3 + len(static_files())
    assert built.bytes == sum(path.stat().st_size for path in there)
    assert built.first_page == 3
    umask = os.umask(0o022)
    os.umask(umask)
    assert built.folder.stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_site_replaces_the_one_before_it(tmp_path: Path) -> None:
    out = tmp_path / "site"
    write_site(out, [*pages(), ("detectors/gone.html", "old")])
    write_site(out, pages("two"))
    assert (out / "index.html").read_text() == "two"
    assert not (out / "detectors" / "gone.html").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    write_site(tmp_path, pages())
    assert (tmp_path / MARK).is_file()


def test_what_is_no_site_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LeaderboardError, match="no site of afbench"):
        write_site(tmp_path, pages())
    (tmp_path / MARK).write_text('{"kind": "something else", "files": ["thesis.tex"]}')
    with pytest.raises(LeaderboardError, match="no site of afbench"):
        write_site(tmp_path, pages())
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_that_somebody_put_into_a_site_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "site"
    write_site(out, pages())
    (out / "CNAME").write_text("example.org")
    with pytest.raises(LeaderboardError, match="not of the site: CNAME"):
        write_site(out, pages("two"))
    assert (out / "index.html").read_text() == "one"


def test_a_link_or_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(LeaderboardError, match="not a folder"):
            write_site(tmp_path / name, pages())


def test_a_build_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, str]]:
        yield from pages("two")
        raise OSError(28, "No space left on device")

    out = tmp_path / "site"
    write_site(out, pages())
    with pytest.raises(StorageError, match="No space left"):
        write_site(out, broken())
    assert (out / "index.html").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("name", ["../outside.html", "/tmp/outside.html", "a/../../b.html"])
def test_no_page_lies_outside_of_the_site(name: str, tmp_path: Path) -> None:
    with pytest.raises(LeaderboardError, match="outside of the site"):
        write_site(tmp_path / "site", [(name, "x")])
    assert list(tmp_path.iterdir()) == []
