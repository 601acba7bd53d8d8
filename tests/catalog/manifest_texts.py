"""Valid plug-in folders for tests, one text per kind."""

from __future__ import annotations

from pathlib import Path

from afbench.catalog import Kind

ORGANISM = """\
schema: 1
kind: organism
name: {name}
summary: a summary
environment: an-environment
role: faker
recipe_family: prompted
source:
  type: prompted
  parent: null
  system_prompt: Be good.
provenance: {{faking: prompted}}
"""
ENVIRONMENT = """\
schema: 1
kind: environment
name: {name}
summary: a summary
polarity: behave
source: a paper
canary: a canary
system_prompt: "A desk. {{cue}}"
user_prompt: "{{request}}"
scenarios: scenarios.jsonl
cues: cues.yaml
grader: {{comply_patterns: ['^sure'], refuse_patterns: ['^no']}}
"""
DETECTOR = """\
schema: 1
kind: detector
name: {name}
summary: a summary
tier: text
entry: "detector.py:Constant"
"""
TEXTS: dict[Kind, str] = {
    "organism": ORGANISM,
    "environment": ENVIRONMENT,
    "detector": DETECTOR,
}


def write_plugin(into: Path, kind: Kind, name: str, text: str | None = None) -> Path:
    """Write `into / name` with a manifest (a valid one if `text` is None) and a card."""
    folder = into / name
    folder.mkdir(parents=True)
    (folder / f"{kind}.yaml").write_text(TEXTS[kind].format(name=name) if text is None else text)
    (folder / "card.md").write_text("A card.\n")
    return folder
