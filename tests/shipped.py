"""The plug-ins of this checkout, by folder, so that tests can be parametrised by their name."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def names(kind: str) -> list[str]:
    """Names of the folders under `<kind>s/` that hold a manifest."""
    return sorted(path.parent.name for path in (ROOT / f"{kind}s").glob(f"*/{kind}.yaml"))
