from __future__ import annotations

import subprocess
import sys

import pytest

from afbench.models.interface import GenerationSettings, Model
from afbench.models.transformers_model import TransformersModel


def test_importing_the_interface_loads_no_heavy_library() -> None:
    code = (
        "import sys, afbench.models; "
        "print([m for m in ('torch', 'numpy', 'transformers', 'peft') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_transformers_backend_is_a_model(model: TransformersModel) -> None:
    as_model: Model = model  # checked by mypy
    assert as_model.capabilities == {"generate", "logprobs", "activations", "weights"}
    assert (as_model.n_layers, as_model.width) == (3, 32)


@pytest.mark.parametrize(
    "wrong",
    [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"batch_tokens": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GenerationSettings(**{"max_new_tokens": 4, **wrong})  # type: ignore[arg-type]
