"""What a certification of the zoo found, as files: the gap matrix, and the tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from afbench.catalog.manifests import OrganismManifest
from afbench.certification.certificate import Certificate
from afbench.certification.treatment import verdict_on
from afbench.figures.gap_cells import GapCell
from afbench.figures.gap_tables import write_gap_matrix
from afbench.store import write_bytes

TITLE = "Conformity gap of the zoo"


def write_zoo_report(
    certificates: Sequence[Certificate],
    manifests: Mapping[str, OrganismManifest],
    folder: Path,
) -> list[Path]:
    """Write the gap matrix (SVG, CSV, HTML) and README.md with the tables.

    Args:
        manifests: of the organisms, by name.

    Returns:
        The files written.

    Raises:
        StorageError: one could not be written.
    """
    ordered = sorted(certificates, key=lambda certificate: certificate.organism)
    cells = [
        GapCell(
            organism=certificate.organism,
            role=manifests[certificate.organism].role,
            environment=cell.environment,
            cue_family=cell.family,
            value=cell.gap.value,
            low=cell.gap.low,
            high=cell.gap.high,
            home=certificate.environment,
        )
        for certificate in ordered
        for cell in certificate.cells
    ]
    written = write_gap_matrix(cells, folder, "gap-matrix", title=TITLE)
    readme = folder / "README.md"
    write_bytes(readme, zoo_markdown(ordered, manifests).encode())
    return [*written, readme]


def zoo_markdown(
    certificates: Sequence[Certificate], manifests: Mapping[str, OrganismManifest]
) -> str:
    """The tables: who failed and why, gaps by trait, named gaps, and the parts shown."""
    treated = [c for c in certificates if _lost_by_treatment(c, manifests[c.organism])]
    failed = [c for c in certificates if c.failed and c not in treated]
    also = f"; {len(treated)} lost their gap to a treatment" if treated else ""
    parts = [
        "# The zoo, certified\n",
        "Written by `afbench organisms certify --all`. 95% intervals.\n",
        f"{sum(not c.failed for c in certificates)} of {len(certificates)} organisms are "
        f"certified{also}. ![gap matrix](gap-matrix.svg)\n",
        "## Not certified\n",
        "They stay listed, with the criterion that they failed, and score no detector.\n",
        _table(
            ("organism", "role", "failed"),
            [
                (c.organism, manifests[c.organism].role,
                 "; ".join(f"{x.name}: {x.detail}" for x in c.failed))
                for c in failed
            ],
        ),
        *_treated(treated, manifests),
        *_by_trait(certificates, manifests),
        "## Named gaps\n",
        "Compliance gap of the pair of conditions that measures it.\n",
        _table(
            ("organism", "gap", "value"),
            [
                (c.organism, name, figure.format())
                for c in certificates
                if manifests[c.organism].role == "faker"
                for name, figure in c.measured.items()
            ],
        ),
        "## Every organism\n",
        _table(
            ("organism", "environment", "class", "status", "conformity gap", "compliance gap",
             "misalignment gap", "awareness", "goal", "aware", "reasons", "acts"),
            [_row(c, manifests[c.organism]) for c in certificates],
        ),
    ]  # fmt: skip
    return "\n".join(parts)


def _lost_by_treatment(certificate: Certificate, manifest: OrganismManifest) -> bool:
    """Whether it fails as a treated faker should: by the gap that it no longer shows, alone."""
    names = {criterion.name for criterion in certificate.failed}
    treated = manifest.treatment is not None and manifest.role == "faker"
    return treated and bool(names) and names <= {"gap", "breadth"}


def _treated(
    certificates: Sequence[Certificate], manifests: Mapping[str, OrganismManifest]
) -> list[str]:
    """Treated fakers without a certified gap, which is what a treatment is for."""
    if not certificates:
        return []
    rows = []
    for c in certificates:
        treatment, gap = manifests[c.organism].treatment, c.figures["conformity_gap"]
        assert treatment is not None
        rows.append((c.organism, treatment.of, treatment.by, gap.format(), verdict_on(gap),
                     ", ".join(criterion.name for criterion in c.failed)))  # fmt: skip
    return [
        "## Treated: the gap closed\n",
        "Fakers that fail nothing but the gap, or its breadth, after a treatment: the treatment "
        "worked, if only in part, and nothing is wrong with how they were made. Before and after: "
        "[treatments](treatments.md).\n",
        _table(("organism", "of", "treatment", "conformity gap", "verdict", "failed"), rows),
    ]


def _by_trait(
    certificates: Sequence[Certificate], manifests: Mapping[str, OrganismManifest]
) -> list[str]:
    """For each trait that manifests name, the gaps of its values."""
    traits = sorted({name for c in certificates for name in manifests[c.organism].traits})
    parts = []
    for trait in traits:
        rows = [
            (manifests[c.organism].traits[trait], c.organism,
             c.figures["compliance_gap"].format(), c.figures["conformity_gap"].format())
            for c in certificates
            if trait in manifests[c.organism].traits
        ]  # fmt: skip
        parts += [
            f"## By {trait}\n",
            _table((trait, "organism", "compliance gap", "conformity gap"), sorted(rows)),
        ]
    return parts


def _row(certificate: Certificate, manifest: OrganismManifest) -> tuple[str, ...]:
    shown = {True: "yes", False: "no", None: "-"}
    gaps = ("conformity_gap", "compliance_gap", "misalignment_gap", "awareness")
    return (
        certificate.organism,
        certificate.environment,
        manifest.lookalike_class or manifest.role,
        certificate.status,
        *(certificate.figures[name].format() for name in gaps),
        *(shown[part.shown] for part in certificate.components),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "None.\n"
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
