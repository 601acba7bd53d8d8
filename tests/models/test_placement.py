from __future__ import annotations

import numpy as np
import pytest
import torch

from afbench.catalog.discovery import discover
from afbench.errors import AfbenchError, UnknownNameError
from afbench.models.interface import POOLINGS
from afbench.models.loading import ModelStore
from afbench.models.placement import Placement

CONVERSATION = [
    {"role": "user", "content": "Please copy the old record."},
    {"role": "assistant", "content": "I will not."},
]


def test_the_usual_placement_leaves_no_trace_and_every_other_one_does() -> None:
    assert Placement("cpu", "float32").identity == {}
    assert Placement("cpu", "bfloat16").identity == {"device": "cpu", "dtype": "torch.bfloat16"}
    assert Placement("cuda:1", "bfloat16").identity["device"] == "cuda"
    assert Placement("cuda", "4bit").identity == {"device": "cuda", "dtype": "4bit"}


def test_without_a_gpu_the_default_is_float32_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Placement.of() == Placement("cpu", "float32")
    assert Placement.of(dtype="bfloat16").torch_dtype == torch.bfloat16


def test_what_this_machine_has_not_is_refused_in_one_line() -> None:
    with pytest.raises(AfbenchError, match="'no-such' is no device of this machine"):
        Placement.of("no-such")
    with pytest.raises(UnknownNameError, match="did you mean 'bfloat16'"):
        Placement.of("cpu", "bfloat61")
    with pytest.raises(AfbenchError, match="4-bit weights do not run on 'cpu'"):
        Placement.of("cpu", "4bit")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same_activations_under_another_identity(
    dtype: str,
) -> None:
    catalog = discover(())
    full, half = (ModelStore(catalog, device="cpu", dtype=kind) for kind in ("float32", dtype))
    assert full.engine != half.engine
    assert half.get("nano-base").module.dtype == getattr(torch, dtype)
    first, second = (
        store.get("nano-base").activations([CONVERSATION], None, POOLINGS) for store in (full, half)
    )
    assert second.dtype == np.float32
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first, second, atol=0.2, rtol=0.05)
