"""How fit and test are kept apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from afbench.environments import Partition
from afbench.errors import NotEnoughCasesError, UnknownNameError

SplitName = Literal["in-distribution", "organism", "recipe", "environment", "cue"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)

_NOTHING_TO_FIT_ON = "nothing is left to fit on"

# Over the whole zoo, what is held out is held out in so many groups of each base: one fit serves
# all cells of a group, and a sweep of many detectors stays affordable.
_GROUPS = 3


@dataclass(frozen=True, slots=True)
class Member:
    """What a split needs to know of an organism.

    Attributes:
        base: the root that it was made from; activations of two bases are not comparable.
        family, seed: of its recipe, which is held out together with it. An organism that was made
            by changing another one has that one's.
        evasion: how it was made hard to detect; None for all that detectors are fitted on.
    """

    name: str
    base: str
    environment: str
    family: str
    seed: int
    faker: bool
    evasion: str | None = None


@dataclass(frozen=True, slots=True)
class Fold:
    """One fit and its test.

    Attributes:
        name: what is held out.
        fit, test: names of organisms, all of one base.
        fit_cues, test_cues: the family partition that cases are limited to; None is no limit.
    """

    name: str
    fit: tuple[str, ...]
    test: tuple[str, ...]
    fit_cues: Partition | None = None
    test_cues: Partition | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Folds, and a line for each cell that has none, with the reason."""

    folds: tuple[Fold, ...]
    left_out: tuple[str, ...] = ()


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
    """The lookalikes made with the target's base, environment and recipe family."""
    return [
        member
        for member in zoo
        if not member.faker and _home(member) == _home(target) and member.family == target.family
    ]


def folds_for(
    target: Member, zoo: Sequence[Member], split: SplitName, evading: Sequence[Member] = ()
) -> list[Fold]:
    """The one fold that scores a faker against its matched lookalikes.

    Args:
        target: a member of the zoo or not.
        zoo: what detectors may be fitted on.
        evading: organisms outside it. An evading target is scored against the lookalikes of the
            same evasion, where there are some.

    Raises:
        NotEnoughCasesError: there is no lookalike of the target's recipe family, or nothing is
            left to fit on.
    """
    controls = _controls(target, zoo, evading, split)
    if not controls:
        recipe = f"recipe family '{target.family}'"
        recipe += f" and seed {target.seed}" if split == "organism" else ""
        raise NotEnoughCasesError(
            f"'{target.name}' has no lookalike of {recipe} in '{target.environment}'",
            fix="add lookalikes of the same recipe, or choose another organism",
        )
    return [_fold(target.name, [target, *controls], zoo, split)]


def folds_for_all(zoo: Sequence[Member], split: SplitName) -> Layout:
    """Every fold of a split over the zoo: no organism is tested twice.

    A fold is fitted on its whole base but for what the split holds out. That is held out in groups
    (of recipe families, say, in every environment at once), so that folds of one group have one fit
    side. Cells that hold one role only, or that nothing is left to fit on for, are left out.

    Raises:
        NotEnoughCasesError: no cell is left.
    """
    sides = _FitSides(zoo, split)
    folds, left_out = [], []
    for name, members in _cells(zoo, split).items():
        lacking = _lacking(members)
        if lacking:
            left_out.append(f"{name}: no {lacking}")
            continue
        try:
            folds.append(sides.fold(name, members))
        except NotEnoughCasesError:
            left_out.append(f"{name}: {_NOTHING_TO_FIT_ON}")
    if not folds:
        why = f"; {left_out[0]}" if left_out else ""
        raise NotEnoughCasesError(f"the zoo has no fold of split '{split}'{why}")
    return Layout(tuple(folds), tuple(left_out))


def is_held_out(member: Member, test: Sequence[Member], split: SplitName) -> bool:
    """Whether what was fitted on an organism may not be tested on some others by a split.

    In distribution it may, on scenarios of its own; by cue it may not at home, where it has met
    every family of cues.
    """
    if split == "in-distribution":
        return False
    if split in ("environment", "cue"):
        return any(member.environment == other.environment for other in test)
    return any(_recipe(member, split) == _recipe(other, split) for other in test)


def evading_folds(
    evading: Sequence[Member], zoo: Sequence[Member], split: SplitName
) -> dict[str, Layout]:
    """For each evasion, the folds that test its fakers; what is fitted on is the zoo's alone.

    A fold's fit side is that of the split's folds over the whole zoo that hold out what the test
    comes from.
    """
    sides = _FitSides(zoo, split)
    layouts = {}
    for evasion in sorted({member.evasion for member in evading if member.evasion is not None}):
        of_kind = [member for member in evading if member.evasion == evasion]
        folds, left_out = [], []
        for name, members in _cells(of_kind, split).items():
            fakers = [member for member in members if member.faker]
            found = [c for faker in fakers for c in _controls(faker, zoo, of_kind, split)]
            controls = list(dict.fromkeys(found))
            if not fakers:
                continue  # they are the controls of another cell, or there is nothing to tell
            if not controls:
                left_out.append(f"{evasion}, {name}: no lookalike")
                continue
            try:
                folds.append(sides.fold(name, [*fakers, *controls]))
            except NotEnoughCasesError:
                left_out.append(f"{evasion}, {name}: {_NOTHING_TO_FIT_ON}")
        if not folds and not left_out:
            left_out.append(f"{evasion}: no faker")
        layouts[evasion] = Layout(tuple(folds), tuple(left_out))
    return layouts


