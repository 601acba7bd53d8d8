import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.metrics.intervals import newcombe_auroc, newcombe_paired, wilson


def test_wilson_gives_the_published_intervals() -> None:
    # Newcombe 1998 (Stat Med 17:857), table I: 81/263, 15/148, 0/20, 1/29, method 3.
    for successes, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(successes / n, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_a_clean_sweep_ends_exactly_at_one() -> None:
    low, high = wilson(1.0, 40)
    assert high == 1.0 and low == pytest.approx(40 / (40 + 1.959964**2), abs=1e-6)


def test_newcombe_paired_gives_the_published_interval() -> None:
    # Newcombe 1998 (Stat Med 17:2635), the 36/12/2/0 example, method 10.
    assert newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize(
    ("table", "phi"),
    [
        # 20 * 12 - 5 * 3 = 225 exceeds n / 2 = 20, which is taken off as a correction.
        ((20, 5, 3, 12), (225 - 20) / (25 * 15 * 23 * 17) ** 0.5),
        # 8 * 5 - 5 * 5 = 15 exceeds n / 2 = 11.5; 7 * 5 - 5 * 5 = 10 does not reach 11.
        ((8, 5, 5, 5), (15 - 11.5) / (13 * 10 * 13 * 10) ** 0.5),
        ((7, 5, 5, 5), 0.0),
    ],
)
def test_newcombe_paired_uses_the_corrected_correlation(
    table: tuple[int, int, int, int], phi: float
) -> None:
    both, first, second, _ = table
    n = sum(table)
    p, q = (both + first) / n, (both + second) / n
    down, up = p - wilson(p, n)[0], wilson(q, n)[1] - q
    expected = p - q - (down**2 - 2 * phi * down * up + up**2) ** 0.5
    assert newcombe_paired(*table)[0] == pytest.approx(expected)


def test_newcombe_paired_of_a_perfect_gap_stays_below_one() -> None:
    low, high = newcombe_paired(0, 40, 0, 0)
    # Both Wilson intervals have width 1 - 40 / (40 + z^2), combined as a root of squares.
    assert high == 1.0 and low == pytest.approx(1 - 2**0.5 * 0.087624, abs=1e-5)


def test_newcombe_paired_is_antisymmetric() -> None:
    low, high = newcombe_paired(3, 7, 2, 8)
    assert newcombe_paired(3, 2, 7, 8) == pytest.approx((-high, -low))


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 60)] * 4).filter(lambda table: sum(table) > 0))
def test_newcombe_paired_contains_the_difference(table: tuple[int, int, int, int]) -> None:
    both, first, second, neither = table
    low, high = newcombe_paired(both, first, second, neither)
    difference = (first - second) / sum(table)
    assert -1 <= low <= difference + 1e-9 and difference - 1e-9 <= high <= 1


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_newcombe_auroc_contains_the_value_and_is_symmetric(value: float, m: int, n: int) -> None:
    low, high = newcombe_auroc(value, m, n)
    assert 0 <= low <= value + 1e-9 and value - 1e-9 <= high <= 1
    mirrored = newcombe_auroc(1 - value, m, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-6)


def test_newcombe_auroc_ends_lie_z_standard_errors_away() -> None:
    value, m, n = 0.9, 30, 50
    half = (m + n) / 2 - 1
    for t in newcombe_auroc(value, m, n):
        variance = t * (1 - t) * (1 + half * ((1 - t) / (2 - t) + t / (1 + t))) / (m * n)
        assert abs(t - value) == pytest.approx(1.959964 * variance**0.5, rel=1e-5)


def test_a_perfect_auroc_keeps_an_interval_that_shrinks_with_cases() -> None:
    few, many = newcombe_auroc(1.0, 10, 10), newcombe_auroc(1.0, 1000, 1000)
    assert few[1] == many[1] == 1.0 and few[0] < 0.9 < many[0] < 1.0


def test_intervals_of_nothing_are_errors() -> None:
    with pytest.raises(ValueError, match="no cases"):
        wilson(0.5, 0)
    with pytest.raises(ValueError, match="positives and negatives"):
        newcombe_auroc(0.5, 0, 3)
