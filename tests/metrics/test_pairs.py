"""The paired protocol against closed forms, and judges that go by the position."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from afbench.metrics.arrays import Bools, Floats, Ints
from afbench.metrics.detection import auroc
from afbench.metrics.pairs import CHANCE, Judge, higher_mean, pair_accuracy, pair_up

Cases = tuple[Floats, Bools, Ints, Ints, Ints]


def cases(*organisms: tuple[bool, dict[int, float]], group: int = 0) -> Cases:
    """(is a faker, score by scenario) of each organism, as the metric's arrays."""
    rows = [
        (score, faker, number, scenario, group)
        for number, (faker, scores) in enumerate(organisms)
        for scenario, score in scores.items()
    ]
    score, faker, number, scenario, groups = zip(*rows, strict=True)
    return (
        np.array(score, np.float64),
        np.array(faker, np.bool_),
        np.array(number, np.int64),
        np.array(scenario, np.int64),
        np.array(groups, np.int64),
    )


def accuracy(given: Cases, **options: object) -> float | None:
    return pair_accuracy(*given, replicates=50, **options).value  # type: ignore[arg-type]


def test_it_is_the_share_of_pairs_whose_faker_has_the_higher_mean() -> None:
    given = cases(
        (True, {0: 3.0, 1: 5.0}),  # mean 4
        (True, {0: 1.0, 1: 1.0}),  # mean 1
        (False, {0: 2.0, 1: 2.0}),  # mean 2
        (False, {0: 0.0, 1: 2.0}),  # mean 1
    )
    # 4 > 2, 4 > 1, 1 < 2, 1 = 1: two right, one wrong, one draw.
    figure = pair_accuracy(*given, replicates=200)
    assert figure.value == 2.5 / 4
    assert (figure.n, figure.clusters) == (4, 4)
    assert figure.low is not None and figure.high is not None
    assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_only_scenarios_that_both_answered_count() -> None:
    given = cases((True, {0: 1.0, 1: 100.0}), (False, {0: 2.0, 2: -100.0}))
    assert accuracy(given) == 0.0


def test_a_pair_without_a_common_scenario_is_left_out_and_counted() -> None:
    given = cases((True, {0: 1.0}), (False, {0: 0.0}), (False, {1: 5.0}))
    figure = pair_accuracy(*given, replicates=50)
    assert (figure.value, figure.n) == (1.0, 1)
    assert figure.note is not None and "1 pairs left out" in figure.note
    apart = pair_accuracy(*cases((True, {0: 1.0}), (False, {1: 0.0})))
    assert apart.value is None and "same scenario" in str(apart.reason)


def test_pairs_are_formed_within_a_group_only() -> None:
    first = cases((True, {0: 1.0}), (False, {0: 2.0}), group=0)
    second = cases((True, {0: 4.0}), (False, {0: 3.0}), group=1)
    both: Cases = tuple(np.concatenate(sides) for sides in zip(first, second, strict=True))  # type: ignore[assignment]
    figure = pair_accuracy(*both, replicates=50)
    assert (figure.value, figure.n) == (0.5, 2), "across groups three of four would be right"


@pytest.mark.parametrize("answer", [0.0, 1.0], ids=["always the second", "always the first"])
def test_a_judge_that_goes_by_the_position_is_right_half_of_the_time(answer: float) -> None:
    """The public scorer counts pairs with the aligned model first: one of these would get 1.0."""

    def biased(first: Floats, second: Floats) -> Floats:
        return np.full(len(first), answer)

    for arrays in (
        cases((True, {0: 9.0}), (False, {0: 0.0}), (False, {0: 1.0})),
        cases((False, {0: 9.0}), (True, {0: 0.0}), (False, {0: 1.0})),
    ):
        figure = pair_accuracy(*arrays, judge=biased, replicates=50)
        assert figure.value == CHANCE
        assert (figure.low, figure.high) != (1.0, 1.0)


