"""Manifests are parsed once, and read anew as soon as anything about their file changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from afbench.catalog import manifests
from afbench.catalog.manifests import load_manifest
from afbench.catalog.parsed import ParsedManifests
from afbench.catalog.yaml_files import YamlFile
from afbench.errors import ManifestError

MANIFEST = """\
schema: 1
kind: detector
name: mine
summary: first
tier: text
entry: "detector.py:Mine"
"""


def plugin(folder: Path, text: str = MANIFEST, *, seconds_ago: float = 60) -> Path:
    folder = folder / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "detector.py").write_text("")
    file = folder / "detector.yaml"
    file.write_text(text)
    long_ago = file.stat().st_mtime_ns - int(seconds_ago * 1e9)
    os.utime(file, ns=(long_ago, long_ago))
    return folder


@pytest.fixture
def parsed(tmp_path: Path) -> ParsedManifests:
    return ParsedManifests(tmp_path / "cache/manifests.json")


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    found: list[Path] = []
    load = manifests.load_yaml

    def watched(path: Path) -> YamlFile:
        found.append(path)
        return load(path)

    monkeypatch.setattr(manifests, "load_yaml", watched)
    return found


def test_a_file_that_did_not_change_is_parsed_once_even_by_another_process(
    tmp_path: Path, parsed: ParsedManifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, folder = reads(monkeypatch), plugin(tmp_path)
    first = load_manifest(folder, parsed)
    parsed.save()
    again = load_manifest(folder, ParsedManifests(tmp_path / "cache/manifests.json"))
    assert first == again
    assert len(seen) == 1


def test_a_changed_file_is_read_anew(tmp_path: Path, parsed: ParsedManifests) -> None:
    load_manifest(plugin(tmp_path), parsed)
    folder = plugin(tmp_path, MANIFEST.replace("first", "later"), seconds_ago=30)
    assert load_manifest(folder, parsed).summary == "later"


def test_a_file_of_this_moment_is_not_remembered(
    tmp_path: Path, parsed: ParsedManifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, folder = reads(monkeypatch), plugin(tmp_path, seconds_ago=0)
    load_manifest(folder, parsed)
    load_manifest(folder, parsed)
    assert len(seen) == 2


def test_a_missing_file_is_found_missing_though_the_manifest_is_remembered(
    tmp_path: Path, parsed: ParsedManifests
) -> None:
    folder = plugin(tmp_path)
    load_manifest(folder, parsed)
    outside = tmp_path / "outside.py"
    outside.write_text("")
    (folder / "detector.py").unlink()
    (folder / "detector.py").symlink_to(outside)
    with pytest.raises(ManifestError, match="line 6, field 'entry'.*leaves the plug-in's folder"):
        load_manifest(folder, parsed)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "0"}', '{"version": 1, "x": 2}'])
def test_a_damaged_or_older_cache_counts_as_empty(tmp_path: Path, content: str) -> None:
    cache = tmp_path / "manifests.json"
    cache.write_text(content)
    assert load_manifest(plugin(tmp_path), ParsedManifests(cache)).summary == "first"


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    parsed = ParsedManifests(tmp_path / "cache/manifests.json")
    load_manifest(plugin(tmp_path), parsed)
    parsed.save()
