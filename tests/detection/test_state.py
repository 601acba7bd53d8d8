from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from afbench.detection.probes import LogisticProbe
from afbench.detection.state import (
    ARRAYS_FILE,
    VALUES_FILE,
    DetectorState,
    Fitted,
    fields,
    load_state,
    save_state,
)
from afbench.errors import AfbenchError, DetectorError, DigestMismatchError, StorageError

DIGEST = "sha256:abc"


class _Thing(Fitted):
    fitted = fields(
        array=np.ndarray,
        flag=bool,
        count=int,
        share=float,
        name=str,
        many=list,
        table=dict,
        part=LogisticProbe,
    )

    def __init__(self) -> None:
        self.built = "by its constructor"


def _fitted_thing() -> Any:
    rng = np.random.default_rng(0)
    thing: Any = _Thing()
    thing.array = rng.normal(size=(3, 4)).astype(np.float32)
    thing.flag, thing.count, thing.share, thing.name = True, np.int64(3), float("nan"), "ä"
    thing.many, thing.table = [1, "two", [3.5]], {"a": None}
    thing.part = LogisticProbe(0.5).fit(rng.normal(size=(20, 4)), rng.random(20) < 0.5)
    return thing


def test_what_was_learned_comes_back_bit_by_bit_with_its_parts(tmp_path: Path) -> None:
    thing, again = _fitted_thing(), _Thing()
    save_state(thing, tmp_path / "new" / "folder", DIGEST)
    load_state(again, tmp_path / "new" / "folder", DIGEST)
    found: Any = again
    np.testing.assert_array_equal(found.array, thing.array)
    assert found.array.dtype == np.float32
    assert (found.flag, found.count, found.name) == (True, 3, "ä")
    assert (found.many, found.table) == ([1, "two", [3.5]], {"a": None})
    assert np.isnan(found.share)
    unseen = np.random.default_rng(1).normal(size=(5, 4))
    np.testing.assert_array_equal(found.part.score(unseen), thing.part.score(unseen))
    assert found.built == "by its constructor"


def test_a_folder_holds_two_files_and_no_code(tmp_path: Path) -> None:
    save_state(_fitted_thing(), tmp_path, DIGEST)
    assert sorted(path.name for path in tmp_path.iterdir()) == [VALUES_FILE, ARRAYS_FILE]
    assert json.loads((tmp_path / VALUES_FILE).read_text())["detector"] == DIGEST


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("count", 1.5, "float and not int"),
        ("flag", 1, "int and not bool"),
        ("array", np.array(["text"]), "no array of numbers"),
        ("array", np.array([np.inf]), "not finite"),
        ("table", {"a": object()}, "JSON cannot"),
        ("part", "no probe", "str and not LogisticProbe"),
        ("name", None, "is not there"),
    ],
)
def test_what_is_not_of_its_declared_type_is_not_saved(name: str, value: Any, match: str) -> None:
    thing = _fitted_thing()
    setattr(thing, name, value)
    with pytest.raises(DetectorError, match=match):
        thing.state()


def test_an_unfitted_or_undeclared_thing_says_what_to_do() -> None:
    class Silent(Fitted):
        pass

    with pytest.raises(DetectorError, match="fit it before"):
        _Thing().state()
    with pytest.raises(DetectorError, match="does not say what its fit sets"):
        Silent().state()
    assert not Silent().can_be_saved
    assert _Thing().can_be_saved


def test_a_state_with_a_name_too_many_or_too_few_changes_nothing() -> None:
    whole = _fitted_thing().state()
    few = {key: value for key, value in whole.values.items() if key != "count"}
    for values, match in ((few, "no 'count'"), ({**whole.values, "more": 1}, "not declared")):
        again: Any = _Thing()
        with pytest.raises(DetectorError, match=match):
            again.load_state(DetectorState(whole.arrays, values))
        assert not hasattr(again, "array")
    again = _Thing()
    broken = {**whole.values, "part.strength": "strong"}
    with pytest.raises(DetectorError, match="str and not float"):
        again.load_state(DetectorState(whole.arrays, broken))
    assert not hasattr(again, "array")


# Files of strangers


def _rewrite(folder: Path, **changes: Any) -> None:
    path = folder / VALUES_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"detector": "sha256:other"}, DigestMismatchError),
        ({"afbench": "0.0.1"}, DigestMismatchError),
        ({"arrays_digest": "sha256:0"}, DigestMismatchError),
        ({"schema": 2}, StorageError),
        ({"kind": "pickle"}, StorageError),
        ({"arrays": {}}, StorageError),
        ({"values": []}, StorageError),
        ({"more": 1}, StorageError),
    ],
)
def test_a_header_that_is_changed_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[AfbenchError]
) -> None:
    save_state(_fitted_thing(), tmp_path, DIGEST)
    _rewrite(tmp_path, **changes)
    with pytest.raises(error):
        load_state(_Thing(), tmp_path, DIGEST)


def test_arrays_that_are_exchanged_or_damaged_are_refused(tmp_path: Path) -> None:
    save_state(_fitted_thing(), tmp_path, DIGEST)
    (tmp_path / ARRAYS_FILE).write_bytes(save({"array": np.zeros(2)}))
    with pytest.raises(DigestMismatchError):
        load_state(_Thing(), tmp_path, DIGEST)
    import hashlib

    content = b"\x80\x04 no safetensors"
    (tmp_path / ARRAYS_FILE).write_bytes(content)
    _rewrite(tmp_path, arrays_digest=f"sha256:{hashlib.sha256(content).hexdigest()}")
    with pytest.raises(StorageError, match="damaged"):
        load_state(_Thing(), tmp_path, DIGEST)


@pytest.mark.parametrize("linked", [VALUES_FILE, ARRAYS_FILE, "."])
def test_links_are_not_followed(tmp_path: Path, linked: str) -> None:
    real, folder = tmp_path / "real", tmp_path / "folder"
    save_state(_fitted_thing(), real, DIGEST)
    if linked == ".":
        folder.symlink_to(real)
    else:
        save_state(_fitted_thing(), folder, DIGEST)
        (folder / linked).unlink()
        (folder / linked).symlink_to(real / linked)
    with pytest.raises(StorageError, match="link"):
        load_state(_Thing(), folder, DIGEST)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"state\.json"):
        load_state(_Thing(), tmp_path, DIGEST)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"text"'])
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / VALUES_FILE).write_text(text)
    with pytest.raises(StorageError, match="damaged"):
        load_state(_Thing(), tmp_path, DIGEST)
