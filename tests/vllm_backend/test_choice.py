from __future__ import annotations

import pytest
import torch

from afbench.catalog.discovery import Catalog
from afbench.errors import AfbenchError, UnknownNameError
from afbench.models.loading import ModelStore
from afbench.vllm_backend import availability
from afbench.vllm_backend.choice import choose


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were here: of any distribution only the version is asked."""
    monkeypatch.setattr(availability, "_DISTRIBUTIONS", ("numpy",))


def test_transformers_in_float32_is_the_usual_and_has_no_identity() -> None:
    local = choose("transformers", "cpu")
    assert local.identity == {}
    with local.models(Catalog()) as models:
        assert isinstance(models, ModelStore)
        assert models.engine["backend"] == "transformers"


def test_precision_reaches_the_models_and_the_identity() -> None:
    local = choose("transformers", "cpu", "bfloat16")
    assert local.identity == {"device": "cpu", "dtype": "torch.bfloat16"}
    with local.models(Catalog()) as models:
        assert models.engine["dtype"] == "torch.bfloat16"


@pytest.mark.usefixtures("_installed")
def test_vllm_is_part_of_the_identity_with_its_version() -> None:
    identity = choose("vllm", "cpu").identity
    assert identity == {"backend": "vllm", "vllm": availability.require_vllm()}


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("gpu", "jobs", "expected"),
    [(False, 1, "transformers"), (True, 1, "vllm"), (True, 2, "transformers")],
)
def test_auto_is_vllm_where_it_and_a_gpu_are_and_one_process_asks(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, jobs: int, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose("auto", "cpu", jobs=jobs).name == expected


@pytest.mark.usefixtures("_installed")
def test_vllm_in_several_processes_is_refused() -> None:
    with pytest.raises(AfbenchError, match="serve one process.*--jobs"):
        choose("vllm", "cpu", jobs=2)


def test_an_unknown_backend_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vllm'"):
        choose("vlm")
