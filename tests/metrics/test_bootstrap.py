import numpy as np
import pytest

from afbench.metrics import bootstrap
from afbench.metrics.arrays import Ints
from afbench.metrics.bootstrap import cluster_weights, replicate


def _design(organisms: int, scenarios: int, repeats: int = 1) -> tuple[Ints, Ints]:
    o, s, _ = np.meshgrid(
        np.arange(organisms), np.arange(scenarios), np.arange(repeats), indexing="ij"
    )
    return o.reshape(-1), s.reshape(-1)


def test_weights_are_whole_reproducible_and_of_the_declared_shape() -> None:
    organisms, scenarios = _design(4, 6)
    weights = cluster_weights(organisms, scenarios, None, 50, seed=3)
    assert weights.shape == (50, 24) and weights.dtype == np.float32
    assert np.array_equal(weights, np.round(weights)) and weights.min() >= 0
    assert np.array_equal(weights, cluster_weights(organisms, scenarios, None, 50, seed=3))
    assert not np.array_equal(weights, cluster_weights(organisms, scenarios, None, 50, seed=4))


def test_each_stratum_keeps_its_number_of_organisms() -> None:
    organisms, scenarios = _design(5, 3)
    strata = np.where(organisms < 2, 7, 9)
    weights = cluster_weights(organisms, scenarios, strata, 200, seed=0)
    assert (weights[:, strata == 7].sum(axis=1) == 6).all()
    assert (weights[:, strata == 9].sum(axis=1) == 9).all()


def test_a_drawn_organism_brings_as_many_scenarios_as_it_has_each_time() -> None:
    organisms, scenarios = _design(6, 4)
    weights = cluster_weights(organisms, scenarios, None, 100, seed=0)
    per_organism = weights.reshape(100, 6, 4).sum(axis=2)
    assert (per_organism % 4 == 0).all() and (per_organism == 0).any()


def test_cases_of_one_scenario_are_drawn_together() -> None:
    organisms, scenarios = _design(3, 5, repeats=4)
    weights = cluster_weights(organisms, scenarios, None, 100, seed=0).reshape(100, 15, 4)
    assert (weights == weights[:, :, :1]).all()


def test_equal_scenario_numbers_of_different_organisms_are_different_clusters() -> None:
    organisms, scenarios = _design(2, 8)
    strata = organisms  # each organism alone, so that only scenarios vary
    weights = cluster_weights(organisms, scenarios, strata, 50, seed=0).reshape(50, 2, 8)
    assert (weights.sum(axis=2) == 8).all()
    assert not np.array_equal(weights[:, 0], weights[:, 1])


def test_an_organism_alone_in_its_stratum_adds_no_variance() -> None:
    organisms, scenarios = np.zeros(1, dtype=int), np.zeros(1, dtype=int)
    assert (cluster_weights(organisms, scenarios, None, 20, seed=0) == 1).all()


def test_moments_are_those_of_two_nested_multinomials() -> None:
    k, s = 5, 4
    weights = cluster_weights(*_design(k, s), None, 40_000, seed=1).astype(float)
    # Var = E[m] (1 - 1/s) + Var(m), with m the multiplicity of the organism, Var(m) = 1 - 1/k.
    assert weights.mean(axis=0) == pytest.approx(np.ones(k * s), abs=0.04)
    assert weights.var(axis=0) == pytest.approx(np.full(k * s, (1 - 1 / s) + (1 - 1 / k)), rel=0.06)


def test_an_organism_in_two_strata_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="organism 8 lies in more than one stratum"):
        cluster_weights(np.array([3, 8, 8]), np.array([0, 0, 1]), np.array([0, 0, 1]), 5, seed=0)


def test_lengths_must_agree_and_cases_must_exist() -> None:
    with pytest.raises(ValueError, match="one length"):
        cluster_weights(np.zeros(3, dtype=int), np.zeros(2, dtype=int), None, 5, seed=0)
    with pytest.raises(ValueError, match="no cases"):
        cluster_weights(np.zeros(0, dtype=int), np.zeros(0, dtype=int), None, 5, seed=0)


def test_replicate_sees_the_weights_that_cluster_weights_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap, "_CELLS_PER_CHUNK", 100)  # several chunks
    organisms, scenarios = _design(3, 4)
    weights = cluster_weights(organisms, scenarios, None, 33, seed=5)
    sums = replicate(
        lambda w: w[:, :2].astype(np.float64), organisms, scenarios, replicates=33, seed=5
    )
    assert np.array_equal(sums, weights[:, :2])
