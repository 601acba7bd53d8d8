from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from afbench.errors import AfbenchError
from afbench.messages import Conversation
from afbench.models.perturbations import (
    ActivationNoise,
    AdapterScaling,
    FineTune,
    Perturbation,
    Steering,
    WeightNoise,
    described,
    perturbation_of,
)

TALK: Conversation = ({"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes."})
EVERY: list[Perturbation] = [
    ActivationNoise(2, 0.5, 3),
    WeightNoise(0.1, 4),
    Steering(1, (0.5, -1.0), 2.0),
    AdapterScaling(0.25),
    FineTune((TALK, TALK), steps=3, rate=0.1, seed=5, batch=2),
]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: type(one).__name__)
def test_a_description_survives_json_and_gives_the_perturbation_back(one: Perturbation) -> None:
    text = json.dumps(one.parameters())
    assert perturbation_of(json.loads(text)).parameters() == one.parameters()
    assert described(one) == one.parameters()


def test_every_field_is_in_the_description_so_that_no_cached_answer_is_taken_for_another() -> None:
    for one in EVERY:
        names = {field.name for field in dataclasses.fields(one)}
        assert set(one.parameters()) == names | {"kind"}
    descriptions = [json.dumps(one.parameters()) for one in EVERY]
    assert len(set(descriptions)) == len(EVERY)


def test_numbers_of_numpy_are_made_plain() -> None:
    noise = ActivationNoise(np.int64(2), np.float32(0.5), np.int32(3))  # type: ignore[arg-type]
    assert noise == ActivationNoise(2, 0.5, 3)
    vector = np.ones(3, dtype=np.float32)
    json.dumps(Steering(np.int64(1), vector, np.float32(1)).parameters())  # type: ignore[arg-type]
    json.dumps(FineTune((TALK,), np.int64(1), np.float32(0.1)).parameters())  # type: ignore[arg-type]


def test_a_fine_tune_keeps_its_texts_when_the_caller_edits_them() -> None:
    turn = {"role": "assistant", "content": "Yes."}
    tune = FineTune(([{"role": "user", "content": "Hi."}, turn],), 1, 0.1)  # type: ignore[list-item]
    turn["content"] = "No."
    assert tune.texts[0][1]["content"] == "Yes."


def test_what_is_no_perturbation_is_refused_even_when_it_says_that_it_is() -> None:
    class Pretender:
        def parameters(self) -> dict[str, object]:
            return WeightNoise(0.1).parameters()

    class WeightNoiseToo(WeightNoise):
        pass

    for one in (Pretender(), WeightNoiseToo(0.1), "WeightNoise", None):
        with pytest.raises(AfbenchError, match="no perturbation; known: ActivationNoise"):
            described(one)  # type: ignore[arg-type]
    for parameters in ({}, {"kind": "Pretender"}, {"kind": "WeightNoise", "strength": 1}):
        with pytest.raises(AfbenchError, match="no perturbation"):
            perturbation_of(parameters)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ActivationNoise(1, -0.1),
        lambda: WeightNoise(float("nan")),
        lambda: WeightNoise(float("inf")),
        lambda: Steering(1, (float("nan"),)),
        lambda: AdapterScaling(float("inf")),
        lambda: FineTune((), 1, 0.1),
        lambda: FineTune((TALK,), -1, 0.1),
        lambda: FineTune((TALK,), 1, -0.1),
        lambda: FineTune((TALK,), 1, 0.1, batch=0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(AfbenchError):
        make()  # type: ignore[operator]
