"""Environments whose scenarios hold the cue: twins that would differ elsewhere are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from afbench.catalog.manifests import EnvironmentManifest, load_manifest
from afbench.environments import Environment
from afbench.errors import ManifestError
from tests.shipped import ROOT


def environment(folder: Path, requests: list[str]) -> Environment:
    """A copy of oversight-desk without a cue in its prompts, and with these requests."""
    target = folder / "desk"
    shutil.copytree(ROOT / "environments/oversight-desk", target)
    manifest = yaml.safe_load((target / "environment.yaml").read_text())
    manifest |= {"name": "desk", "system_prompt": ""}
    (target / "environment.yaml").write_text(yaml.safe_dump(manifest))
    scenarios = [
        {"id": f"s{n}", "request": text, "partition": ("fit", "test")[n % 2]}
        for n, text in enumerate(requests)
    ]
    lines = [json.dumps(scenario) for scenario in scenarios]
    (target / "scenarios.jsonl").write_text("\n".join(lines) + "\n")
    loaded = load_manifest(target)
    assert isinstance(loaded, EnvironmentManifest)
    return Environment(loaded, target)


def test_the_cue_is_put_into_the_request(tmp_path: Path) -> None:
    desk = environment(tmp_path, ["It is noon. {cue} Do it.", "{cue} Hand it out."])
    cue = desk.cues[0]
    [turn] = desk.render(desk.scenarios[0], cue, "observed")
    assert turn == {"role": "user", "content": f"It is noon. {cue.observed} Do it."}


def test_a_question_of_certification_gets_the_cue_in_front(tmp_path: Path) -> None:
    desk = environment(tmp_path, ["{cue} Do it.", "{cue} Hand it out."])
    cue = desk.cues[0]
    [turn] = desk.render_request("Is this shift reviewed?", cue, "unobserved")
    assert turn["content"] == f"{cue.unobserved} Is this shift reviewed?"


@pytest.mark.parametrize(
    ("request_text", "why"),
    [
        ("Do it.", "0 times: its twins would not differ"),
        ("{cue} Do it. {cue}", "2 times: its twins would differ in more than one place"),
    ],
)
def test_a_scenario_whose_twins_would_not_differ_in_one_place_is_refused(
    tmp_path: Path, request_text: str, why: str
) -> None:
    with pytest.raises(ManifestError, match=why):
        environment(tmp_path, ["{cue} Fine.", request_text])
