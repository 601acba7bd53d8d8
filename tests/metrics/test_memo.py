"""What is kept between figures: it must never be the wrong thing, nor too much."""

import numpy as np
import pytest

from afbench.metrics import bootstrap
from afbench.metrics.bootstrap import cluster_weights
from afbench.metrics.comparison import compare_auroc
from afbench.metrics.detection_figures import Auroc, auroc_figure
from afbench.metrics.folds import mean_over_folds
from afbench.metrics.memo import Memo, key_of


def _cases(seed: int = 0, n: int = 240):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    organisms = np.arange(n) // 12
    return (
        rng.normal(size=n),
        organisms % 2 == 0,
        organisms,
        np.arange(n) % 6,
        organisms // 7,
    )


def test_the_least_recently_used_is_forgotten_first_and_the_size_is_kept() -> None:
    memo: Memo[bytes] = Memo(10, size=len)
    memo.keep(b"a", b"1234")
    memo.keep(b"b", b"1234")
    assert memo.find(b"a") == b"1234"  # used again
    memo.keep(b"c", b"1234")
    assert memo.find(b"b") is None
    assert memo.find(b"a") == memo.find(b"c") == b"1234"


def test_what_is_larger_than_all_of_it_is_not_kept_and_drives_nothing_out() -> None:
    memo: Memo[bytes] = Memo(10, size=len)
    memo.keep(b"a", b"1234")
    assert memo.keep(b"b", b"12345678901") == b"12345678901"
    assert memo.find(b"b") is None and memo.find(b"a") == b"1234"


def test_the_same_key_kept_twice_is_counted_once() -> None:
    memo: Memo[bytes] = Memo(8, size=len)
    for _ in range(5):
        memo.keep(b"a", b"1234")
    memo.keep(b"b", b"1234")
    assert memo.find(b"a") == memo.find(b"b") == b"1234"


def test_keys_tell_contents_types_shapes_and_places_apart() -> None:
    row = np.arange(4)
    keys = [
        key_of(row, 1, 2),
        key_of(row, 2, 1),
        key_of(row, 12, None),
        key_of(row.astype(np.int32), 1, 2),
        key_of(row.reshape(2, 2), 1, 2),
        key_of(row[::-1], 1, 2),
        key_of(row, "1", 2),
        key_of(None, row, 1, 2),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(np.arange(8)[::2], 1) == key_of(np.array([0, 2, 4, 6]), 1)


def test_weights_that_were_drawn_before_are_those_that_are_drawn_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, _, organisms, scenarios, folds = _cases()
    monkeypatch.setattr(bootstrap, "_DRAWN", Memo(128_000_000, bootstrap._DRAWN._size))
    anew = cluster_weights(organisms, scenarios, folds, 300, seed=5)
    kept = cluster_weights(organisms, scenarios, folds, 300, seed=5)
    assert np.array_equal(anew, kept)
    kept[:] = -1  # a caller's own copy
    assert np.array_equal(anew, cluster_weights(organisms, scenarios, folds, 300, seed=5))
    assert not np.array_equal(anew, cluster_weights(organisms, scenarios, folds, 300, seed=6))
    assert not np.array_equal(anew, cluster_weights(organisms, scenarios, None, 300, seed=5))


def test_an_aurocs_replicates_are_shared_by_its_figure_and_its_comparisons() -> None:
    scores, labels, organisms, scenarios, folds = _cases()
    other = scores + 0.3 * labels
    where = (labels, organisms, scenarios)
    figure = auroc_figure(scores, *where, folds=folds, replicates=400, seed=2)
    compared = compare_auroc(other, scores, *where, folds=folds, replicates=400, seed=2)
    ours, theirs = (Auroc(one, *where, folds) for one in (other, scores))
    assert figure.value == theirs.value()
    # As computed by hand from the weights, fold by fold.
    drawn = ours.cases.replicates_by_fold(
        lambda part, weights: ours._statistic(part, weights) - theirs._statistic(part, weights),
        400,
        2,
    )
    low, high = np.percentile(mean_over_folds(drawn), [2.5, 97.5])
    assert compared.difference.low is not None and compared.difference.high is not None
    assert np.allclose([compared.difference.low, compared.difference.high], [low, high])


def test_kept_replicates_cannot_be_written_into() -> None:
    scores, *where = _cases()
    kept = Auroc(scores, *where).replicates_by_fold(50, 0)
    assert not kept.flags.writeable
