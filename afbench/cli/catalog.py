"""`afbench list`, `show`, `new` and `check-plugin`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from afbench.cli.options import AsJson, Plugins
from afbench.cli.output import print_json, print_table
from afbench.errors import AfbenchError, UnknownNameError

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog, Plugin
    from afbench.catalog.manifests import Kind

_COLUMNS: Final[dict[Kind, tuple[str, ...]]] = {
    "organism": ("name", "role", "environment", "summary"),
    "environment": ("name", "polarity", "summary"),
    "detector": ("name", "tier", "floor", "summary"),
}


def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(help="organisms, environments or detectors; all if omitted.")
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List the organisms, environments and detectors that are installed."""
    from afbench.catalog.discovery import broken_kind, discover

    catalog = discover(plugins or ())
    kinds = tuple(_COLUMNS) if kind is None else (_kind(kind),)
    broken = [
        (folder, error)
        for folder, error in catalog.broken
        if kind is None or broken_kind(folder) in (None, *kinds)
    ]
    if as_json:
        listing: dict[str, Any] = {
            f"{one}s": [_summary(plugin) for plugin in _sorted(catalog, one)] for one in kinds
        }
        listing["broken"] = [
            {"folder": str(folder), "error": str(error)} for folder, error in broken
        ]
        print_json(listing)
        return
    for one in kinds:
        rows = [_row(plugin) for plugin in _sorted(catalog, one)]
        print_table(f"{one}s ({len(rows)})", _COLUMNS[one], rows)
    if broken:
        # The error names its file, so that the folder's name is enough beside it.
        rows = [(folder.name, str(error)) for folder, error in broken]
        print_table(f"broken ({len(rows)})", ("folder", "error"), rows)


def show(
    name: Annotated[str, typer.Argument(help="The plug-in's name.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help="Needed where two kinds share the name.")
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Show one plug-in: its manifest and its card."""
    from afbench.catalog.discovery import discover
    from afbench.catalog.yaml_files import display

    catalog = discover(plugins or ())
    found = catalog.find(name) if kind is None else [catalog.get(_kind(kind), name)]
    if len(found) > 1:
        kinds = " and ".join(f"{plugin.kind}" for plugin in found)
        raise AfbenchError(f"'{name}' names an {kinds}", fix=f"add --kind {found[0].kind}")
    plugin = found[0]
    card = plugin.folder / "card.md"
    text = card.read_text("utf-8", errors="replace") if card.is_file() else ""
    manifest = plugin.manifest.model_dump(mode="json", by_alias=True)
    if as_json:
        print_json({"folder": str(plugin.folder), "manifest": manifest, "card": text})
        return
    rows = [(field, _cell(value)) for field, value in _flat(manifest)]
    print_table(f"{plugin.kind} {name}: {display(plugin.folder)}", ("field", "value"), rows)
    if text:
        print(f"\n{text.strip()}")


def new(
    kind: Annotated[str, typer.Argument(help="organism, environment or detector.")],
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="The folder to write NAME in.")
    ] = Path(),
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="A new organism's home; the first one if omitted."),
    ] = None,
) -> None:
    """Write a new plug-in's folder, with a test that passes as it is."""
    from afbench.catalog.discovery import discover
    from afbench.catalog.scaffold import scaffold
    from afbench.catalog.yaml_files import display

    the_kind = _kind(kind)
    if environment is None and the_kind == "organism":
        environment = next(iter(sorted(discover().environments)), None)
    folder = scaffold(the_kind, name, into, environment=environment or "my-environment")
    print(f"wrote {display(folder)}:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name}")
    print(f"check it with: afbench check-plugin {display(folder)}")


def check_plugin(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The plug-in's folder.")],
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Check a plug-in's files, and that it keeps the contract of its kind. Runs its code."""
    from afbench.contract import check_plugin as check

    if not folder.is_dir():
        raise AfbenchError(f"{folder} is not a folder")
    report = check(folder, plugins or ())
    if as_json:
        print_json(report.as_dict())
    else:
        rows = [("ok" if one.passed else "FAILED", one.name, one.message) for one in report.checks]
        print_table(f"{report.kind or 'plug-in'} {folder.resolve().name}", _CHECKS, rows)
        failed = len(report.failures)
        print(f"{len(rows) - failed} of {len(rows)} checks passed")
    if not report.passed:
        raise typer.Exit(1)


_CHECKS: Final = ("", "check", "message")


def _kind(text: str) -> Kind:
    for kind in _COLUMNS:
        if text in (kind, f"{kind}s"):
            return kind
    raise UnknownNameError("kind", text, _COLUMNS)


def _sorted(catalog: Catalog, kind: Kind) -> list[Plugin[Any]]:
    return [plugin for _, plugin in sorted(catalog.of_kind(kind).items())]


_FIELDS: Final[dict[Kind, Callable[[Any], dict[str, Any]]]] = {
    "organism": lambda manifest: {
        "role": manifest.role,
        "lookalike_class": manifest.lookalike_class,
        "environment": manifest.environment,
        "recipe_family": manifest.recipe_family,
    },
    "environment": lambda manifest: {"polarity": manifest.polarity},
    "detector": lambda manifest: {
        "tier": manifest.tier,
        "needs_parent": manifest.needs_parent,
        "floor": manifest.floor,
    },
}


def _summary(plugin: Plugin[Any]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        **_FIELDS[plugin.kind](plugin.manifest),
        "summary": plugin.manifest.summary,
        "folder": str(plugin.folder),
    }


def _row(plugin: Plugin[Any]) -> tuple[str, ...]:
    summary = _summary(plugin)
    if plugin.kind == "organism" and summary["lookalike_class"]:
        summary["role"] = f"{summary['role']} ({summary['lookalike_class']})"
    if plugin.kind == "detector":
        summary["floor"] = "floor" if summary["floor"] else "-"
    return tuple(_cell(summary[column]) for column in _COLUMNS[plugin.kind])


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            pairs.extend(_flat(inner, f"{prefix}{key}."))
        else:
            pairs.append((f"{prefix}{key}", inner))
    return pairs


def _cell(value: Any) -> str:
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return " ".join(str(value).split())
