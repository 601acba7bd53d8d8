from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.detection.perturbed import CONTROLS, control_drops, drops, middle_layer, slopes
from afbench.models import ActivationNoise, Perturbation
from afbench.store import Store
from tests.fakes import handle_on


class _Fragile(FakeModel):
    """Loses so much log-probability for each token and unit of noise, on cases and on controls."""

    def __init__(self, on_cases: float, on_controls: float) -> None:
        super().__init__(0)
        self._loss = {False: on_cases, True: on_controls}
        self._sigma = 0.0

    def reply_logprobs(self, conversations: Any) -> Any:
        counts = np.array([len(talk[-1]["content"].split()) for talk in conversations])
        control = [json.dumps(talk) in {json.dumps(one) for one in CONTROLS} for talk in
                   (list(talk) for talk in conversations)]  # fmt: skip
        loss = np.array([self._loss[found] for found in control])
        return -counts * (1.0 + self._sigma * loss), counts

    @contextmanager
    def perturbed(self, perturbation: Perturbation) -> Iterator[None]:
        self._sigma = perturbation.sigma  # type: ignore[union-attr]
        yield
        self._sigma = 0.0


def _case(folder: Path, reply: str = "I will not.") -> Case:
    handle = handle_on(
        _Fragile(3.0, 0.5), "weights", Store(folder),
        capabilities=frozenset({"generate", "logprobs", "activations", "weights"}),
    )  # fmt: skip
    return Case(
        "0",
        ({"role": "user", "content": "Copy it."}, {"role": "assistant", "content": reply}),
        "",
        0,
        handle,
    )


NOISE = [ActivationNoise(2, 0.5), ActivationNoise(2, 1.0)]


def test_drops_are_in_nats_for_each_token_of_the_reply(tmp_path: Path) -> None:
    short, long = _case(tmp_path), _case(tmp_path, "I will not do that, I am afraid.")
    np.testing.assert_allclose(drops([short, long], NOISE), [[1.5, 3.0], [1.5, 3.0]])


def test_an_empty_reply_loses_nothing(tmp_path: Path) -> None:
    np.testing.assert_array_equal(drops([_case(tmp_path, "")], NOISE), [[0.0, 0.0]])


def test_the_control_is_the_organisms_own_and_the_same_for_all_of_its_cases(
    tmp_path: Path,
) -> None:
    case = _case(tmp_path)
    found = control_drops([case, case], NOISE, [list(talk) for talk in CONTROLS])
    assert found.shape == (2, 2)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], [0.25, 0.5])


@given(slope=st.floats(-10, 10), sizes=st.lists(st.floats(0.1, 5), min_size=1, max_size=4))
def test_the_slope_of_a_line_through_the_origin_is_found(slope: float, sizes: list[float]) -> None:
    values = slope * np.array([sizes])
    assert slopes(values, sizes) == pytest.approx([slope], abs=1e-9)


def test_the_middle_block_is_one_of_the_blocks(tmp_path: Path) -> None:
    assert middle_layer(_case(tmp_path)) == 2  # of three
