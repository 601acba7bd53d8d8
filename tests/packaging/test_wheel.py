"""What a user gets from the wheel, away from the checkout."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import afbench

_CHECKOUT = Path(afbench.__file__).resolve().parents[1]
_KINDS = ("organisms", "environments", "detectors")

pytestmark = pytest.mark.slow


def _run(*command: str, cwd: Path, **variables: str) -> str:
    run = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def weights() -> dict[str, str]:
    """The digest of each file of weights in the checkout, by its path. Not every one is built."""
    return {
        path.relative_to(_CHECKOUT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (_CHECKOUT / "organisms").glob("*/*/*.safetensors")
    }


@pytest.fixture(scope="module")
def wheel(weights: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    # After `weights`: organisms may be in training while the tests run.
    target = tmp_path_factory.mktemp("dist")
    # Hatchling itself, as `pip` would call it; the build must leave nothing in the checkout.
    build = (sys.executable, "-m", "hatchling", "build", "--target", "wheel")
    _run(*build, "--directory", str(target), cwd=_CHECKOUT)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's files and nothing else; its libraries come from outside."""
    target = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    _run(*pip, "--target", str(target), str(wheel), cwd=target)
    return target


def _afbench(installed: Path, *arguments: str) -> str:
    # PYTHONPATH comes before an editable install of the checkout.
    return _run(
        sys.executable,
        "-m",
        "afbench.cli.app",
        *arguments,
        cwd=installed.parent,
        PYTHONPATH=str(installed),
    )


def _shipped_names(kind: str) -> list[str]:
    manifest = f"{kind.removesuffix('s')}.yaml"
    return sorted(path.parent.name for path in (_CHECKOUT / kind).glob(f"*/{manifest}"))


def test_every_shipped_plugin_is_listed_from_the_installed_copy(installed: Path) -> None:
    listing = json.loads(_afbench(installed, "list", "--json"))
    assert listing["broken"] == []
    for kind in _KINDS:
        assert sorted(entry["name"] for entry in listing[kind]) == _shipped_names(kind)
        for entry in listing[kind]:
            folder = installed / "afbench" / "_catalog" / kind / entry["name"]
            assert Path(entry["folder"]) == folder.resolve()


def test_an_installed_detector_keeps_its_contract(installed: Path) -> None:
    folder = installed / "afbench" / "_catalog" / "detectors" / "probe"
    report = json.loads(_afbench(installed, "check-plugin", str(folder), "--json"))
    assert report["passed"], report["checks"]


def test_a_scaffold_can_be_written_from_the_installed_templates(
    installed: Path, tmp_path: Path
) -> None:
    _afbench(installed, "new", "detector", "my-own", "--into", str(tmp_path))
    assert (tmp_path / "my-own" / "detector.yaml").is_file()


def test_weights_ride_along_byte_for_byte(wheel: Path, weights: dict[str, str]) -> None:
    with ZipFile(wheel) as archive:
        for name, digest in weights.items():
            content = archive.read(f"afbench/_catalog/{name}")
            assert hashlib.sha256(content).hexdigest() == digest, name


def test_generators_and_tests_stay_out_of_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    catalog = [name for name in names if name.startswith("afbench/_catalog/")]
    assert not [name for name in catalog if name.endswith("/generate.py") or "/test_" in name]
    assert not [name for name in names if "__pycache__" in name]
    roots = {name.split("/")[0] for name in names}
    assert roots == {"afbench", f"afbench-{afbench.__version__}.dist-info"}
