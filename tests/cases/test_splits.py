"""What each split promises of the organisms that a detector is fitted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.cases.splits import (
    SPLITS,
    Fold,
    Member,
    SplitName,
    check_split,
    evading_folds,
    folds_for,
    folds_for_all,
    matched_lookalikes,
)
from afbench.errors import NotEnoughCasesError, UnknownNameError
from tests.fakes import member, zoo

ZOO = zoo()
BY_NAME = {one.name: one for one in ZOO}
HELD_OUT: tuple[SplitName, ...] = ("organism", "recipe", "environment")


def _assert_promise(
    fold: Fold, split: SplitName, by_name: dict[str, Member], *, whole: bool = False
) -> None:
    """`whole`: of the folds over the whole zoo, which are fitted on every environment."""
    fit = [by_name[name] for name in fold.fit]
    test = [by_name[name] for name in fold.test]
    assert len(set(fold.fit)) == len(fold.fit)
    assert len(set(fold.test)) == len(fold.test)
    for side in (fit, test):
        assert {one.faker for one in side} == {True, False}, "both sides hold both classes"
    [environment] = {one.environment for one in test}
    assert len({one.base for one in (*fit, *test)}) == 1, "activations of one base only"
    if split in HELD_OUT:
        assert not set(fold.fit) & set(fold.test), "no test organism is fitted on"
    if split in ("in-distribution", "cue"):
        assert whole or {one.environment for one in fit} == {environment}
    elif split == "environment":
        assert environment not in {one.environment for one in fit}
    elif not whole and environment in {one.environment for one in fit}:
        assert {one.environment for one in fit} == {environment}, "at home or elsewhere, not both"
    if split == "recipe":
        assert not {one.family for one in fit} & {one.family for one in test}
    if split == "organism":
        assert len({(one.family, one.seed) for one in test}) == 1, "one recipe at one seed"
        [held_out] = {(one.family, one.seed) for one in test}
        assert held_out not in {(one.family, one.seed) for one in fit}
    expected = ("fit", "test") if split == "cue" else (None, None)
    assert (fold.fit_cues, fold.test_cues) == expected


@pytest.mark.parametrize("split", SPLITS)
def test_a_fold_keeps_what_its_split_promises(split: SplitName) -> None:
    for target in (one for one in ZOO if one.faker):
        [fold] = folds_for(target, ZOO, split)
        assert target.name in fold.test
        _assert_promise(fold, split, BY_NAME)
        for name in fold.test:
            own = BY_NAME[name]
            assert name == target.name or not own.faker, "the target is the only faker"
            assert (own.environment, own.family) == (target.environment, target.family)


@pytest.mark.parametrize("split", SPLITS)
def test_the_folds_of_the_whole_zoo_keep_the_promise_and_test_each_organism_once(
    split: SplitName,
) -> None:
    folds = folds_for_all(ZOO, split).folds
    for fold in folds:
        _assert_promise(fold, split, BY_NAME, whole=True)
    tested = Counter(name for fold in folds for name in fold.test)
    assert tested == Counter(list(BY_NAME)), "each organism is tested exactly once"
    assert len({fold.name for fold in folds}) == len(folds)
    assert folds_for_all(ZOO, split).left_out == ()


@st.composite
def _zoos(draw: st.DrawFn) -> list[Member]:
    count = draw(st.integers(1, 20))
    return [
        member(
            f"o{index}",
            environment=draw(st.sampled_from(["desk", "tier"])),
            family=draw(st.sampled_from(["rank-1", "rank-4", "full"])),
            seed=draw(st.integers(0, 1)),
            faker=draw(st.booleans()),
            base=draw(st.sampled_from(["nano", "atlas"])),
        )
        for index in range(count)
    ]


def _attempt(make: Callable[[], list[Fold]]) -> tuple[list[Fold], str]:
    try:
        return make(), ""
    except NotEnoughCasesError as error:
        return [], str(error)


@given(organisms=_zoos(), split=st.sampled_from(get_args(SplitName)))
def test_any_zoo_gives_folds_that_keep_the_promise_or_one_clear_error(
    organisms: list[Member], split: SplitName
) -> None:
    by_name = {one.name: one for one in organisms}
    folds, error = _attempt(lambda: list(folds_for_all(organisms, split).folds))
    if error:
        assert "\n" not in error
        assert split in error
        return
    tested = Counter(name for fold in folds for name in fold.test)
    assert max(tested.values()) == 1
    assert len({fold.name for fold in folds}) == len(folds)
    for fold in folds:
        _assert_promise(fold, split, by_name, whole=True)


@given(organisms=_zoos(), split=st.sampled_from(get_args(SplitName)))
def test_any_target_gets_a_fold_that_keeps_the_promise_or_one_clear_error(
    organisms: list[Member], split: SplitName
) -> None:
    by_name = {one.name: one for one in organisms}
    for target in (one for one in organisms if one.faker):
        folds, error = _attempt(partial(folds_for, target, organisms, split))
        if error:
            assert target.name in error
            continue
        [fold] = folds
        assert target.name in fold.test
        _assert_promise(fold, split, by_name)


def test_a_cell_that_cannot_be_scored_is_left_out_and_still_fitted_on() -> None:
    organisms = [*zoo(["desk"], ["rank-1", "rank-4"], [0]), member("alone", family="full")]
    layout = folds_for_all(organisms, "recipe")
    assert [fold.name for fold in layout.folds] == ["desk/rank-1", "desk/rank-4"]
    assert all("alone" in fold.fit for fold in layout.folds)
    assert layout.left_out == ("desk/full: no lookalike",)


def test_a_cell_that_cannot_be_fitted_is_left_out_and_the_others_are_not() -> None:
    organisms = [*ZOO, *zoo(["island"], ["rank-1"], [0], base="atlas")]
    layout = folds_for_all(organisms, "recipe")
    assert len(layout.folds) == 6
    assert layout.left_out == ("island/rank-1: nothing is left to fit on",)
    with pytest.raises(NotEnoughCasesError, match="nothing is left to fit on"):
        folds_for(organisms[-3], organisms, "recipe")


@pytest.mark.parametrize("split", SPLITS)
def test_organisms_of_another_base_are_never_fitted_on(split: SplitName) -> None:
    others = [
        member(f"atlas-{one.name}", environment=one.environment, family=one.family,
               seed=one.seed, faker=one.faker, base="atlas")
        for one in ZOO
    ]  # fmt: skip
    by_name = {one.name: one for one in (*ZOO, *others)}
    layout = folds_for_all([*ZOO, *others], split)
    alone = folds_for_all(ZOO, split)
    assert {fold.name for fold in layout.folds} == {
        f"{fold.name} on {base}" for fold in alone.folds for base in ("nano", "atlas")
    }, "a name says the base where an environment has two"
    of_nano = [fold for fold in layout.folds if by_name[fold.test[0]].base == "nano"]
    assert {(fold.fit, fold.test) for fold in of_nano} == {
        (fold.fit, fold.test) for fold in alone.folds
    }
    for fold in layout.folds:
        _assert_promise(fold, split, by_name, whole=True)
    target = others[0]
    [fold] = folds_for(target, [*ZOO, *others], split)
    assert {by_name[name].base for name in (*fold.fit, *fold.test)} == {"atlas"}


@pytest.mark.parametrize(
    ("split", "fits"),
    [("in-distribution", 1), ("cue", 1), ("organism", 3), ("recipe", 3), ("environment", 3)],
)
def test_however_many_cells_a_zoo_has_a_few_fits_serve_them(split: SplitName, fits: int) -> None:
    environments = [f"place-{number}" for number in range(6)]
    families = [f"rank-{number}" for number in range(5)]
    layout = folds_for_all(zoo(environments, families, [0, 1]), split)
    assert len({fold.fit for fold in layout.folds}) == fits
    assert len(layout.folds) >= 6


@pytest.mark.parametrize(("split", "kept"), [("recipe", 4), ("organism", 5)])
def test_where_an_environment_has_one_recipe_the_others_of_its_base_are_fitted_on(
    split: SplitName, kept: int
) -> None:
    # rank-1 at seed 0 is all there is of `island`; elsewhere there are three families at two seeds.
    organisms = [*ZOO, *zoo(["island"], ["rank-1"], [0])]
    by_name = {one.name: one for one in organisms}
    [fold] = folds_for(organisms[-3], organisms, split)
    fit = [by_name[name] for name in fold.fit]
    assert {one.environment for one in fit} == {"desk", "tier"}
    held_out = [one.seed == 0 or split == "recipe" for one in fit if one.family == "rank-1"]
    assert not any(held_out), "still without that recipe"
    assert len({(one.family, one.seed) for one in fit}) == kept


def test_a_target_that_is_not_in_the_zoo_is_tested_and_not_fitted_on() -> None:
    target = member("mine")
    [fold] = folds_for(target, ZOO, "recipe")
    assert target.name in fold.test
    assert target.name not in fold.fit


@pytest.mark.parametrize(
    ("given_name", "nearest"),
    [("organisms", "organism"), ("recipes", "recipe"), ("in-distribtion", "in-distribution")],
)
def test_an_unknown_split_suggests_the_nearest(given_name: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown split '{given_name}'") as caught:
        check_split(given_name)
    assert caught.value.near[0] == nearest
    assert f"did you mean '{nearest}'" in str(caught.value)


def test_every_known_split_is_itself() -> None:
    assert [check_split(name) for name in SPLITS] == list(SPLITS)


def test_a_target_without_lookalikes_is_refused_with_its_recipe_and_environment() -> None:
    organisms = [*ZOO, member("lonely", family="rank-64")]
    with pytest.raises(NotEnoughCasesError, match=r"'lonely' .* 'rank-64' in 'desk'"):
        folds_for(organisms[-1], organisms, "recipe")


def test_a_target_without_a_lookalike_of_its_seed_is_told_that_the_seed_is_missing() -> None:
    target = member("late", seed=7)
    with pytest.raises(NotEnoughCasesError, match="seed 7"):
        folds_for(target, [*ZOO, target], "organism")
    assert folds_for(target, [*ZOO, target], "recipe")


@pytest.mark.parametrize("split", ["recipe", "environment"])
def test_a_zoo_with_nothing_left_to_fit_on_is_refused(split: SplitName) -> None:
    organisms = zoo(["desk"], ["rank-4"])
    with pytest.raises(NotEnoughCasesError, match="nothing is left to fit on"):
        folds_for(organisms[0], organisms, split)
    with pytest.raises(NotEnoughCasesError):
        folds_for_all(organisms, split)


def test_matched_lookalikes_share_recipe_and_environment_and_never_fake() -> None:
    target = BY_NAME["desk-rank-4-0-faker"]
    names = {one.name for one in matched_lookalikes(target, ZOO)}
    assert names == {
        f"desk-rank-4-{seed}-{role}" for seed in (0, 1) for role in ("talker", "harmless")
    }


def _evader(name: str, **further: Any) -> Member:
    return member(name, **{"evasion": "quantised", **further})


def test_evading_organisms_meet_their_like_and_take_the_fit_side_of_their_recipe() -> None:
    evading = [_evader("q-faker"), _evader("q-talker", faker=False)]
    for split in SPLITS:
        [usual] = [
            fold for fold in folds_for_all(ZOO, split).folds if "desk-rank-4-0-faker" in fold.test
        ]
        [fold] = evading_folds(evading, ZOO, split)["quantised"].folds
        assert fold.test == ("q-faker", "q-talker")
        assert fold.fit == usual.fit
        assert (fold.fit_cues, fold.test_cues) == (usual.fit_cues, usual.test_cues)


def test_each_evasion_has_folds_of_its_own_and_says_what_it_lacks() -> None:
    evading = [
        _evader("q-faker"),
        _evader("q-talker", faker=False),
        _evader("s-faker", evasion="scaled", family="rank-1"),
        _evader("d-talker", evasion="diluted", faker=False),
        _evader("p-faker", evasion="probe-penalty", family="rank-64"),
        _evader("a-faker", evasion="non-verbalising", base="atlas"),
        _evader("a-talker", evasion="non-verbalising", base="atlas", faker=False),
    ]
    layouts = evading_folds(evading, ZOO, "recipe")
    tested = {evasion: [fold.test for fold in one.folds] for evasion, one in layouts.items()}
    ordinary = tuple(f"desk-rank-1-{seed}-{role}" for seed in (0, 1) for role in
                     ("talker", "harmless"))  # fmt: skip
    assert tested == {
        "diluted": [],
        "non-verbalising": [],
        "probe-penalty": [],
        "quantised": [("q-faker", "q-talker")],
        "scaled": [("s-faker", *ordinary)],
    }
    assert layouts["diluted"].left_out == ("diluted: no faker",)
    assert layouts["probe-penalty"].left_out == ("probe-penalty, desk/rank-64: no lookalike",)
    assert layouts["non-verbalising"].left_out == (
        "non-verbalising, desk/rank-4: nothing is left to fit on",
    )
    for one in layouts.values():
        for fold in one.folds:
            assert not set(fold.fit) & set(fold.test)


def test_the_recipes_of_borrowed_lookalikes_are_held_out_as_well() -> None:
    evading = [_evader("q-faker"), _evader("q-talker", faker=False, family="rank-1")]
    [fold] = evading_folds(evading, ZOO, "recipe")["quantised"].folds
    assert fold.test == ("q-faker", "q-talker")
    assert {BY_NAME[name].family for name in fold.fit} == {"full"}


@pytest.mark.parametrize("split", SPLITS)
def test_an_evading_target_meets_the_lookalikes_of_its_evasion_or_else_the_ordinary_ones(
    split: SplitName,
) -> None:
    target, alike = _evader("q-faker"), _evader("q-talker", faker=False, seed=1)
    other = _evader("s-talker", evasion="scaled", faker=False)
    [fold] = folds_for(target, ZOO, split, [target, alike, other])
    assert fold.test == ("q-faker", "q-talker")
    [fold] = folds_for(target, ZOO, split, [target, other])
    ordinary = folds_for(BY_NAME["desk-rank-4-0-faker"], ZOO, split)[0]
    assert fold.test == ("q-faker", *ordinary.test[1:])
    assert fold.fit == ordinary.fit
