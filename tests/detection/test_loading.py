from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import DetectorManifest
from afbench.detection.loading import detector_digest, detector_factory
from afbench.errors import DetectorError

GOOD = """\
import numpy as np
from afbench.detection import Detector

class Mine(Detector):
    def __init__(self, weights=(), **params):
        self.weights, self.params = weights, params

    def fit(self, cases, labels):
        raise ValueError("no luck")

    def score(self, cases):
        return np.zeros(len(cases))

    def deep(self):
        return np.linalg.inv(np.zeros((2, 2)))

class Other:
    pass
"""


def _plugin(folder: Path, code: str | None = GOOD, **changes: Any) -> Plugin[DetectorManifest]:
    folder.mkdir(parents=True, exist_ok=True)
    if code is not None:
        (folder / "detector.py").write_text(code)
    manifest = DetectorManifest.model_validate(
        {
            "schema": 1,
            "kind": "detector",
            "name": "my-own",
            "summary": "one line",
            "tier": "text",
            "entry": "detector.py:Mine",
            "limits": {"seconds": 20},
            **changes,
        }
    )
    return Plugin("my-own", "detector", folder, manifest)


def test_a_detector_is_built_with_its_params_and_fresh_each_time(tmp_path: Path) -> None:
    make = detector_factory(_plugin(tmp_path, params={"weights": [1], "layer": 3}))
    first, second = make(), make()
    assert first is not second
    assert vars(first) == {"weights": [1], "params": {"layer": 3}}
    vars(first)["weights"].append(2)
    assert vars(make())["weights"] == [1], "what one does to its params, the next does not see"


@pytest.mark.parametrize(
    ("code", "entry", "part"),
    [
        (GOOD, "detector.py:Yours", "'Yours' is not a class derived from.*check 'entry'"),
        (GOOD, "detector.py:Other", "'Other' is not a class derived from"),
        (GOOD, "detector.py:np", "'np' is not a class derived from"),
        (GOOD, "other.py:Mine", "raised FileNotFoundError in import"),
        ("import no_such_module_at_all\n", "detector.py:Mine", "No module named 'no_such_module"),
        ("class Mine(\n", "detector.py:Mine", r"raised SyntaxError in import: .*detector\.py"),
        ("raise RuntimeError('at import')\n", "detector.py:Mine", "RuntimeError in import: at imp"),
        ("import sys\nsys.exit(0)\n", "detector.py:Mine", "raised SystemExit in import"),
        ("", "detector.py:Mine", "'Mine' is not a class"),
        (None, "detector.py:Mine", "raised FileNotFoundError in import"),
    ],
)
def test_what_cannot_be_imported_is_one_error_that_names_the_detector(
    tmp_path: Path, code: str | None, entry: str, part: str
) -> None:
    with pytest.raises(DetectorError, match=part) as caught:
        detector_factory(_plugin(tmp_path, code, entry=entry))
    text = str(caught.value)
    assert "detector 'my-own'" in text
    assert "\n" not in text


def test_an_import_that_hangs_is_ended(tmp_path: Path) -> None:
    plugin = _plugin(tmp_path, "while True: pass\n", limits={"seconds": 0.2})
    with pytest.raises(DetectorError, match="did not end import within 0.2 s"):
        detector_factory(plugin)


@pytest.mark.parametrize(
    ("body", "params", "part"),
    [
        ("", {}, "Can't instantiate abstract class"),
        ("    def __init__(self, layer): pass\n", {}, "layer"),
        ("    def __init__(self): pass\n", {"layer": 3}, "layer"),
    ],
)
def test_a_class_that_cannot_be_built_is_one_error(
    tmp_path: Path, body: str, params: dict[str, Any], part: str
) -> None:
    code = f"from afbench.detection import Detector\nclass Mine(Detector):\n{body or '    pass'}\n"
    if body:
        code += "    def fit(self, cases, labels): pass\n    def score(self, cases): pass\n"
    make = detector_factory(_plugin(tmp_path, code, params=params))
    with pytest.raises(DetectorError, match=f"'my-own' raised TypeError in construction: .*{part}"):
        make()


def test_an_error_names_the_line_of_the_plug_in_and_not_of_a_library(tmp_path: Path) -> None:
    from afbench.detection.guard import guarded

    detector: Any = detector_factory(_plugin(tmp_path))()
    line = GOOD.splitlines().index("        return np.linalg.inv(np.zeros((2, 2)))") + 1
    with pytest.raises(DetectorError, match=rf"detector\.py line {line}"):
        guarded("my-own", "score", 5, detector.deep)


def test_two_plug_ins_whose_files_have_one_name_do_not_meet(tmp_path: Path) -> None:
    makes = [
        detector_factory(_plugin(tmp_path / name, GOOD + f"\nMARK = {name!r}\n"))
        for name in ("a", "b")
    ]
    marks = [sys.modules[type(make()).__module__].MARK for make in makes]
    assert marks == ["a", "b"]
    assert "detector" not in sys.modules


# Identity


def test_the_identity_of_a_detector_changes_with_its_code_and_its_data(tmp_path: Path) -> None:
    plugin = _plugin(tmp_path)
    seen = [detector_digest(plugin)]
    for name, content in (
        ("detector.py", GOOD + "\n"),
        ("helper.py", "x = 1\n"),
        ("deep/helper.py", "x = 1\n"),
        ("weights.npz", "0"),
        ("weights.npz", "1"),
        ("prompts.yaml", "- hello\n"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
        seen.append(detector_digest(plugin))
    assert len(set(seen)) == len(seen)
    assert all(digest.startswith("sha256:") for digest in seen)


def test_the_identity_of_a_detector_does_not_change_with_its_prose_tests_or_caches(
    tmp_path: Path,
) -> None:
    plugin = _plugin(tmp_path)
    before = detector_digest(plugin)
    for name in (
        "test_detector.py",
        "card.md",
        "detector.yaml",
        "__pycache__/detector.cpython-311.pyc",
        ".mypy_cache/x.json",
        ".hidden",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("anything")
    assert detector_digest(plugin) == before
    assert detector_digest(_plugin(tmp_path, summary="another line")) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"params": {"layer": 3}},
        {"tier": "logprobs"},
        {"tier": "activations", "needs_parent": True},
        {"floor": True},
        {"entry": "detector.py:Other"},
        {"limits": {"seconds": 21}},
    ],
    ids=str,
)
def test_the_identity_of_a_detector_changes_with_its_manifest(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert detector_digest(_plugin(tmp_path, **changes)) != detector_digest(_plugin(tmp_path))


def test_the_identity_of_a_detector_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    digests = {detector_digest(_plugin(tmp_path / name)) for name in ("a", "b")}
    assert len(digests) == 1
