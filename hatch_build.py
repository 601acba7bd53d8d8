"""Puts the plug-in folders that lie beside the package into the wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KINDS = ("organisms", "environments", "detectors")


class CatalogHook(BuildHookInterface):  # type: ignore[type-arg]
    """Maps organisms/, environments/ and detectors/ into afbench/_catalog/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "standard" or "editable"."""
        if version == "editable":  # the package then finds the folders of the checkout
            return
        root = Path(self.root)
        for kind in KINDS:
            # Two levels down: a script beside the plug-ins' folders makes them and is none of them.
            for path in sorted((root / kind).glob("*/**/*")):
                relative = path.relative_to(root)
                if path.is_file() and not _left_out(relative):
                    target = f"afbench/_catalog/{relative.as_posix()}"
                    build_data["force_include"][str(path)] = target


def _left_out(relative: Path) -> bool:
    hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
    return hidden or (relative.name.startswith("test_") and relative.suffix == ".py")
