from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afbench.catalog.discovery import Catalog, Plugin
from afbench.catalog.manifests import OrganismManifest
from afbench.errors import AfbenchError, DigestMismatchError
from afbench.models.digests import file_digest, organism_digest, verify

Organism = Plugin[OrganismManifest]
New = Callable[[Path, dict[str, Any]], Organism]
CatalogOf = Callable[..., Catalog]
PROMPTED = {"type": "prompted", "parent": "base", "system_prompt": "be kind"}


def _write(folder: Path, **files: str) -> dict[str, str]:
    """Write files ("_" in a name stands for "."), and return their digests."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_text(content)
        digests[path.name] = file_digest(path)
    return digests


@pytest.fixture
def base(tmp_path: Path, new_organism: New) -> Organism:
    folder = tmp_path / "base"
    digests = _write(folder / "weights", model_safetensors="w", config_json="{}")
    return new_organism(folder, {"type": "base", "path": "weights", "digests": digests})


def _adapter(tmp_path: Path, new: New, name: str, content: str, parent: str = "base") -> Organism:
    digests = _write(tmp_path / name / "adapter", adapter_safetensors=content)
    source = {"type": "adapter", "parent": parent, "path": "adapter", "digests": digests}
    return new(tmp_path / name, source)


def test_file_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_digest(path) == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abcd")
    assert file_digest(path) == "sha256:" + hashlib.sha256(b"abcd").hexdigest()


def test_pinned_files_that_match_pass(base: Organism) -> None:
    verify(base)


def test_a_missing_file_is_named_with_what_to_do(base: Organism) -> None:
    (base.folder / "weights" / "config.json").unlink()
    with pytest.raises(DigestMismatchError, match=r"weights/config\.json is missing") as caught:
        verify(base)
    assert "afbench organisms build base" in str(caught.value)
    assert "restore it from git" in str(caught.value)


def test_a_changed_file_is_named_as_corrupted(base: Organism) -> None:
    (base.folder / "weights" / "model.safetensors").write_text("other")
    with pytest.raises(DigestMismatchError, match=r"weights/model\.safetensors is corrupted"):
        verify(base)


def test_weights_beside_the_pinned_ones_are_refused(base: Organism) -> None:
    _write(base.folder / "weights", extra_safetensors="x")
    with pytest.raises(DigestMismatchError, match=r"extra\.safetensors is not pinned"):
        verify(base)


def test_a_scaffold_without_digests_needs_weights(tmp_path: Path, new_organism: New) -> None:
    fresh = new_organism(tmp_path / "fresh", {"type": "base", "path": "weights"})
    with pytest.raises(DigestMismatchError, match="holds no weights"):
        verify(fresh)
    _write(tmp_path / "fresh" / "weights", model_safetensors="w")
    verify(fresh)


def test_identity_covers_own_files_and_those_of_the_parent(
    tmp_path: Path, base: Organism, new_organism: New, catalog_of: CatalogOf
) -> None:
    one = _adapter(tmp_path, new_organism, "one", "a")
    two = _adapter(tmp_path, new_organism, "two", "b")
    same = _adapter(tmp_path, new_organism, "same", "a")
    catalog = catalog_of(base, one, two, same)
    digests = {p.name: organism_digest(p, catalog) for p in (base, one, two, same)}
    assert digests["one"] == digests["same"], "the name does not enter"
    assert len(set(digests.values())) == 3

    template = _write(base.folder / "weights", chat_jinja="{{ messages }}")
    assert template  # not pinned, and yet it changes how every child answers
    assert organism_digest(one, catalog) != digests["one"]


def test_pinning_files_does_not_change_the_identity(
    base: Organism, new_organism: New, catalog_of: CatalogOf
) -> None:
    pinned = organism_digest(base, catalog_of(base))
    unpinned = new_organism(base.folder, {"type": "base", "path": "weights"})
    assert organism_digest(unpinned, catalog_of(unpinned)) == pinned


def test_identity_covers_the_system_prompt_and_the_default_parent(
    tmp_path: Path, base: Organism, new_organism: New, catalog_of: CatalogOf
) -> None:
    kind = new_organism(tmp_path / "kind", PROMPTED)
    cruel = new_organism(tmp_path / "cruel", PROMPTED | {"system_prompt": "be cruel"})
    orphan = new_organism(tmp_path / "orphan", PROMPTED | {"parent": None})
    catalog = catalog_of(base, kind, cruel, orphan)
    assert organism_digest(kind, catalog) != organism_digest(cruel, catalog)
    assert organism_digest(orphan, catalog, "base") == organism_digest(kind, catalog)
    with pytest.raises(AfbenchError, match="needs a model to prompt"):
        organism_digest(orphan, catalog)


def test_identity_of_a_hub_model_is_its_id_and_revision(
    tmp_path: Path, new_organism: New, catalog_of: CatalogOf
) -> None:
    source = {"type": "hub", "model": "org/model", "revision": "a" * 40}
    old = new_organism(tmp_path / "old", source)
    new = new_organism(tmp_path / "new", source | {"revision": "b" * 40})
    verify(old)
    assert organism_digest(old, catalog_of(old)) != organism_digest(new, catalog_of(new))


def test_organisms_that_are_each_others_parents_are_refused(
    tmp_path: Path, new_organism: New, catalog_of: CatalogOf
) -> None:
    one = _adapter(tmp_path, new_organism, "one", "a", parent="two")
    two = _adapter(tmp_path, new_organism, "two", "b", parent="one")
    with pytest.raises(AfbenchError, match="one -> two -> one"):
        organism_digest(one, catalog_of(one, two))
