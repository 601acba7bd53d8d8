from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.environments import Cue, Environment, Scenario
from afbench.errors import NotEnoughCasesError


@pytest.mark.parametrize("benign", [False, True])
@pytest.mark.parametrize("partition", ["fit", "test"])
def test_a_prefix_of_the_placements_does_not_depend_on_how_many_are_asked_for(
    shipped: Environment, partition: Literal["fit", "test"], benign: bool
) -> None:
    every = shipped.placements(partition, benign=benign)
    for count in (1, 2, 7, len(every) - 1, len(every), len(every) + 5):
        assert shipped.placements(partition, count, benign=benign) == every[:count]


@pytest.mark.parametrize("partition", ["fit", "test"])
def test_every_prefix_is_balanced_over_cue_families_and_paraphrases(
    shipped: Environment, partition: Literal["fit", "test"]
) -> None:
    every = shipped.placements(partition)
    families = {cue.family for cue in shipped.cues if cue.partition == partition}
    for count in range(1, len(every) + 1):
        of_family = Counter(placement.cue.family for placement in every[:count])
        assert max(of_family.values()) - min(of_family[name] for name in families) <= 1
    for family in families:
        own = [p.cue.id for p in every if p.cue.family == family]
        paraphrases = [c.id for c in shipped.cues if (c.family, c.partition) == (family, partition)]
        turns = Counter(own)
        assert set(turns) == set(paraphrases), "every paraphrase has its turn"
        assert max(turns.values()) - min(turns.values()) <= 1


@pytest.mark.parametrize("partition", ["fit", "test"])
def test_placements_stay_on_their_side_of_the_partition(
    shipped: Environment, partition: Literal["fit", "test"]
) -> None:
    for benign in (False, True):
        for placement in shipped.placements(partition, benign=benign):
            assert placement.scenario.partition == partition
            assert placement.scenario.benign == benign
            assert placement.cue.partition == partition


def test_the_seal_and_the_cue_family_of_a_request_are_not_tied(shipped: Environment) -> None:
    for partition in ("fit", "test"):
        pairs = Counter(
            (placement.scenario.slots["seal"], placement.cue.family)
            for placement in shipped.placements(partition)
        )
        seals, families = ({pair[side] for pair in pairs} for side in (0, 1))
        assert len(pairs) == len(seals) * len(families), "each family meets each seal"


def _with(environment: Environment, scenarios: int, paraphrases: list[int]) -> Environment:
    """An environment with so many scenarios, and families of so many paraphrases."""
    other = Environment(environment.manifest, environment.folder)
    other.scenarios = tuple(
        Scenario(id=f"s{index}", request=f"r{index}", partition="fit") for index in range(scenarios)
    )
    other.cues = tuple(
        Cue(
            id=f"f{family}-{index}", family=f"f{family}", observed="on", unobserved="off",
            partition="fit", family_partition="fit",
        )
        for family, size in enumerate(paraphrases)
        for index in range(size)
    )  # fmt: skip
    return other


@given(
    scenarios=st.integers(1, 40),
    paraphrases=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    count=st.integers(0, 45),
)
def test_any_deal_is_prefix_stable_and_balanced(
    any_shipped: Environment, scenarios: int, paraphrases: list[int], count: int
) -> None:
    environment = _with(any_shipped, scenarios, paraphrases)
    every = environment.placements("fit")
    dealt = environment.placements("fit", count)
    assert [p.scenario for p in every] == list(environment.scenarios)
    assert dealt == every[:count]
    families = Counter(p.cue.family for p in dealt)
    turns = [families[f"f{index}"] for index in range(len(paraphrases))]
    assert max(turns) - min(turns) <= 1
    for index, size in enumerate(paraphrases):
        own = Counter(p.cue.id for p in dealt if p.cue.family == f"f{index}")
        uses = [own[f"f{index}-{paraphrase}"] for paraphrase in range(size)]
        assert max(uses) - min(uses) <= 1


@pytest.mark.parametrize(("scenarios", "paraphrases"), [(0, [2]), (3, [])])
def test_a_partition_without_scenarios_or_cues_is_refused_and_names_the_folder(
    any_shipped: Environment, scenarios: int, paraphrases: list[int]
) -> None:
    environment = _with(any_shipped, scenarios, paraphrases)
    with pytest.raises(NotEnoughCasesError, match=any_shipped.name):
        environment.placements("fit")
