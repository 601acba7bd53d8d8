"""What a fit has learned, as arrays and plain values, and as two files that hold no code.

A fitted detector is `state.safetensors` (its arrays) and `state.json` (the rest, with a digest of
the arrays and of the detector that they belong to). Nothing is pickled, so that the files of a
stranger can be read; the detector's code comes from its own folder, never from these files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from afbench import __version__
from afbench.errors import AfbenchError, DetectorError, DigestMismatchError, StorageError
from afbench.store import write_bytes, write_json

ARRAYS_FILE: Final = "state.safetensors"
VALUES_FILE: Final = "state.json"
_SCHEMA: Final = 1
_PLAIN: Final = (bool, int, float, str, list, dict)
_NOT_FINITE: Final = ("nan", "inf", "-inf")


@dataclass(frozen=True, slots=True)
class DetectorState:
    """What a fit has learned.

    Attributes:
        arrays: numeric arrays by name.
        values: what JSON can hold, by name.
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def fields(**kinds: type) -> Mapping[str, type]:
    """What a class declares in `fitted`: the type of each attribute by its name."""
    return MappingProxyType(kinds)


class Fitted:
    """Something that learns, and says what it has learned.

    `fitted` names the attributes that `fit` sets and that scoring needs, with their types: a numpy
    array, bool, int, float, str, list, dict, or another `Fitted`. What stays None there declares
    nothing and cannot be saved. A part is made anew without its constructor, so that it has to
    declare what it was built with as well; a detector is built with the params of its manifest.
    """

    fitted: ClassVar[Mapping[str, type] | None] = None

    @property
    def can_be_saved(self) -> bool:
        """Whether it declares what it learns, or has a way of its own to put it down."""
        return self.fitted is not None or type(self).state is not Fitted.state

    def state(self) -> DetectorState:
        """What was learned; names of parts are joined by dots.

        Raises:
            DetectorError: nothing is declared, something declared is missing or of another type.
        """
        arrays: dict[str, NDArray[Any]] = {}
        values: dict[str, Any] = {}
        for name, kind in _declared(type(self)).items():
            found = getattr(self, name, None)
            if found is None:
                raise _wrong(self, name, "is not there", "fit it before it is saved")
            if issubclass(kind, np.ndarray):
                arrays[name] = _numeric(self, name, found)
            elif issubclass(kind, Fitted):
                part = _typed(self, name, found, kind).state()
                arrays |= {f"{name}.{key}": array for key, array in part.arrays.items()}
                values |= {f"{name}.{key}": value for key, value in part.values.items()}
            else:
                values[name] = _plain(self, name, found, kind)
        return DetectorState(arrays, values)

    def load_state(self, state: DetectorState) -> None:
        """Take over what was learned before. Changes nothing when it does not fit.

        Raises:
            DetectorError: a name too many or too few, or a value of another type than declared.
        """
        _check_names(type(self), state)
        found: dict[str, Any] = {}
        for name, kind in _declared(type(self)).items():
            if issubclass(kind, np.ndarray):
                found[name] = _numeric(self, name, state.arrays[name]).copy()
            elif issubclass(kind, Fitted):
                part = kind.__new__(kind)
                part.load_state(_below(name, state))
                found[name] = part
            else:
                found[name] = _restored(self, name, state.values[name], kind)
        for name, value in found.items():
            setattr(self, name, value)


def save_state(detector: Fitted, folder: Path, digest: str) -> None:
    """Write a fitted detector into a folder, which is made when it is not there.

    Args:
        digest: of the detector's manifest and code (`detection.loading.detector_digest`).

    Raises:
        DetectorError: the detector declares no state, or was not fitted.
        StorageError: a file could not be written.
    """
    from safetensors.numpy import save

    state = detector.state()
    content = save({name: np.ascontiguousarray(a) for name, a in state.arrays.items()})
    header = {
        "schema": _SCHEMA,
        "kind": "detector-state",
        "afbench": __version__,
        "detector": digest,
        "arrays": {name: _described(array) for name, array in sorted(state.arrays.items())},
        "arrays_digest": _digest(content),
        "values": state.values,
    }
    write_bytes(folder / ARRAYS_FILE, content)
    write_json(folder / VALUES_FILE, header)


