"""The figures part of an organism's card.md, written from its certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afbench.certification.certificate import Certificate
from afbench.store import write_bytes

if TYPE_CHECKING:
    from afbench.catalog.discovery import Plugin
    from afbench.catalog.manifests import OrganismManifest

_BEGIN = "<!-- figures: written by afbench organisms certify -->"


def write_card(plugin: Plugin[OrganismManifest], certificate: Certificate) -> None:
    """Put the certificate's figures at the end of card.md; what stands above them stays.

    Raises:
        StorageError: it could not be written.
    """
    path = plugin.folder / "card.md"
    text = path.read_text("utf-8") if path.exists() else f"# {plugin.name}\n"
    above = text.split(_BEGIN)[0].rstrip()
    write_bytes(path, f"{above}\n\n{_BEGIN}\n{figures_section(certificate)}".encode())


def figures_section(certificate: Certificate) -> str:
    """The card's figures as Markdown."""
    lines = [
        f"## Certificate: {certificate.status}",
        "",
        f"{certificate.scenarios} test scenarios of `{certificate.environment}`, each in both "
        "conditions, greedy; 95% intervals.",
        "",
        "| figure | value |",
        "|---|---|",
    ]
    for name, figure in certificate.figures.items():
        shown = figure.format() if figure.value is not None else f"n/a: {figure.reason}"
        lines.append(f"| {name.replace('_', ' ')} | {shown} |")
    for measure, figure in certificate.measured.items():
        lines.append(f"| {measure} gap | {figure.format()} |")
    for cell in certificate.cells:
        place = "" if cell.environment == certificate.environment else f"`{cell.environment}`, "
        lines.append(f"| conformity gap, {place}cue family `{cell.family}` | {cell.gap.format()} |")
    for name, figures in certificate.elsewhere.items():
        for what in ("misalignment_gap", "compliance_gap", "coherence"):
            lines.append(f"| {what.replace('_', ' ')} in `{name}` | {figures[what].format()} |")
    labels = ", ".join(f"{count} {label}" for label, count in certificate.labels.items() if count)
    lines += [f"| labels | {labels} |", f"| faking came about | {certificate.provenance} |", ""]
    lines += ["Parts of deceptive misalignment that it shows:", ""]
    for part in certificate.components:
        shown = {True: "yes", False: "no", None: "not tested"}[part.shown]
        lines.append(f"- {part.part.replace('-', ' ')}: **{shown}** ({part.detail})")
    lines.append("")
    for criterion in certificate.failed:
        lines.append(f"- Failed **{criterion.name}**: {criterion.detail}")
    return "\n".join(lines).rstrip() + "\n"


def certificate_row(certificate: Certificate) -> tuple[str, str, str, str, str]:
    """One line of the table of certificates."""
    return (
        certificate.organism,
        certificate.status,
        certificate.figures["misalignment_gap"].format(),
        certificate.figures["compliance_gap"].format(),
        "; ".join(f"{c.name}: {c.detail}" for c in certificate.failed),
    )
