from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afbench.catalog import KINDS, Kind, OrganismManifest, load_manifest
from afbench.catalog.manifests import DetectorManifest
from afbench.errors import ManifestError
from tests.catalog.manifest_texts import DETECTOR, ENVIRONMENT, ORGANISM, TEXTS, write_plugin


def _refusal(folder: Path, kind: Kind, old: str, new: str) -> str:
    """The error of the valid manifest of `kind` in which `old` is replaced by `new`."""
    text = TEXTS[kind].format(name="x")
    assert old in text
    with pytest.raises(ManifestError) as refusal:
        load_manifest(write_plugin(folder, kind, "x", text.replace(old, new)))
    return str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_manifest_loads(tmp_path: Path, kind: Kind) -> None:
    manifest = load_manifest(write_plugin(tmp_path, kind, "some-name"))
    assert (manifest.kind, manifest.name, manifest.schema_version) == (kind, "some-name", 1)


@pytest.mark.parametrize(
    ("kind", "old", "new", "parts"),
    [
        ("organism", "role: faker", "role: fakr", ["line 6, field 'role'", "mean 'faker'?"]),
        ("organism", "kind: organism", "kind: organsim", ["line 2", "mean 'organism'?"]),
        ("organism", "schema: 1", "schema: 2", ["line 1, field 'schema'"]),
        ("organism", "type: prompted", "type: promted", ["'source", "mean 'prompted'?"]),
        ("organism", "  system_prompt: Be good.\n", "", ["'source.system_prompt'", "missing"]),
        ("organism", "parent: null", "parent: [1]", ["line 10, field 'source.parent'"]),
        ("organism", "recipe_family: prompted\n", "", ["needs a 'recipe_family'"]),
        ("organism", "role: faker", "role: lookalike", ["'lookalike_class'"]),
        ("detector", "tier: text", "teir: text", ["unknown field", "mean 'tier'?"]),
        ("detector", "tier: text", "tier: logprob", ["mean 'logprobs'?"]),
        ("detector", "tier: text", "tier: text\nneeds_parent: true", ["'needs_parent'"]),
        ("detector", "tier: text", "tier: text\ncontrast: true", ["'contrast'", "'logprobs'"]),
        ("detector", "tier: text", "tier: text\nfloor: true\nceiling: true", ["'ceiling'"]),
        ("detector", "detector.py:Constant", "detector.py", ["field 'entry'"]),
        ("detector", "detector.py:Constant", "../d.py:C", ["line 6, field 'entry'", "'..'"]),
        ("detector", "name: x", "name: y", ["line 3, field 'name'", "folder's name 'x'"]),
        ("detector", "name: x", "name: X y", ["field 'name'"]),
        ("environment", "scenarios.jsonl", "/etc/passwd", ["field 'scenarios'", "absolute"]),
        ("environment", "cues.yaml", "a/../../b", ["line 11, field 'cues'", "'..'"]),
        ("environment", "'^no'", "'(no'", ["field 'grader.refuse_patterns[0]'", "regular"]),
        ("environment", "A desk. {cue}", "{cue} {cue}", ["hold {cue} 2 times", "in one place"]),
        ("environment", '"{request}"', '"x"', ["{request} exactly once"]),
    ],
)
def test_a_wrong_field_is_named_with_file_line_and_fix(
    tmp_path: Path, kind: Kind, old: str, new: str, parts: list[str]
) -> None:
    line = _refusal(tmp_path, kind, old, new)
    assert f"{kind}.yaml line " in line
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_a_path_that_leaves_through_a_symlink_is_named(tmp_path: Path) -> None:
    folder = write_plugin(tmp_path, "environment", "x")
    (tmp_path / "outside").write_text("secret")
    (folder / "scenarios.jsonl").symlink_to(tmp_path / "outside")
    with pytest.raises(ManifestError, match=r"line 10, field 'scenarios'.*symlink"):
        load_manifest(folder)


def test_a_digest_may_not_name_a_file_outside(tmp_path: Path) -> None:
    source = (
        f"type: adapter\n  parent: base\n  path: adapter\n"
        f"  digests: {{../../x: 'sha256:{'0' * 64}'}}\nprovenance"
    )
    text = ORGANISM.format(name="x")
    head, tail = text.split("type: prompted")[0], text.split("provenance")[1]
    with pytest.raises(ManifestError, match=r"'source.digests.*'\.\.'"):
        load_manifest(write_plugin(tmp_path, "organism", "x", head + source + tail))


def test_a_folder_without_manifest_or_with_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no manifest"):
        load_manifest(tmp_path)
    folder = write_plugin(tmp_path, "detector", "x")
    (folder / "organism.yaml").write_text(ORGANISM)
    with pytest.raises(ManifestError, match="holds 2 manifests"):
        load_manifest(folder)


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_a_manifest_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ManifestError, match="line 1: expected a mapping"):
        load_manifest(write_plugin(tmp_path, "detector", "x", text))


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    manifest = load_manifest(write_plugin(tmp_path, "organism", "x"))
    assert isinstance(manifest, OrganismManifest)
    assert (manifest.seed, manifest.generation.max_new_tokens) == (0, 48)


@given(st.binary(max_size=200))
@example(b"")
@example(DETECTOR.encode() + b"\n\xff")
@example(b"- " * 5000)
@example(b"schema: " + b"9" * 5000)
@example(b"schema: 1\nkind: detector\nname: x\nsummary: !!float .nan\n")
def test_arbitrary_bytes_give_nothing_but_a_manifest_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "x"
    folder.mkdir(exist_ok=True)
    (folder / "detector.yaml").write_bytes(raw)
    with pytest.raises(ManifestError) as refusal:
        load_manifest(folder)
    assert "\n" not in str(refusal.value)


_SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_JSON = st.recursive(
    _SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.sampled_from(ENVIRONMENT.splitlines()), _JSON)
def test_any_value_of_any_field_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, line: str, value: object
) -> None:
    import yaml

    folder = tmp_path_factory.getbasetemp() / "y"
    folder.mkdir(exist_ok=True)
    fields = yaml.safe_load(ENVIRONMENT.format(name="y"))
    fields[line.partition(":")[0]] = value
    (folder / "environment.yaml").write_text(yaml.safe_dump(fields, allow_unicode=True))
    try:
        load_manifest(folder)
    except ManifestError as error:
        assert "environment.yaml" in str(error)  # noqa: PT017 -- most values are refused, some load


@pytest.mark.parametrize(
    ("fields", "sees"),
    [
        ("tier: text", False),
        ("tier: logprobs\nneeds_parent: true", False),
        ("tier: logprobs\ncontrast: true", True),
        ("tier: weights\ncontrast: true", True),
        ("tier: text\nceiling: true", True),
    ],
)
def test_contrasts_are_shown_to_those_that_declare_them_and_to_ceilings(
    tmp_path: Path, fields: str, sees: bool
) -> None:
    text = DETECTOR.format(name="x").replace("tier: text", fields)
    manifest = load_manifest(write_plugin(tmp_path, "detector", "x", text))
    assert isinstance(manifest, DetectorManifest)
    assert manifest.sees_contrast is sees
