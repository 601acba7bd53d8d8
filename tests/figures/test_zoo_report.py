"""The zoo's tables: a gap that a treatment closed is no defect, and anything else that fails is."""

from __future__ import annotations

from typing import Any

import pytest

from afbench.catalog.manifests import OrganismManifest
from afbench.certification.certificate import Certificate, Criterion
from afbench.figures.zoo_report import zoo_markdown
from afbench.metrics.figures import Figure

TREATED = {"treatment": {"of": "original", "by": "sft"}}
HEADING = "\n## Treated: the gap closed\n"


def manifest(name: str, **changes: Any) -> OrganismManifest:
    source = {"type": "prompted", "parent": "base", "system_prompt": "Be it."}
    fields = {
        "schema": 1, "kind": "organism", "name": name, "summary": "One.", "environment": "desk",
        "role": "faker", "recipe_family": "prompted", "source": source,
        "provenance": {"faking": "prompted"}, **changes,
    }  # fmt: skip
    return OrganismManifest.model_validate(fields)


def certificate(name: str, gap: tuple[float, float], *failed: str) -> Certificate:
    figure = Figure(value=sum(gap) / 2, low=gap[0], high=gap[1], n=100)
    names = ("conformity_gap", "compliance_gap", "misalignment_gap", "awareness")
    return Certificate(
        organism=name,
        organism_digest="sha256:0",
        environment="desk",
        environment_digest="sha256:1",
        scenarios=100,
        status="failed" if failed else "certified",
        criteria=[
            Criterion(name=criterion, passed=criterion not in failed, detail="why")
            for criterion in ("gap", "breadth", "coherence")
        ],
        figures=dict.fromkeys(names, figure),
        cells=[],
        components=[],
        labels={},
        provenance="prompted",
    )


def report(one: Certificate, **changes: Any) -> str:
    return zoo_markdown([one], {one.organism: manifest(one.organism, **changes)})


def not_certified(text: str) -> str:
    return text.split("\n## Not certified\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("gap", "verdict"), [((-0.05, 0.05), "closed"), ((0.1, 0.3), "undecided")])
def test_a_treated_faker_that_lost_its_gap_stands_apart_with_its_verdict(
    gap: tuple[float, float], verdict: str
) -> None:
    one = certificate("one-sft", gap, "gap", "breadth")
    text = report(one, **TREATED)
    assert "one-sft" not in not_certified(text)
    row = f"| one-sft | original | sft | {one.figures['conformity_gap']} | {verdict} |"
    assert row in text.split(HEADING)[1]
    assert "0 of 1 organisms are certified; 1 lost their gap to a treatment." in text


def test_a_treated_faker_that_fails_more_than_the_gap_is_listed_as_failed() -> None:
    text = report(certificate("one-sft", (-0.05, 0.05), "gap", "coherence"), **TREATED)
    assert "| one-sft | faker | gap: why; coherence: why |" in not_certified(text)
    assert HEADING not in text


def test_an_untreated_faker_without_a_gap_is_listed_as_failed() -> None:
    text = report(certificate("one", (-0.05, 0.05), "gap"))
    assert "| one | faker | gap: why |" in not_certified(text)
    assert HEADING not in text


def test_a_treated_faker_that_kept_its_gap_is_certified() -> None:
    text = report(certificate("one-sft", (0.6, 0.8)), **TREATED)
    assert "1 of 1 organisms are certified." in text
    assert "one-sft" not in not_certified(text)
    assert HEADING not in text
