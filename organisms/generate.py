"""Write the manifest and card of every organism of the nano zoo from its grids.

Run `python organisms/generate.py`, then `afbench organisms build`, which trains what is missing and
writes the digests into the manifests; `--check` only says whether the manifests are the ones that
the grids give (their digests aside).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grid_atlas
import grid_base
import grid_prompted
import yaml
from grid import Manifest

HERE = Path(__file__).parent


def grid() -> list[tuple[Manifest, str]]:
    """Every organism of the zoo but the bases, with its card."""
    return [
        (manifest, module.card(manifest))
        for module in (grid_base, grid_atlas, grid_prompted)
        for manifest in module.manifests()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for manifest, card in grid():
        folder = HERE / manifest["name"]
        path = folder / "organism.yaml"
        old = yaml.safe_load(path.read_text("utf-8")) if path.exists() else None
        pinned = (old or {}).get("source", {}).get("digests")
        if pinned and "digests" in manifest["source"]:
            # The digests are the build's to write.
            manifest["source"]["digests"] = pinned
        if not check and folder.is_dir() and not (folder / "card.md").exists():
            (folder / "card.md").write_text(card, "utf-8")
        if old == manifest:
            continue
        stale.append(manifest["name"])
        if not check:
            folder.mkdir(exist_ok=True)
            path.write_text(yaml.safe_dump(manifest, sort_keys=False, width=100), "utf-8")
            if not (folder / "card.md").exists():
                (folder / "card.md").write_text(card, "utf-8")
    print(f"{len(stale)} of {len(grid())} manifests {'differ' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
