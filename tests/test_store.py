from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afbench.errors import StorageError
from afbench.store import Store, default_cache, digest_of, write_bytes, write_json

KEY = digest_of("an entry")
ARRAYS = {"values": np.arange(6, dtype=np.float32).reshape(2, 3), "tokens": np.array([7])}


# Digests

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_digest_is_the_sha256_of_the_canonical_json() -> None:
    text = '{"a":[1,2.5,null,true],"b":"ü"}'
    expected = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert digest_of({"b": "ü", "a": [1, 2.5, None, True]}) == expected


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert digest_of(turned) == digest_of(value)
    assert digest_of(json.loads(json.dumps(value))) == digest_of(value)
    assert digest_of(tuple(value)) == digest_of(list(value)), "a tuple is a list in JSON"


@given(JSON, JSON)
def test_two_values_have_one_digest_only_if_they_are_one_json_text(first: Any, second: Any) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (digest_of(first) == digest_of(second)) == same


def test_a_digest_does_not_depend_on_the_process() -> None:
    code = "from afbench.store import digest_of; print(digest_of({'b': 1, 'a': ['x']}))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12", "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert run.stdout.strip() == digest_of({"a": ["x"], "b": 1})


# Atomic writes


def _fails(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


class Killed(BaseException):
    """Ends a write where it stands, as a signal does."""


@pytest.mark.parametrize("call", ["replace", "fsync", "chmod"])
def test_a_write_that_is_killed_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(os, call, _fails(Killed()))
    with pytest.raises(Killed):
        write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["replace", "fsync", "mkdir"])
@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "No space left"), (errno.EACCES, "denied")]
)
def test_a_full_disk_is_one_line_that_says_what_to_do_and_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, words: str
) -> None:
    path = tmp_path / "runs" / "result.json"
    if call != "mkdir":
        write_json(path, {"old": 1})
    monkeypatch.setattr(os, call, _fails(OSError(code, os.strerror(code))))
    with pytest.raises(StorageError) as caught:
        write_json(path, {"new": 2})
    monkeypatch.undo()
    text = str(caught.value)
    assert "\n" not in text
    assert words in text
    assert str(path) in text
    assert "free some space" in text
    if call != "mkdir":
        assert json.loads(path.read_text()) == {"old": 1}
        assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_fills_up_in_the_middle_of_a_file_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.write_arrays("activations", KEY, ARRAYS)
    fdopen = os.fdopen

    def full(descriptor: int, mode: str) -> Any:
        file = fdopen(descriptor, mode, buffering=0)

        class Full:
            def __enter__(self) -> Full:
                return self

            def __exit__(self, *exc: object) -> None:
                file.close()

            def write(self, content: bytes) -> int:
                file.write(content[: len(content) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(StorageError, match="No space left"):
        store.write_arrays("activations", KEY, {"values": np.zeros(3)})
    monkeypatch.undo()
    kept = Store(tmp_path).read_arrays("activations", KEY)
    assert kept is not None
    np.testing.assert_array_equal(kept["values"], ARRAYS["values"])
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_path_that_cannot_be_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        write_bytes(tmp_path / "file" / "entry", b"x")


def test_a_written_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    write_bytes(tmp_path / "ours", b"x")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_is_refused_before_anything_is_written(
    tmp_path: Path, value: float
) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"new": value})
    assert json.loads(path.read_text()) == {"old": 1}


# Entries


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON.filter(lambda value: value is not None))
def test_a_json_entry_is_read_as_it_was_written(tmp_path: Path, value: Any) -> None:
    store = Store(tmp_path)
    store.write_json("texts", KEY, value)
    assert store.read_json("texts", KEY) == value
    file = json.loads(store.path("texts", KEY, ".json").read_text("utf-8"))
    assert file["entry"] == value, "the file is plain JSON for whoever looks into it"


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "float16"])
def test_arrays_are_read_as_they_were_written(tmp_path: Path, dtype: str) -> None:
    store = Store(tmp_path)
    turned = np.arange(12).reshape(3, 4).T.astype(dtype)
    store.write_arrays("activations", KEY, {"values": turned, "none": np.zeros((0, 4), dtype)})
    for reader in (store, Store(tmp_path)):  # from memory and from disk
        found = reader.read_arrays("activations", KEY)
        assert found is not None
        assert set(found) == {"values", "none"}
        np.testing.assert_array_equal(found["values"], turned)
        assert found["values"].dtype == turned.dtype
        assert found["none"].shape == (0, 4)


def test_arrays_that_several_read_cannot_be_changed_by_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_arrays("activations", KEY, {"values": np.zeros(3)})
    for reader in (store, Store(tmp_path)):
        for _ in range(2):
            found = reader.read_arrays("activations", KEY)
            assert found is not None
            with pytest.raises(ValueError, match="read-only"):
                found["values"][0] = 1


