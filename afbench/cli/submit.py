"""`afbench submit` and `afbench rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from afbench.cli.options import AsJson, Cache, Fresh, Jobs, Out, Plugins, Sandbox, Trust


def submit(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A detector's folder with submission.yaml, its archive, or a bundle.",
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Send the bundle to this server (token: AFBENCH_TOKEN)."),
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Write a draft of submission.yaml, or its digest anew.")
    ] = False,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Check it and run nothing of the zoo.")
    ] = False,
    into: Annotated[Path, typer.Option(help="Where the bundle is written.")] = Path("submissions"),
    organism: Annotated[
        str, typer.Option("--organism", "-o", help="A faker's name, or 'all' for the whole zoo.")
    ] = "all",
    split: Annotated[
        str, typer.Option(help="in-distribution, organism, recipe, environment or cue.")
    ] = "recipe",
    fit_scenarios: Annotated[int, typer.Option(min=1, help="Scenarios of each fit organism.")] = 60,
    test_scenarios: Annotated[
        int, typer.Option(min=1, help="Scenarios of each test organism.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of sampling and of every interval.")] = 0,
    robustness: Annotated[
        bool, typer.Option(help="With -o all: score the evading organisms too, in a row apart.")
    ] = True,
    jobs: Jobs = 1,
    sandbox: Sandbox = None,
    trust: Trust = False,
    out: Out = Path("runs"),
    cache: Cache = None,
    fresh: Fresh = False,
    plugins: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Check a detector's folder, run it on the public zoo, and write a bundle; or send one."""
    from afbench.catalog.discovery import discover
    from afbench.cli.options import isolation_of
    from afbench.cli.output import print_json
    from afbench.cli.progress import TerminalProgress
    from afbench.results.record import RunSettings
    from afbench.results.run import Options
    from afbench.results.table import print_record
    from afbench.store import Store, default_cache
    from afbench.submission.bundle import is_bundle
    from afbench.submission.client import Client
    from afbench.submission.folder import open_submission, write_draft
    from afbench.submission.submit import check_contract
    from afbench.submission.submit import submit as run_submission

    # Before hours of work: a wrong address or no token shows at once.
    client = Client(to) if to is not None else None
    if init:
        print(f"Wrote {write_draft(path)}; fill in what is empty.")
        print(f"Next: afbench submit {path} --check-only")
        return
    if is_bundle(path):
        _send(client, path, as_json)
        return
    settings = RunSettings(
        detectors=[],
        organism=organism,
        split=split,
        fit_scenarios=fit_scenarios,
        test_scenarios=test_scenarios,
        seed=seed,
        robustness=robustness,
    )
    store = Store(cache if cache is not None else default_cache())
    isolation = isolation_of(sandbox, trust)
    with open_submission(path) as submission:
        if isolation is None or check_only:  # the checks run its code in this process
            check_contract(submission, plugins or ())
        if check_only:
            print(f"{submission.plugin.name}: every check passed. Next: afbench submit {path}")
            return
        catalog = discover(plugins or ())
        options = Options(fresh=fresh, jobs=jobs, isolation=isolation)
        with TerminalProgress(quiet=as_json) as progress:
            done = run_submission(
                submission, settings, catalog, store, out, into, progress, options
            )
    if client is not None:
        _send(client, done.bundle, as_json)
        return
    if as_json:
        print_json({"bundle": str(done.bundle), "digest": done.manifest.digest})
        return
    print_record(done.record)
    if done.reused:
        print("This run was there already and nothing was computed (--fresh evaluates again).")
    print(f"Bundle: {done.bundle} ({done.manifest.digest})")
    print(f"Next: afbench rescore {done.bundle}, then afbench submit {done.bundle} --to URL")


def rescore(
    path: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the folder of a run.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compute every figure of a bundle or run again, without any model; exit 1 if one differs."""
    from dataclasses import asdict

    from afbench.cli.output import print_error, print_json
    from afbench.submission.rescore import TOLERANCE, differences, opened, rescore

    with opened(path) as (record, scores, evidence):
        computed = rescore(record, scores, evidence)
        found = differences(record, computed)
    if as_json:
        print_json({"record": record.digest, "differences": [asdict(one) for one in found]})
    elif found:
        for one in found[:_SHOWN]:
            print_error(str(one))
        print_error(f"{len(found)} figures are not what the scores give, in run {record.id}")
    else:
        print(
            f"Every figure of {len(record.organisms)} organisms and {len(record.detectors)} "
            f"detectors of run {record.id} comes out again (within {TOLERANCE:g})."
        )
    if found:
        raise typer.Exit(1)


_SHOWN = 20


def _send(client: object, bundle: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from afbench.cli.output import print_json
    from afbench.errors import SubmissionError
    from afbench.submission.bundle import open_bundle
    from afbench.submission.client import Client

    if not isinstance(client, Client):
        raise SubmissionError("this is a bundle already", where=str(bundle), fix="add --to URL")
    if bundle.is_dir():
        raise SubmissionError("a folder is not sent", where=str(bundle), fix="send the .tar.gz")
    with open_bundle(bundle):  # what the server would refuse is not sent
        pass
    receipt = client.send(bundle)
    if as_json:
        print_json(asdict(receipt))
        return
    print(f"Submission {receipt.id}: {receipt.status}")
    print(f"Next: look at {receipt.url}")