def load_state(detector: Fitted, folder: Path, digest: str) -> None:
    """Put what was saved into a freshly built detector.

    Args:
        digest: of the detector's manifest and code, as for `save_state`.

    Raises:
        StorageError: a file is missing, damaged, a link, or not a detector's state.
        DigestMismatchError: it is another detector's, another version's, or not the arrays that
            were saved.
        DetectorError: names, types or shapes are not what the detector declares.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header = _header(folder)
    if (header["detector"], header["afbench"]) != (digest, __version__):
        raise DigestMismatchError(
            "the state was saved by another version of this detector",
            where=str(folder / VALUES_FILE),
            fix="fit and save it again",
        )
    content = _read(folder / ARRAYS_FILE)
    if _digest(content) != header["arrays_digest"]:
        raise DigestMismatchError("not the arrays that were saved", where=str(folder / ARRAYS_FILE))
    try:
        arrays: dict[str, NDArray[Any]] = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise _damaged(folder / ARRAYS_FILE) from None
    if {name: _described(array) for name, array in arrays.items()} != header["arrays"]:
        raise _damaged(folder / ARRAYS_FILE)
    detector.load_state(DetectorState(arrays, header["values"]))


# -- what is declared ------------------------------------------------------------------------------


def _declared(cls: type[Fitted]) -> Mapping[str, type]:
    if cls.fitted is None:
        raise DetectorError(
            f"{cls.__name__} does not say what its fit sets",
            fix="declare it: `fitted = fields(...)` of afbench.detection.state",
        )
    allowed = (np.ndarray, Fitted, *_PLAIN)
    for name, kind in cls.fitted.items():
        if not issubclass(kind, allowed):
            raise DetectorError(f"'{name}' of {cls.__name__} cannot be saved as {kind!r}")
    return cls.fitted


def _check_names(cls: type[Fitted], state: DetectorState) -> None:
    declared = _declared(cls)
    given = {name.partition(".")[0] for name in (*state.arrays, *state.values)}
    further = sorted(given - set(declared))
    whole = {name for name, kind in declared.items() if not issubclass(kind, Fitted)}
    missing = sorted(whole - set(state.arrays) - set(state.values))
    if further or missing:
        problem = f"no '{missing[0]}'" if missing else f"'{further[0]}', which is not declared"
        raise DetectorError(f"the state of {cls.__name__} holds {problem}")
    for name in whole:
        is_array = issubclass(declared[name], np.ndarray)
        if name not in (state.arrays if is_array else state.values):
            raise DetectorError(f"'{name}' of {cls.__name__} is not {declared[name].__name__}")


def _below(name: str, state: DetectorState) -> DetectorState:
    """The state of a part."""
    start = f"{name}."
    return DetectorState(
        {key.removeprefix(start): a for key, a in state.arrays.items() if key.startswith(start)},
        {key.removeprefix(start): v for key, v in state.values.items() if key.startswith(start)},
    )


def _typed(owner: Fitted, name: str, found: object, kind: type[Fitted]) -> Fitted:
    if not isinstance(found, kind):
        raise _wrong(owner, name, f"is {type(found).__name__} and not {kind.__name__}")
    return found


def _numeric(owner: Fitted, name: str, found: object) -> NDArray[Any]:
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
        raise _wrong(owner, name, "is no array of numbers")
    if not np.isfinite(found).all():
        raise _wrong(owner, name, "holds numbers that are not finite")
    return found


def _plain(owner: Fitted, name: str, found: object, kind: type) -> Any:
    """A value as JSON holds it; a float that is not finite becomes its name."""
    value = found.item() if isinstance(found, np.generic) else found
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise _wrong(owner, name, f"is {type(value).__name__} and not {kind.__name__}")
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise _wrong(owner, name, "holds what JSON cannot") from None


def _restored(owner: Fitted, name: str, value: Any, kind: type) -> Any:
    if kind is float and value in _NOT_FINITE:
        return float(value)
    return _plain(owner, name, value, kind)


def _wrong(owner: Fitted, name: str, problem: str, fix: str | None = None) -> DetectorError:
    return DetectorError(f"'{name}' of {type(owner).__name__} {problem}", fix=fix)


# -- files -----------------------------------------------------------------------------------------


def _header(folder: Path) -> dict[str, Any]:
    path = folder / VALUES_FILE
    if folder.is_symlink():
        raise StorageError("a saved detector is no link", where=str(folder))
    try:
        header: Any = json.loads(_read(path))
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    expected = {"schema", "kind", "afbench", "detector", "arrays", "arrays_digest", "values"}
    if not isinstance(header, dict) or set(header) != expected:
        raise _damaged(path)
    if (header["schema"], header["kind"]) != (_SCHEMA, "detector-state"):
        raise _damaged(path)
    if not (isinstance(header["arrays"], dict) and isinstance(header["values"], dict)):
        raise _damaged(path)
    return dict(header)


def _read(path: Path) -> bytes:
    if path.is_symlink():
        raise StorageError("a saved detector holds no links", where=str(path))
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the file: {error.strerror}", where=str(path)) from None


def _damaged(path: Path) -> AfbenchError:
    return StorageError("not the state of a detector, or damaged", where=str(path))


def _described(array: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