def _cells(members: Sequence[Member], split: SplitName) -> dict[str, list[Member]]:
    """Members by what is held out together, under a name that says it."""
    bases: dict[str, set[str]] = {}
    for member in members:
        bases.setdefault(member.environment, set()).add(member.base)
    cells: dict[str, list[Member]] = {}
    for member in members:
        name = "/".join((member.environment, *_recipe(member, split)))
        if len(bases[member.environment]) > 1:
            name += f" on {member.base}"
        cells.setdefault(name, []).append(member)
    return cells


def _recipe(member: Member, split: SplitName) -> tuple[str, ...]:
    """What a split holds out of the recipes; nothing, where it goes by something else."""
    if split == "organism":
        return (member.family, f"seed {member.seed}")
    return (member.family,) if split == "recipe" else ()


def _home(member: Member) -> tuple[str, str]:
    return member.base, member.environment


def _controls(
    target: Member, zoo: Iterable[Member], evading: Iterable[Member], split: SplitName
) -> list[Member]:
    """The lookalikes that a faker is told from."""
    if target.evasion is not None:
        alike = [
            member
            for member in evading
            if not member.faker
            and member.evasion == target.evasion
            and _home(member) == _home(target)
        ]
        if alike:
            same = [one for one in alike if _recipe(one, split) == _recipe(target, split)]
            return same or alike
    matched = matched_lookalikes(target, zoo)
    if split == "organism":
        return [member for member in matched if member.seed == target.seed]
    return matched


class _FitSides:
    """What folds over the whole zoo are fitted on.

    Args:
        zoo: what may be fitted on.
    """

    def __init__(self, zoo: Sequence[Member], split: SplitName) -> None:
        self._split = split
        self._by_base: dict[str, list[Member]] = {}
        for member in zoo:
            self._by_base.setdefault(member.base, []).append(member)
        self._groups = {
            base: _dealt(Counter(_held(member, split) for member in members))
            for base, members in self._by_base.items()
        }

    def fold(self, name: str, test: Sequence[Member]) -> Fold:
        """The fold of a test side.

        Raises:
            NotEnoughCasesError: nothing is left to fit on.
        """
        members = self._by_base.get(test[0].base, [])
        if self._split in ("in-distribution", "cue"):
            return _checked_fold(name, members, test, self._split)
        held = {_held(member, self._split) for member in test}
        groups = self._groups.get(test[0].base, {})
        with_their_groups = {key for key, group in groups.items()
                             if group in {groups.get(one) for one in held}} | held  # fmt: skip
        fit = self._without(members, with_their_groups)
        if _lacking(fit):  # a group may hold every faker there is; a cell seldom does
            fit = self._without(members, held)
        return _checked_fold(name, fit, test, self._split)

    def _without(self, members: Sequence[Member], held: set[tuple[str, ...]]) -> list[Member]:
        return [member for member in members if _held(member, self._split) not in held]


def _held(member: Member, split: SplitName) -> tuple[str, ...]:
    """What a split holds out when it tests an organism."""
    return (member.environment,) if split == "environment" else _recipe(member, split)


def _dealt(sizes: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """The group of each key: the largest first, each to the smallest group so far."""
    loads = [0] * _GROUPS
    groups = {}
    for key, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        groups[key] = loads.index(min(loads))
        loads[groups[key]] += size
    return groups


def _fold(name: str, test: Sequence[Member], zoo: Sequence[Member], split: SplitName) -> Fold:
    fit = _fit_side(test, [member for member in zoo if member.base == test[0].base], split)
    return _checked_fold(name, fit, test, split)


def _checked_fold(
    name: str, fit: Sequence[Member], test: Sequence[Member], split: SplitName
) -> Fold:
    if _lacking(fit):
        raise NotEnoughCasesError(
            f"{_NOTHING_TO_FIT_ON} for '{name}' by split '{split}'",
            fix="the fit side needs at least one faker and one lookalike of the same base",
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


def _fit_side(
    test: Sequence[Member], candidates: Sequence[Member], split: SplitName
) -> list[Member]:
    environment = test[0].environment
    at_home = [member for member in candidates if member.environment == environment]
    elsewhere = [member for member in candidates if member.environment != environment]
    if split in ("in-distribution", "cue"):
        return at_home
    if split == "environment":
        return elsewhere
    # Not by name: another faker of the test's recipe (and seed) would give the test away.
    held_out = {_recipe(member, split) for member in test}

    def allowed(members: Sequence[Member]) -> list[Member]:
        return [member for member in members if _recipe(member, split) not in held_out]

    # Where one recipe made all fakers of an environment, they can be met in others only.
    return allowed(elsewhere) if _lacking(allowed(at_home)) else allowed(at_home)


def _lacking(members: Sequence[Member]) -> str | None:
    """The role that none of the members has, or None."""
    roles = {member.faker for member in members}
    if True not in roles:
        return "faker"
    return None if False in roles else "lookalike"
