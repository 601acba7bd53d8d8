from __future__ import annotations

from pathlib import Path

import pytest

from tests.importers.poser_like import write_release


@pytest.fixture(autouse=True)
def _nothing_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afbench.catalog.discovery.shipped_folder", lambda: None)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A made-up release: 24 benchmark records, and 96 of training that can be scenarios."""
    return write_release(tmp_path / "release")
