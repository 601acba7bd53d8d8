"""Reading YAML that strangers wrote: safe, bounded, and with the line of every field.

The loader builds plain values from the parser's events. It never composes a node tree, because
libyaml's composer recurses in C and a deeply nested file would crash the interpreter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from afbench.errors import ManifestError

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: same events, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_BYTES = 5_000_000
MAX_DEPTH = 64

FieldPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_resolve: Callable[[type[yaml.Node], str, tuple[bool, bool]], Any] = (
    yaml.resolver.Resolver().resolve
)
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
# A date stays text: cues and sources hold dates, and no field of a manifest is one.
_AS_TEXT = {f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value", f"{_TAG}merge"}


@dataclass(frozen=True)
class YamlFile:
    """A parsed YAML file and where in it each value stands.

    Attributes:
        path: the file.
        data: plain dicts, lists, strings, numbers, booleans and None. Keys are always strings.
        lines: 1-based line of each key or list item, by its path from the top.
    """

    path: Path
    data: Any
    lines: Mapping[FieldPath, int]

    def line_of(self, loc: Iterable[str | int]) -> int:
        """Line of the deepest part of `loc` that is in the file (a missing field has none)."""
        return self.lines.get(self.in_file(loc), 1)

    def in_file(self, loc: Iterable[str | int]) -> FieldPath:
        """`loc` without the parts that are not in the file (a union's tag, a missing field)."""
        found: FieldPath = ()
        for part in loc:
            if (*found, part) in self.lines:
                found = (*found, part)
        return found

    def error(
        self, loc: Iterable[str | int], message: str, *, fix: str | None = None
    ) -> ManifestError:
        """A ManifestError that names the file, the line and the field."""
        loc = tuple(loc)
        where = f"{display(self.path)} line {self.line_of(loc)}"
        if loc:
            where += f", field '{dotted(loc)}'"
        return ManifestError(f"{where}: {message}", fix=fix)


def display(path: Path) -> str:
    """`path` relative to the working directory when it lies inside it, else as it is."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def dotted(loc: Iterable[str | int]) -> str:
    """A field's path as users write it: `source.path`, `families[0].name`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def load_yaml(path: Path) -> YamlFile:
    """Read one YAML document.

    Raises:
        ManifestError: the file is missing, over MAX_BYTES, not UTF-8, not YAML, nested more than
            MAX_DEPTH deep, or has a duplicate key, an alias or a tag outside plain YAML.
    """
    text = read_text(path)
    try:
        return _Builder(path).build(text)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, error) from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{display(path)}: not valid YAML: {error}") from None


def _syntax_error(path: Path, error: yaml.MarkedYAMLError) -> ManifestError:
    found, began = error.problem_mark or error.context_mark, error.context_mark
    line = found.line + 1 if found else 1
    message = f"{display(path)} line {line}: not valid YAML: {error.problem or error.context}"
    if began and began.line + 1 != line:  # an unclosed bracket is noticed far from where it opened
        message += f", {error.context} that began on line {began.line + 1}"
    return ManifestError(message)


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The file's text; ManifestError when it is missing, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise ManifestError(f"cannot read {display(path)}: {error.strerror or error}") from None
    if len(raw) > max_bytes:
        raise ManifestError(f"{display(path)} is larger than {max_bytes:,} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"{display(path)} line {line}: not UTF-8 text") from None


def safe_path(folder: Path, relative: str, field: str) -> Path:
    """`folder / relative`, proven to stay inside the folder. The file need not exist.

    Raises:
        ManifestError: the path is absolute, has a "..", or leads out through a symlink.
    """
    problem = path_problem(folder, relative)
    if problem:
        raise ManifestError(f"field '{field}': {problem}", where=display(folder))
    return folder / relative


def path_problem(folder: Path, relative: str) -> str | None:
    """Why `relative` may not be used as a path inside `folder`; None when it may."""
    shown = repr(relative)
    if not relative or any(ord(char) < 32 for char in relative):
        return f"{shown} is not a path"
    windows = PureWindowsPath(relative)
    if PurePosixPath(relative).is_absolute() or windows.drive or windows.root:
        return f"the path {shown} is absolute; give it relative to the plug-in's folder"
    if ".." in windows.parts:
        return f"the path {shown} has a '..'; files of a plug-in stay in its folder"
    if not _passes_a_link(folder, relative):
        return None
    try:
        inside = (folder / relative).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:
        return f"the path {shown} cannot be resolved: {error}"
    return None if inside else f"the path {shown} leaves the plug-in's folder through a symlink"


def _passes_a_link(folder: Path, relative: str) -> bool:
    """Whether a step of a plain relative path, below the folder, is or may be a link.

    Without one the path cannot leave the folder, and need not be resolved: `afbench list` asks this
    of every file of every plug-in.
    """
    step = str(folder)
    for part in PurePosixPath(relative).parts:
        step = os.path.join(step, part)
        try:
            if os.path.islink(step):
                return True
        except ValueError:  # not a path at all: resolving it says why
            return True
    return os.name != "posix"


class _Builder:
    """Turns parser events into values. One use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[FieldPath, int] = {}

    def build(self, text: str) -> YamlFile:
        data: Any = None
        documents = 0
        self._events = iter(yaml.parse(text, Loader=_Loader))
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document starts here; one per file")
                data = self._value(next(self._events), ())
        return YamlFile(self._path, data, self._lines)

    def _error(self, event: yaml.Event, message: str) -> ManifestError:
        return ManifestError(f"{display(self._path)} line {_line(event)}: {message}")

    def _value(self, event: yaml.Event, loc: FieldPath) -> Any:
        if len(loc) > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} deep")
        self._lines.setdefault(loc, _line(event))
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"alias '*{event.anchor}' is not supported; write the value")
        assert isinstance(event, yaml.CollectionStartEvent)
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", f"{_TAG}{kind}"):
            raise self._error(event, f"tag '{event.tag}' is not allowed")
        return self._mapping(loc) if kind == "map" else self._sequence(loc)

    def _mapping(self, loc: FieldPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, "a key must be plain text")
            key = event.value
            if key in values:
                first = self._lines[(*loc, key)]
                raise self._error(event, f"key '{key}' is given twice (first on line {first})")
            self._lines[(*loc, key)] = _line(event)
            values[key] = self._value(next(self._events), (*loc, key))
        return values

    def _sequence(self, loc: FieldPath) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            values.append(self._value(event, (*loc, len(values))))
        return values

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            tag = str(_resolve(yaml.ScalarNode, event.value, event.implicit))
        if tag in _AS_TEXT:
            return event.value
        construct = _SCALARS.get(tag)
        if construct is None:
            raise self._error(event, f"tag '{tag}' is not allowed")
        try:
            return construct(yaml.ScalarNode(tag, event.value))
        except (ValueError, KeyError, IndexError, OverflowError):
            kind = tag.removeprefix(_TAG)
            raise self._error(event, f"{event.value[:40]!r} is not a valid {kind}") from None


_SCALARS = {
    f"{_TAG}null": _CONSTRUCTOR.construct_yaml_null,
    f"{_TAG}bool": _CONSTRUCTOR.construct_yaml_bool,
    f"{_TAG}int": _CONSTRUCTOR.construct_yaml_int,
    f"{_TAG}float": _CONSTRUCTOR.construct_yaml_float,
}


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
