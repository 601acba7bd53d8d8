from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from afbench.errors import AfbenchError
from afbench.models.batching import halving_on_oom, pad_left, pad_right, plan_batches


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 200))
def test_plan_names_every_row_once_and_keeps_within_the_budget(
    lengths: list[int], budget: int
) -> None:
    plan = plan_batches(lengths, budget)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    for batch in plan:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
    assert plan == plan_batches(lengths, budget)


def test_plan_puts_the_longest_batch_first() -> None:
    assert plan_batches([1, 9, 5, 5], 10) == [[1], [2, 3], [0]]


def test_padding_is_on_the_side_it_says() -> None:
    cpu = torch.device("cpu")
    ids, mask = pad_left([[1, 2, 3], [4]], 0, cpu)
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert pad_right([[1, 2, 3], [4]], 0, cpu).tolist() == [[1, 2, 3], [4, 0, 0]]


def _runs_at_most(limit: int, sizes: list[int]):  # type: ignore[no-untyped-def]
    def run(rows: list[int]) -> list[torch.Tensor]:
        sizes.append(len(rows))
        if len(rows) > limit:
            raise torch.cuda.OutOfMemoryError("full")
        return [torch.tensor(row) for row in rows]

    return run


def test_out_of_memory_halves_the_batch_and_keeps_the_order() -> None:
    sizes: list[int] = []
    with pytest.warns(RuntimeWarning, match="out of memory"):
        values = halving_on_oom(list(range(7)), _runs_at_most(2, sizes))
    assert [int(value) for value in values] == list(range(7))
    assert sizes[0] == 7


def test_one_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(AfbenchError, match="does not fit"):
        halving_on_oom([0], _runs_at_most(0, []))
