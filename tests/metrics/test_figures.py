import numpy as np
import pytest
from pydantic import ValidationError

from afbench.metrics.figures import Figure, join_notes


def test_format_shows_value_and_interval() -> None:
    figure = Figure(value=0.9312, low=0.9, high=0.957, n=10)
    assert figure.format() == str(figure) == "0.93 [0.90, 0.96]"
    assert figure.format(3) == "0.931 [0.900, 0.957]"


def test_format_of_a_refused_figure_and_of_one_without_interval() -> None:
    assert Figure.refused("too few cases").format() == "n/a"
    assert Figure(value=0.5, n=3).format() == "0.50"


def test_format_never_prints_minus_zero() -> None:
    assert Figure(value=-0.001, low=-0.004, high=0.2, n=3).format() == "0.00 [0.00, 0.20]"


def test_a_refused_figure_keeps_its_reason_and_survives_json() -> None:
    figure = Figure.refused("needs 300 sincere cases", n=12)
    assert figure.reason == "needs 300 sincere cases"
    assert Figure.model_validate_json(figure.model_dump_json()) == figure


@pytest.mark.parametrize(
    "fields",
    [
        {"value": None, "n": 1},
        {"value": 0.5, "n": 1, "reason": "x"},
        {"value": 0.5, "low": 0.4, "n": 1},
        {"value": 0.5, "low": 0.6, "high": 0.4, "n": 1},
        {"value": None, "reason": "x", "low": 0.1, "high": 0.2, "n": 1},
        {"value": float("nan"), "n": 1},
    ],
)
def test_an_inconsistent_figure_cannot_be_built(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Figure.model_validate(fields)


def test_the_interval_is_the_2_5_and_97_5_percentiles() -> None:
    figure = Figure.from_replicates(0.5, np.arange(1001) / 1000, n=7, clusters=2)
    assert (figure.low, figure.high) == pytest.approx((0.025, 0.975))
    assert (figure.n, figure.clusters) == (7, 2)


def test_up_to_a_tenth_of_undefined_replicates_is_ignored() -> None:
    replicates = np.concatenate([np.full(10, np.nan), np.linspace(0, 1, 90)])
    figure = Figure.from_replicates(0.5, replicates, n=7)
    assert (figure.low, figure.high) == pytest.approx((0.025, 0.975))


def test_more_undefined_replicates_refuse_the_interval_and_keep_the_value() -> None:
    replicates = np.concatenate([np.full(11, np.nan), np.linspace(0, 1, 89)])
    figure = Figure.from_replicates(0.5, replicates, n=7)
    assert (figure.value, figure.low, figure.reason) == (0.5, None, None)
    assert figure.note is not None and "11 of 100" in figure.note


def test_replicates_that_all_agree_take_the_fallback_interval() -> None:
    figure = Figure.from_replicates(1.0, np.ones(50), n=7, fallback=(0.8, 1.0))
    assert (figure.low, figure.high) == (0.8, 1.0)


def test_an_undefined_value_is_refused() -> None:
    assert Figure.from_replicates(float("nan"), np.ones(5), n=7).value is None


def test_join_notes_skips_what_is_absent() -> None:
    assert join_notes(None, "a", None, "b") == "a; b"
    assert join_notes(None, None) is None
