from __future__ import annotations

import pytest

from afbench.catalog.manifests import EnvironmentManifest, load_manifest
from afbench.environments import Environment
from tests.shipped import ROOT, names


def _load(name: str) -> Environment:
    folder = ROOT / "environments" / name
    manifest = load_manifest(folder)
    assert isinstance(manifest, EnvironmentManifest)
    return Environment(manifest, folder)


@pytest.fixture(scope="session", params=names("environment"))
def shipped(request: pytest.FixtureRequest) -> Environment:
    """Each environment of this checkout."""
    return _load(request.param)


@pytest.fixture(scope="session")
def any_shipped() -> Environment:
    """One environment of this checkout, where any will do."""
    return _load(names("environment")[0])
