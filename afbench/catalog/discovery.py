"""Finding plug-ins: folders with a manifest, from the command line, the environment, installed
packages and what ships with afbench."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Literal, cast, overload

from typing_extensions import TypeVar

from afbench.catalog.manifests import (
    KINDS,
    DetectorManifest,
    EnvironmentManifest,
    Kind,
    Manifest,
    OrganismManifest,
    load_manifest,
    manifest_kind,
)
from afbench.catalog.parsed import ParsedManifests
from afbench.catalog.shipped import shipped_folder
from afbench.catalog.yaml_files import display
from afbench.errors import AfbenchError, DuplicateNameError, ManifestError, UnknownNameError

PLUGINS_VARIABLE: Final = "AFBENCH_PLUGINS"
ENTRY_POINT_GROUP: Final = "afbench.plugins"

M_co = TypeVar("M_co", bound=Manifest, default=Manifest, covariant=True)


@dataclass(frozen=True)
class Plugin(Generic[M_co]):
    """One organism, environment or detector: its folder and its validated manifest."""

    name: str
    kind: Kind
    folder: Path
    manifest: M_co


@dataclass(frozen=True)
class Catalog:
    """Every plug-in that was found, by kind and name.

    Attributes:
        broken: folders that hold a malformed plug-in (or an entry point that failed), each with
            its error. `get` of a broken one raises that error.
    """

    organisms: Mapping[str, Plugin[OrganismManifest]] = field(default_factory=dict)
    environments: Mapping[str, Plugin[EnvironmentManifest]] = field(default_factory=dict)
    detectors: Mapping[str, Plugin[DetectorManifest]] = field(default_factory=dict)
    broken: list[tuple[Path, AfbenchError]] = field(default_factory=list)

    def of_kind(self, kind: Kind) -> Mapping[str, Plugin[Manifest]]:
        """The plug-ins of one kind, by name."""
        by_kind: dict[Kind, Mapping[str, Plugin[Manifest]]] = {
            "organism": self.organisms,
            "environment": self.environments,
            "detector": self.detectors,
        }
        return by_kind[kind]

    @overload
    def get(self, kind: Literal["organism"], name: str) -> Plugin[OrganismManifest]: ...
    @overload
    def get(self, kind: Literal["environment"], name: str) -> Plugin[EnvironmentManifest]: ...
    @overload
    def get(self, kind: Literal["detector"], name: str) -> Plugin[DetectorManifest]: ...
    @overload
    def get(self, kind: Kind, name: str) -> Plugin[Any]: ...
    def get(self, kind: Kind, name: str) -> Plugin[Any]:
        """One plug-in by kind and name.

        Raises:
            UnknownNameError: there is none; the nearest names are suggested.
            AfbenchError: it is there and malformed.
        """
        plugins = self.of_kind(kind)
        if name in plugins:
            return plugins[name]
        for folder, error in self.broken:
            if folder.name == name and broken_kind(folder) in (kind, None):
                raise error
        raise UnknownNameError(kind, name, plugins)

    def find(self, name: str) -> list[Plugin[Any]]:
        """The plug-ins of that name, of any kind (at most one per kind, at least one).

        Raises:
            UnknownNameError, AfbenchError: as `get`.
        """
        found = [self.of_kind(kind)[name] for kind in KINDS if name in self.of_kind(kind)]
        if found:
            return found
        for folder, error in self.broken:
            if folder.name == name:
                raise error
        known = {known_name for kind in KINDS for known_name in self.of_kind(kind)}
        raise UnknownNameError("plug-in", name, known)


def discover(plugin_dirs: Sequence[Path] = ()) -> Catalog:
    """Find every plug-in: `plugin_dirs`, AFBENCH_PLUGINS, entry points, the shipped folders.

    A plug-in directory is a plug-in's folder itself, or holds organisms/, environments/ or
    detectors/, or holds plug-in folders directly.

    Raises:
        DuplicateNameError: two folders give the same name within one kind.
        AfbenchError: a directory that was asked for does not exist.
    """
    builder = _Builder()
    for origin, directories in (("--plugins", plugin_dirs), (PLUGINS_VARIABLE, _from_variable())):
        for directory in directories:
            if not directory.is_dir():
                raise AfbenchError(f"plug-in folder {directory} does not exist", where=origin)
            builder.scan(directory)
    builder.scan_entry_points()
    shipped = shipped_folder()
    if shipped is not None:
        builder.scan_kind_folders(shipped)
    return builder.catalog()


def broken_kind(folder: Path) -> Kind | None:
    """The kind that a malformed plug-in means to be, by its manifest or else its folder."""
    by_parent = next((kind for kind in KINDS if folder.parent.name == f"{kind}s"), None)
    return manifest_kind(folder) or by_parent


def _from_variable() -> list[Path]:
    parts = os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep)
    return [Path(part).expanduser() for part in parts if part.strip()]


class _Builder:
    def __init__(self) -> None:
        self._plugins: dict[Kind, dict[str, Plugin[Manifest]]] = {kind: {} for kind in KINDS}
        self._broken: list[tuple[Path, AfbenchError]] = []
        self._seen: set[Path] = set()
        self._parents: dict[Path, Path] = {}
        self._parsed = ParsedManifests.of_user()

    def catalog(self) -> Catalog:
        self._parsed.save()
        return Catalog(
            organisms=cast("dict[str, Plugin[OrganismManifest]]", self._plugins["organism"]),
            environments=cast(
                "dict[str, Plugin[EnvironmentManifest]]", self._plugins["environment"]
            ),
            detectors=cast("dict[str, Plugin[DetectorManifest]]", self._plugins["detector"]),
            broken=self._broken,
        )

    def scan(self, directory: Path) -> None:
        if manifest_kind(directory) is not None:
            self._add(directory)
            return
        self.scan_kind_folders(directory)
        for folder in _visible_folders(directory):
            if manifest_kind(folder) is not None:
                self._add(folder)

    def scan_kind_folders(self, directory: Path) -> None:
        for kind in KINDS:
            for folder in _visible_folders(directory / f"{kind}s"):
                if manifest_kind(folder) is not None or _holds_files(folder):
                    self._add(folder)

    def scan_entry_points(self) -> None:
        # ~10 ms to import, and only here needed
        from importlib.metadata import EntryPoint, entry_points

        def locate(point: EntryPoint) -> Path:
            if point.attr:
                return Path(cast("Callable[[], str | Path]", point.load())())
            return _package_folder(point.module)

        for point in entry_points(group=ENTRY_POINT_GROUP):
            try:
                folder = locate(point)
                if not folder.is_dir():
                    raise ManifestError(f"it gives {folder}, which is not a folder")
            except Exception as error:  # a stranger's package must not take `list` down
                what = f"entry point '{point.name} = {point.value}' failed: {error}"
                self._broken.append((Path(point.name), ManifestError(what)))
                continue
            self.scan(folder)

    def _add(self, folder: Path) -> None:
        resolved = self._resolved(folder)
        if resolved in self._seen:  # given twice, on the command line and by the checkout, say
            return
        self._seen.add(resolved)
        try:
            manifest = load_manifest(folder, self._parsed)
        except AfbenchError as error:
            self._broken.append((folder, error))
            return
        plugins = self._plugins[manifest.kind]
        if manifest.name in plugins:
            first = plugins[manifest.name].folder
            raise DuplicateNameError(
                f"two {manifest.kind}s are named '{manifest.name}': "
                f"{display(first)} and {display(folder)}",
                fix="rename one of them",
            )
        plugins[manifest.name] = Plugin(manifest.name, manifest.kind, folder, manifest)

    def _resolved(self, folder: Path) -> Path:
        """`folder.resolve()`, with one look at the folders above for all plug-ins below them."""
        if folder.is_symlink() or folder.name in ("", ".."):
            return folder.resolve()
        if folder.parent not in self._parents:
            self._parents[folder.parent] = folder.parent.resolve()
        return self._parents[folder.parent] / folder.name


def _visible_folders(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        for entry in sorted(directory.iterdir()):
            if entry.is_dir() and not entry.name.startswith((".", "_")):
                yield entry


def _holds_files(folder: Path) -> bool:
    """False for what version control leaves behind: a folder with nothing but caches."""
    return any(not entry.name.startswith((".", "__pycache__")) for entry in folder.iterdir())


def _package_folder(module: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ManifestError(f"'{module}' is not an importable package")
    return Path(next(iter(spec.submodule_search_locations)))