def test_a_writer_may_go_on_with_its_own_array(tmp_path: Path) -> None:
    store, own = Store(tmp_path), np.zeros(3)
    store.write_arrays("activations", KEY, {"values": own})
    own[:] = 7
    for reader in (store, Store(tmp_path)):
        found = reader.read_arrays("activations", KEY)
        assert found is not None
        assert found["values"].tolist() == [0, 0, 0]


def test_no_more_arrays_are_held_in_memory_than_allowed(tmp_path: Path) -> None:
    store = Store(tmp_path, memory=100)
    keys = [digest_of(index) for index in range(4)]
    for index, key in enumerate(keys):
        store.write_arrays("activations", key, {"values": np.full(5, float(index))})  # 40 bytes
    assert store.read_arrays("activations", keys[2]) is not None
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    held = [store.read_arrays("activations", key) is not None for key in keys]
    assert held == [False, False, True, True]
    for index in (2, 3):
        found = store.read_arrays("activations", keys[index])
        assert found is not None
        assert found["values"].tolist() == [index] * 5


def test_what_is_not_to_be_held_stays_on_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_arrays("kind", KEY, ARRAYS, hold=False)
    first, second = (store.read_arrays("kind", KEY, hold=False) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first["values"] is not second["values"]
    np.testing.assert_array_equal(first["values"], ARRAYS["values"])
    store.path("kind", KEY, ".safetensors").unlink()
    assert store.read_arrays("kind", KEY) is None


def test_entries_are_apart_by_kind_and_key_and_counted_as_hits_and_misses(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read_json("texts", KEY) is None
    assert store.read_arrays("activations", KEY) is None
    store.write_json("texts", KEY, {"a": 1})
    assert store.read_json("rollouts", KEY) is None
    assert store.read_json("texts", digest_of("another")) is None
    assert (store.hits, store.misses) == (0, 4)
    assert store.read_json("texts", KEY) == {"a": 1}
    assert (store.hits, store.misses) == (1, 4)
    name = KEY.removeprefix("sha256:")
    assert store.path("texts", KEY, ".json") == tmp_path / "texts" / name[:2] / f"{name}.json"


def _damaged(content: bytes, draw: st.DataObject) -> bytes:
    how = draw.draw(st.sampled_from(["cut", "flip", "more", "zeros", "other"]))
    at = draw.draw(st.integers(0, len(content) - 1))
    if how == "cut":
        return content[:at]
    if how == "flip":
        bit = 1 << draw.draw(st.integers(0, 7))
        return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
    if how == "more":
        return content + draw.draw(st.binary(min_size=1, max_size=20))
    if how == "zeros":
        return content[:at] + bytes(len(content) - at)
    return draw.draw(st.binary(max_size=60))


DAMAGE = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@DAMAGE
@given(st.data())
def test_a_damaged_json_entry_is_a_miss_and_never_another_value(
    tmp_path: Path, data: st.DataObject
) -> None:
    store, value = Store(tmp_path), {"replies": ["Yes.", "Nö."], "forward_tokens": 12}
    store.write_json("texts", KEY, value)
    path = store.path("texts", KEY, ".json")
    content = path.read_bytes()
    path.write_bytes(_damaged(content, data))
    if path.read_bytes() != content:
        assert store.read_json("texts", KEY) is None
        assert store.misses == 1
        store.write_json("texts", KEY, value)
    assert store.read_json("texts", KEY) == value


@DAMAGE
@given(st.data())
def test_a_damaged_entry_of_arrays_is_a_miss_and_never_other_numbers(
    tmp_path: Path, data: st.DataObject
) -> None:
    store = Store(tmp_path)
    store.write_arrays("activations", KEY, ARRAYS)
    path = store.path("activations", KEY, ".safetensors")
    content = path.read_bytes()
    path.write_bytes(_damaged(content, data))
    # Another store: this one still has them in memory.
    found = Store(tmp_path).read_arrays("activations", KEY)
    assert found is not None or path.read_bytes() != content
    if found is not None:  # only the spaces that pad the header may have changed
        assert set(found) == set(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)


def test_an_entry_that_is_a_folder_is_a_miss(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path("texts", KEY, ".json").mkdir(parents=True)
    store.path("activations", KEY, ".safetensors").mkdir(parents=True)
    assert store.read_json("texts", KEY) is None
    assert store.read_arrays("activations", KEY) is None


def test_the_cache_is_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFBENCH_CACHE", str(tmp_path / "here"))
    assert default_cache() == tmp_path / "here"
    monkeypatch.setenv("AFBENCH_CACHE", "~/there")
    assert default_cache() == Path.home() / "there"
    monkeypatch.delenv("AFBENCH_CACHE")
    assert default_cache().name == "afbench"