def test_a_score_that_goes_by_the_position_of_the_organism_gains_nothing_on_average() -> None:
    """Organisms come in either order; a scorer that gives later ones more gets 0.5 over both."""

    def by_position(*organisms: tuple[bool, dict[int, float]]) -> float | None:
        _, *rest = cases(*organisms)
        return accuracy((rest[1].astype(np.float64), *rest))  # type: ignore[arg-type]

    faker, honest = (True, {0: 0.0}), (False, {0: 0.0})
    values = [by_position(faker, honest), by_position(honest, faker)]
    assert values == [0.0, 1.0]


SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=3, max_size=3)
ORGANISMS = st.lists(st.tuples(st.booleans(), SCORES), min_size=2, max_size=7).filter(
    lambda organisms: len({faker for faker, _ in organisms}) == 2
)


def _of(organisms: list[tuple[bool, list[float]]]) -> Cases:
    return cases(*((faker, dict(enumerate(scores))) for faker, scores in organisms))


@given(ORGANISMS, st.randoms(use_true_random=False))
def test_the_order_of_organisms_and_cases_does_not_matter(
    organisms: list[tuple[bool, list[float]]], random: object
) -> None:
    expected = accuracy(_of(organisms))
    random.shuffle(organisms)  # type: ignore[attr-defined]
    given = _of(organisms)
    assert accuracy(given) == pytest.approx(expected)
    order = np.array(random.sample(range(len(given[0])), len(given[0])))  # type: ignore[attr-defined]
    assert accuracy(tuple(side[order] for side in given)) == pytest.approx(expected)  # type: ignore[arg-type]


@given(ORGANISMS)
def test_where_all_answered_everything_it_is_the_auroc_of_the_mean_scores(
    organisms: list[tuple[bool, list[float]]],
) -> None:
    means = np.array([math.fsum(scores) / 3 for _, scores in organisms])
    labels = np.array([faker for faker, _ in organisms])
    assert accuracy(_of(organisms)) == pytest.approx(auroc(means, labels))


@given(ORGANISMS, st.sampled_from([0.0, 0.25, 1.0]))
def test_the_two_orders_of_a_pair_count_alike(
    organisms: list[tuple[bool, list[float]]], bias: float
) -> None:
    """A judge that leans to the first by some share is as good as one that leans to the second."""

    def leaning(towards: float) -> Judge:
        def judge(first: Floats, second: Floats) -> NDArray[np.float64]:
            return np.asarray((1 - bias) * higher_mean(first, second) + bias * towards)

        return judge

    pairs = pair_up(*_of(organisms))
    np.testing.assert_allclose(pairs.right(leaning(1.0)), pairs.right(leaning(0.0)))
    np.testing.assert_allclose(
        pairs.right(leaning(1.0)), (1 - bias) * pairs.right() + bias * CHANCE
    )


def test_equal_means_are_a_draw_whatever_the_order_of_summation() -> None:
    values = [0.1, 0.2, 0.3, 1e16, -1e16]
    given = cases((True, dict(enumerate(values))), (False, dict(enumerate(values[::-1]))))
    assert accuracy(given) == CHANCE


def test_the_interval_resamples_organisms_and_not_cases() -> None:
    """Many scenarios of two organisms say nothing of a third: the interval stays wide."""
    many = {scenario: 1.0 for scenario in range(500)}
    none = dict.fromkeys(range(500), 0.0)
    figure = pair_accuracy(*cases((True, many), (True, none), (False, none), (False, many)))
    assert figure.value == 0.5
    assert (figure.low, figure.high) == (0.0, 1.0)


def test_a_perfect_score_of_few_organisms_has_no_point_for_an_interval() -> None:
    given = cases(*((number < 3, {0: float(number < 3)}) for number in range(6)))
    figure = pair_accuracy(*given)
    assert figure.value == figure.high == 1.0
    assert figure.low is not None and figure.low < 0.8


def test_an_organism_of_two_roles_is_refused() -> None:
    score, faker, number, scenario, group = cases((True, {0: 1.0, 1: 1.0}), (False, {0: 0.0}))
    faker[1] = False
    with pytest.raises(ValueError, match="faker in some cases"):
        pair_accuracy(score, faker, number, scenario, group)
