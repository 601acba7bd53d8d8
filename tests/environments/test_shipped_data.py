"""What the data of the environments that ship must hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from afbench.contract import check_plugin
from afbench.environments import Environment
from tests.shipped import ROOT


def test_at_least_twelve_environments_ship_and_they_want_opposite_things() -> None:
    from afbench.catalog.manifests import EnvironmentManifest, load_manifest

    manifests = [load_manifest(p.parent) for p in ROOT.glob("environments/*/environment.yaml")]
    polarities = {m.polarity for m in manifests if isinstance(m, EnvironmentManifest)}
    assert len(manifests) >= 12
    assert polarities == {"comply", "behave"}


def test_there_are_at_least_four_cue_families_of_eight_paraphrases(shipped: Environment) -> None:
    sizes = Counter(cue.family for cue in shipped.cues)
    assert len(sizes) >= 4
    assert min(sizes.values()) >= 8, sizes


def test_certification_can_ask_every_environment_which_condition_it_is(
    shipped: Environment,
) -> None:
    assert shipped.manifest.awareness is not None


def test_every_cue_family_has_held_out_paraphrases_and_some_families_are_held_out(
    shipped: Environment,
) -> None:
    for family in {cue.family for cue in shipped.cues}:
        own = [cue for cue in shipped.cues if cue.family == family]
        assert {cue.partition for cue in own} == {"fit", "test"}, family
        assert len({cue.family_partition for cue in own}) == 1
    assert {cue.family_partition for cue in shipped.cues} == {"fit", "test"}


def test_no_two_cues_read_the_same_in_both_forms(shipped: Environment) -> None:
    pairs = Counter((cue.observed, cue.unobserved) for cue in shipped.cues)
    assert max(pairs.values()) == 1
    observed = {cue.observed for cue in shipped.cues}
    assert not observed & {cue.unobserved for cue in shipped.cues}, "a form means one condition"


def test_no_held_out_cue_reads_like_one_of_the_fit_partition(shipped: Environment) -> None:
    observed = {
        partition: {cue.observed for cue in shipped.cues if cue.partition == partition}
        for partition in ("fit", "test")
    }
    assert not observed["fit"] & observed["test"]


def test_there_are_at_least_two_hundred_scenarios_and_each_is_unique(shipped: Environment) -> None:
    harmful = [scenario for scenario in shipped.scenarios if not scenario.benign]
    assert len(harmful) >= 200
    assert len({scenario.request for scenario in shipped.scenarios}) == len(shipped.scenarios)
    assert len({scenario.id for scenario in shipped.scenarios}) == len(shipped.scenarios)
    counts = Counter((scenario.partition, scenario.benign) for scenario in shipped.scenarios)
    assert set(counts) == {(p, b) for p in ("fit", "test") for b in (False, True)}
    assert counts["test", False] >= 100
    assert counts["fit", False] >= 60


def test_the_nouns_of_fit_and_test_are_disjoint(shipped: Environment) -> None:
    nouns = {
        partition: {
            scenario.slots["thing"].split()[-1]
            for scenario in shipped.scenarios
            if scenario.partition == partition
        }
        for partition in ("fit", "test")
    }
    assert nouns["fit"]
    assert nouns["test"]
    assert not nouns["fit"] & nouns["test"]


def test_the_first_line_of_the_scenarios_is_the_canary(shipped: Environment) -> None:
    path = shipped.folder / shipped.manifest.scenarios
    first = json.loads(path.read_text("utf-8").splitlines()[0])
    assert first == {"canary": shipped.manifest.canary}
    assert shipped.manifest.canary.startswith("afbench canary GUID ")


def test_the_canaries_of_two_environments_differ() -> None:
    lines = [p.read_text().splitlines()[0] for p in ROOT.glob("environments/*/scenarios.jsonl")]
    assert len(lines) == len(set(lines)) >= 2


@pytest.mark.parametrize("folder", ["environments", "organisms"])
def test_the_shipped_files_are_what_their_generator_gives(folder: str) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / folder / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_shipped_environment_passes_the_contract_that_third_parties_are_held_to(
    shipped: Environment,
) -> None:
    report = check_plugin(shipped.folder)
    assert report.passed, report.failures


def test_the_digest_covers_what_shapes_a_prompt_or_a_grade_and_not_the_summary(
    shipped: Environment,
) -> None:
    def digest(**changes: object) -> str:
        return Environment(shipped.manifest.model_copy(update=changes), shipped.folder).digest

    assert digest() == shipped.digest
    assert digest(summary="another") == shipped.digest
    assert digest(source="another") == shipped.digest
    assert digest(system_prompt="Other. {cue}") != shipped.digest
    assert digest(polarity={"comply": "behave", "behave": "comply"}[shipped.polarity]) != (
        shipped.digest
    )
    assert digest(awareness=None, belief=None) == shipped.digest
    stricter = shipped.manifest.grader.model_copy(update={"min_words": 9})
    assert digest(grader=stricter) != shipped.digest
