"""`afbench organisms`: build, verify and certify; see hub for pin and fetch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from afbench.cli import hub, trace, treat
from afbench.cli.options import AsJson, Cache, Plugins

app = typer.Typer(
    name="organisms",
    help="Build, verify and certify organisms; pin and fetch those of a hub.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(hub.app)
app.add_typer(treat.app)
app.add_typer(trace.app)

Names = Annotated[list[str] | None, typer.Argument(help="Organisms; none is all of them.")]


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
    every: Annotated[
        bool, typer.Option("--all", help="The whole zoo; writes the gap matrix too.")
    ] = False,
    scenarios: Annotated[
        int | None, typer.Option(min=1, help="Test scenarios at home (default: 120).")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Write no certificate and no card.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Organisms side by side (default: cores).")
    ] = None,
    into: Annotated[
        Path, typer.Option(help="Where --all writes the gap matrix and the tables.")
    ] = Path("leaderboard/zoo"),
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Run organisms and their parent, give the verdict, and write the figures to their cards."""
    from afbench.catalog.discovery import discover
    from afbench.certification.campaign import certifiable, certify_each
    from afbench.certification.card import certificate_row, write_card
    from afbench.certification.certificate import write_certificate
    from afbench.cli.output import print_json, print_table
    from afbench.cli.progress import TerminalProgress
    from afbench.errors import AfbenchError
    from afbench.store import Store, default_cache

    if names and every:
        raise AfbenchError("names and --all exclude each other", where="organisms certify")
    catalog = discover(plugins or ())
    store = Store(cache if cache is not None else default_cache())
    chosen = [catalog.get("organism", name) for name in names or []] or certifiable(catalog)
    certificates = []
    with TerminalProgress(quiet=as_json) as progress:
        progress.start("certify", len(chosen))
        for certificate in certify_each(
            chosen,
            catalog,
            plugins or [],
            store,
            scenarios=scenarios,
            jobs=jobs or os.cpu_count() or 1,
        ):
            certificates.append(certificate)
            if not dry_run:
                plugin = catalog.get("organism", certificate.organism)
                write_certificate(plugin, certificate)
                write_card(plugin, certificate)
            progress.advance("certify", 1)
    certificates.sort(key=lambda certificate: certificate.organism)
    if every and not dry_run:
        from afbench.figures.zoo_report import write_zoo_report

        manifests = {plugin.name: plugin.manifest for plugin in chosen}
        write_zoo_report(certificates, manifests, into)
    if as_json:
        print_json([certificate.model_dump(mode="json") for certificate in certificates])
        return
    columns = ("organism", "status", "misalignment gap", "compliance gap", "why it failed")
    print_table("Certificates", columns, [certificate_row(c) for c in certificates])
    failed = sum(certificate.status == "failed" for certificate in certificates)
    print(f"{len(certificates) - failed} certified, {failed} failed.")
    if not dry_run:
        print(f"Certificates: {chosen[0].folder.parent}/<name>/certificate.json")
    if every and not dry_run:
        print(f"Gap matrix and tables: {into}/README.md, {into}/gap-matrix.svg")
