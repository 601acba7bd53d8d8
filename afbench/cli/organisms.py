"""`afbench organisms`: build, verify and certify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from afbench.cli.options import AsJson, Plugins

app = typer.Typer(
    name="organisms",
    help="Build, verify and certify organisms.",
    no_args_is_help=True,
    add_completion=False,
)

Names = Annotated[list[str] | None, typer.Argument(help="Organisms; none is all of them.")]
Cache = Annotated[
    Path | None, typer.Option(help="The cache (default: AFBENCH_CACHE or the user's).")
]


@app.command()
def build(
    names: Names = None,
    force: Annotated[bool, typer.Option(help="Train even what is current.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Organisms trained side by side (default: cores).")
    ] = None,
    cache: Cache = None,
    plugins: Plugins = None,
) -> None:
    """Train organisms whose weights are missing or outdated by their recipes, and pin them."""
    from afbench.catalog.discovery import discover
    from afbench.cli.progress import TerminalProgress
    from afbench.store import Store, default_cache
    from afbench.zoo.build import build_all

    catalog = discover(plugins or ())
    store = Store(cache if cache is not None else default_cache())
    trained = current = 0
    steps: dict[str, int] = {}
    with TerminalProgress() as progress:

        def report(name: str, done: int, total: int) -> None:
            if name not in steps:
                progress.start(name, total)
                steps[name] = 0
            progress.advance(name, done - steps[name])
            steps[name] = done

        for built in build_all(
            names or [],
            catalog,
            plugins or [],
            store,
            force=force,
            jobs=jobs or os.cpu_count() or 1,
            report=report,
        ):
            if built.trained:
                trained += 1
                progress.say(f"{built.name}: loss {built.loss:.4f} in {built.seconds:.0f} s")
            else:
                current += 1
    print(f"{trained} trained, {current} current. Next: afbench organisms certify")


@app.command()
def verify(names: Names = None, plugins: Plugins = None, as_json: AsJson = False) -> None:
    """Check weights on disk against the digests that the manifests pin."""
    from afbench.catalog.discovery import discover
    from afbench.cli.output import print_error, print_json
    from afbench.errors import DigestMismatchError
    from afbench.models.digests import verify as verify_plugin

    catalog = discover(plugins or ())
    problems: dict[str, str] = {}
    chosen = names or sorted(catalog.organisms)
    for name in chosen:
        try:
            verify_plugin(catalog.get("organism", name))
        except DigestMismatchError as error:
            problems[name] = str(error)
    if as_json:
        print_json({"checked": len(chosen), "problems": problems})
    else:
        for line in problems.values():
            print_error(f"error: {line}")
        print(f"{len(chosen) - len(problems)} of {len(chosen)} organisms are as pinned.")
    if problems:
        raise typer.Exit(2)


@app.command()
def certify(
    names: Names = None,
    scenarios: Annotated[
        int | None, typer.Option(min=1, help="Test scenarios (default: all).")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Write no certificate and no card.")] = False,
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Run organisms and their parent, give the verdict, and write the figures to their cards."""
    from afbench.cases.access import OrganismAccess
    from afbench.catalog.discovery import discover
    from afbench.certification.card import certificate_row, write_card
    from afbench.certification.certificate import write_certificate
    from afbench.certification.certify import Certifier
    from afbench.cli.output import print_json, print_table
    from afbench.cli.progress import TerminalProgress
    from afbench.models.loading import ModelStore
    from afbench.store import Store, default_cache

    catalog = discover(plugins or ())
    store = Store(cache if cache is not None else default_cache())
    chosen = [catalog.get("organism", name) for name in names or []] or [
        plugin
        for plugin in catalog.organisms.values()
        if plugin.manifest.role != "base" and plugin.manifest.source.type != "prompted"
    ]
    certifier = Certifier(OrganismAccess(ModelStore(catalog), catalog, store), catalog, scenarios)
    certificates = []
    with TerminalProgress(quiet=as_json) as progress:
        progress.start("certify", len(chosen))
        for plugin in chosen:
            certificate = certifier.certify(plugin)
            certificates.append(certificate)
            if not dry_run:
                write_certificate(plugin, certificate)
                write_card(plugin, certificate)
            progress.advance("certify", 1)
    if as_json:
        print_json([certificate.model_dump(mode="json") for certificate in certificates])
        return
    columns = ("organism", "status", "misalignment gap", "compliance gap", "why it failed")
    print_table("Certificates", columns, [certificate_row(c) for c in certificates])
    failed = sum(certificate.status == "failed" for certificate in certificates)
    print(f"{len(certificates) - failed} certified, {failed} failed.")
    if not dry_run:
        print(f"Certificates: {chosen[0].folder.parent}/<name>/certificate.json")
