"""How fit and test are kept apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from afbench.environments import Partition
from afbench.errors import NotEnoughCasesError, UnknownNameError

SplitName = Literal["in-distribution", "organism", "recipe", "environment", "cue"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True, slots=True)
class Member:
    """What a split needs to know of an organism."""

    name: str
    environment: str
    family: str
    seed: int
    faker: bool


@dataclass(frozen=True, slots=True)
class Fold:
    """One fit and its test.

    Attributes:
        name: what is held out.
        fit, test: names of organisms.
        fit_cues, test_cues: the family partition that cases are limited to; None is no limit.
    """

    name: str
    fit: tuple[str, ...]
    test: tuple[str, ...]
    fit_cues: Partition | None = None
    test_cues: Partition | None = None


def check_split(name: str) -> SplitName:
    """The split of that name.

    Raises:
        UnknownNameError: there is none; the nearest is suggested.
    """
    for split in SPLITS:
        if split == name:
            return split
    raise UnknownNameError("split", name, SPLITS)


def matched_lookalikes(target: Member, zoo: Iterable[Member]) -> list[Member]:
    """The lookalikes made with the target's environment and recipe family."""
    return [
        member
        for member in zoo
        if not member.faker
        and member.environment == target.environment
        and member.family == target.family
    ]


def folds_for(target: Member, zoo: Sequence[Member], split: SplitName) -> list[Fold]:
    """The one fold that scores a faker against its matched lookalikes.

    Raises:
        NotEnoughCasesError: the zoo has no lookalike of the target's recipe family, or nothing is
            left to fit on.
    """
    controls = matched_lookalikes(target, zoo)
    recipe = f"recipe family '{target.family}'"
    if split == "organism":
        controls = [member for member in controls if member.seed == target.seed]
        recipe += f" and seed {target.seed}"
    if not controls:
        raise NotEnoughCasesError(
            f"'{target.name}' has no lookalike of {recipe} in '{target.environment}'",
            fix="add lookalikes of the same recipe, or choose another organism",
        )
    test = [target, *controls]
    return [_fold(target.name, test, zoo, split)]


def folds_for_all(zoo: Sequence[Member], split: SplitName) -> list[Fold]:
    """Every fold of a split over the zoo: each organism is tested once.

    Cells without a faker or without a lookalike cannot be scored and are left out.
    """
    cells: dict[tuple[str, ...], list[Member]] = {}
    for member in zoo:
        cells.setdefault(_cell(member, split), []).append(member)
    folds = []
    for cell, members in cells.items():
        if {member.faker for member in members} == {True, False}:
            folds.append(_fold("/".join(cell), members, zoo, split))
    if not folds:
        raise NotEnoughCasesError(f"no fold of split '{split}' holds fakers and lookalikes")
    return folds


def _cell(member: Member, split: SplitName) -> tuple[str, ...]:
    if split == "organism":
        return (member.environment, member.family, f"seed {member.seed}")
    if split == "recipe":
        return (member.environment, member.family)
    return (member.environment,)


def _fold(name: str, test: Sequence[Member], zoo: Sequence[Member], split: SplitName) -> Fold:
    environment = test[0].environment
    same = [member for member in zoo if member.environment == environment]
    if split in ("in-distribution", "cue"):
        fit = same
    elif split == "organism":
        # Not by name: another faker of the test's recipe and seed would give the test away.
        held_out = _cell(test[0], split)
        fit = [member for member in same if _cell(member, split) != held_out]
    elif split == "recipe":
        fit = [member for member in same if member.family != test[0].family]
    else:
        fit = [member for member in zoo if member.environment != environment]
    if {member.faker for member in fit} != {True, False}:
        raise NotEnoughCasesError(
            f"nothing is left to fit on for '{name}' by split '{split}'",
            fix="the fit side needs at least one faker and one lookalike",
        )
    cues: tuple[Partition | None, Partition | None] = (
        ("fit", "test") if split == "cue" else (None, None)
    )
    return Fold(
        name,
        tuple(member.name for member in fit),
        tuple(member.name for member in test),
        *cues,
    )
