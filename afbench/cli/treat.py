"""`afbench organisms treat`: an intervention on an organism, and what becomes of its gaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afbench.cli.options import AsJson, Cache, Plugins

if TYPE_CHECKING:
    from afbench.catalog.discovery import Catalog
    from afbench.certification.treatment import Change, TreatmentRecord
    from afbench.cli.progress import TerminalProgress
    from afbench.store import Store
    from afbench.zoo.treatments import By, Subject

app = typer.Typer(add_completion=False)

_SCENARIOS = 120


@app.command()
def treat(
    organism: Annotated[str, typer.Argument(help="The organism to treat.")],
    by: Annotated[
        str,
        typer.Option("--with", help="sft, rl, adversarial, inoculation or cot-supervision."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the treated organism (default: ORGANISM-TREATMENT).")
    ] = None,
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="The folder to write it in.")
    ] = Path(),
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps (default: by treatment).")
    ] = None,
    scenarios: Annotated[int, typer.Option(min=1, help="Test scenarios, at most.")] = _SCENARIOS,
    cache: Cache = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Train a treated copy of an organism, and measure its gaps before and after."""
    from afbench.catalog.discovery import discover
    from afbench.cli.output import print_json
    from afbench.cli.progress import TerminalProgress
    from afbench.store import Store, default_cache
    from afbench.zoo.treat import new_folder, subject_of, treated_manifest, write_manifest

    treatment = _treatment(by)
    given = list(plugins or ())
    catalog = discover(given)
    subject = subject_of(catalog.get("organism", organism), catalog, treatment)
    name = name or f"{organism}-{by}"
    _check_free(name, catalog)
    store = Store(cache if cache is not None else default_cache())
    with new_folder(into, name) as stage, TerminalProgress(quiet=as_json) as progress:
        write_manifest(stage / name, treated_manifest(subject, treatment, name, steps))
        _train(name, [*given, stage], store, progress)
        record = _measure(
            subject, treatment, name, discover([*given, stage]), store, scenarios, progress
        )
    if as_json:
        print_json({"folder": str(into / name), **record.model_dump(mode="json")})
    else:
        _print(record, into / name)


def _treatment(name: str) -> By:
    from typing import get_args

    from afbench.errors import UnknownNameError
    from afbench.zoo.treatments import By

    for by in get_args(By):
        if by == name:
            found: By = by
            return found
    raise UnknownNameError("treatment", name, get_args(By))


def _check_free(name: str, catalog: Catalog) -> None:
    from afbench.catalog.yaml_files import display
    from afbench.errors import AfbenchError

    if name in catalog.organisms:
        raise AfbenchError(
            f"an organism '{name}' exists already",
            where=display(catalog.organisms[name].folder),
            fix="choose another --name",
        )


def _train(name: str, plugin_dirs: list[Path], store: Store, progress: TerminalProgress) -> None:
    from afbench.catalog.discovery import discover
    from afbench.zoo.build import build_all

    done_before = 0

    def report(_: str, done: int, total: int) -> None:
        nonlocal done_before
        if not done_before:
            progress.start("train", total)
        progress.advance("train", done - done_before)
        done_before = done

    catalog = discover(plugin_dirs)
    for built in build_all([name], catalog, plugin_dirs, store, force=False, jobs=1, report=report):
        if built.trained:
            progress.say(f"{built.name}: trained in {built.seconds:.0f} s")


def _measure(
    subject: Subject,
    by: By,
    name: str,
    catalog: Catalog,
    store: Store,
    scenarios: int,
    progress: TerminalProgress,
) -> TreatmentRecord:
    """Certify both organisms, compare them, and write what was found into the new folder."""
    from afbench.cases.access import OrganismAccess
    from afbench.certification.card import write_card
    from afbench.certification.certificate import write_certificate
    from afbench.certification.certify import Certifier
    from afbench.certification.treatment import FILE, TreatmentRecord, changes_table, compare
    from afbench.models.loading import ModelStore
    from afbench.store import write_bytes, write_json
    from afbench.zoo.treat import card_head

    treated = catalog.get("organism", name)
    access = OrganismAccess(ModelStore(catalog), catalog, store)
    certifier = Certifier(access, catalog, scenarios)
    progress.start("certify", 2)
    before = certifier.certify(subject.plugin)
    progress.advance("certify", 1)
    after = certifier.certify(treated)
    progress.advance("certify", 1)
    changes = compare(
        access,
        subject.templates.environment,
        before.organism,
        after.organism,
        scenarios,
        known_families=subject.known_families if by == "adversarial" else (),
        sentence=subject.inoculation if by == "inoculation" else "",
    )
    record = TreatmentRecord.of(by, before, after, changes)
    write_json(treated.folder / FILE, record.model_dump(mode="json"))
    head = f"{card_head(subject, by, name)}\n{changes_table(changes)}"
    write_bytes(treated.folder / "card.md", head.encode())
    write_certificate(treated, after)
    write_card(treated, after)
    return record


def _print(record: TreatmentRecord, folder: Path) -> None:
    from afbench.certification.treatment import FILE
    from afbench.cli.output import print_table

    columns = ("where", "gap", "before", "after", "difference", "verdict")
    title = f"{record.before.organism} treated by {record.by}, {record.scenarios} scenarios"
    print_table(title, columns, [_row(change) for change in record.changes])
    for side in (record.before, record.after):
        labels = ", ".join(f"{count} {label}" for label, count in side.labels.items() if count)
        print(f"{side.organism}: {side.status}; {labels}")
    print(f"Result: {folder / FILE}")


def _row(change: Change) -> tuple[str, ...]:
    figures = (change.before, change.after, change.difference)
    shown = tuple(figure.format() for figure in figures)
    return (change.where, change.gap, *shown, change.verdict)
