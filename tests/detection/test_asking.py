from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.cases.case import Case
from afbench.contract.fake_model import FakeModel
from afbench.detection.asking import (
    contrast_activations,
    contrast_of,
    per_token,
    reply_logprobs,
    token_stream,
)
from afbench.errors import AfbenchError, TierError
from afbench.models.perturbations import WeightNoise
from afbench.store import Store
from tests.fakes import handle_on

ORDER = [0, 1, 0, 2, 1]
NOISE = WeightNoise(0.1)


def _cases(folder: Path, *, tier: Any = "weights", contrast: bool = True) -> list[Case]:
    """One case for each number in ORDER, of the organism with that number."""
    store = Store(folder)
    handles = {
        number: handle_on(
            FakeModel(number), tier, store, parent=FakeModel(number + 50),
            capabilities=FakeModel(0).capabilities,
        )
        for number in set(ORDER)
    }  # fmt: skip
    return [
        Case(
            id=str(index),
            messages=_talk(f"Watched {index}."),
            cue="Watched",
            group=number,
            handle=handles[number],
            contrast=_talk(f"Alone {index}.") if contrast else None,
        )
        for index, number in enumerate(ORDER)
    ]


def _talk(text: str) -> Any:
    reply = "Yes. " * (1 + len(text) % 3)
    return ({"role": "user", "content": text}, {"role": "assistant", "content": reply})


@pytest.mark.parametrize("contrast", [False, True])
@pytest.mark.parametrize("parent", [False, True])
def test_reply_logprobs_are_each_organisms_own_in_the_order_of_the_cases(
    tmp_path: Path, contrast: bool, parent: bool
) -> None:
    cases = _cases(tmp_path)
    found = reply_logprobs(cases, contrast=contrast, parent=parent)
    sums, counts = per_token(cases, contrast=contrast, parent=parent)
    np.testing.assert_array_equal(found, sums)
    for row, (case, number) in enumerate(zip(cases, ORDER, strict=True)):
        model = FakeModel(number + 50 * parent)
        talk = contrast_of(case) if contrast else case.messages
        expected, tokens = model.reply_logprobs([talk])
        assert (found[row], counts[row]) == (expected[0], tokens[0])
    assert found.shape == (len(cases),)
    assert counts.dtype == np.int64


def test_a_perturbation_changes_what_the_reply_is_worth(tmp_path: Path) -> None:
    cases = _cases(tmp_path)
    found = reply_logprobs(cases, contrast=True, perturbation=NOISE)
    model = FakeModel(ORDER[3])
    with model.perturbed(NOISE):
        expected, _ = model.reply_logprobs([contrast_of(cases[3])])
    assert found[3] == expected[0] != reply_logprobs(cases, contrast=True)[3]
    with pytest.raises(AfbenchError, match="not its parent"):
        reply_logprobs(cases, parent=True, perturbation=NOISE)


@pytest.mark.parametrize("parent", [False, True])
def test_contrast_activations_are_those_of_the_contrast_transcripts(
    tmp_path: Path, parent: bool
) -> None:
    cases = _cases(tmp_path)
    found = contrast_activations(cases, [1, 3], ["all_mean"], parent=parent)
    assert found.shape == (len(cases), 1, 2, 8)
    for row, (case, number) in enumerate(zip(cases, ORDER, strict=True)):
        expected = FakeModel(number + 50 * parent).activations(
            [contrast_of(case)], [1, 3], ["all_mean"]
        )
        np.testing.assert_array_equal(found[row], expected[0])


@pytest.mark.parametrize("contrast", [False, True])
def test_a_token_stream_names_the_case_of_each_item(tmp_path: Path, contrast: bool) -> None:
    cases = _cases(tmp_path)
    seen = []
    for index, one in token_stream(cases, [2], contrast=contrast):
        talk = contrast_of(cases[index]) if contrast else cases[index].messages
        [expected] = FakeModel(ORDER[index]).token_activations([talk], [2])
        np.testing.assert_allclose(one.values, expected.values, rtol=2**-11, atol=1e-7)
        assert one.tokens == expected.tokens
        seen.append(index)
    assert sorted(seen) == list(range(len(cases)))


def test_without_the_flag_there_is_no_contrast_to_ask_about(tmp_path: Path) -> None:
    cases = _cases(tmp_path, contrast=False)
    for ask in (
        lambda: reply_logprobs(cases, contrast=True),
        lambda: contrast_activations(cases),
        lambda: list(token_stream(cases, contrast=True)),
    ):
        with pytest.raises(TierError, match="set 'contrast: true'"):
            ask()
    assert reply_logprobs(cases).shape == (len(cases),)


def test_a_tier_that_is_too_low_is_refused(tmp_path: Path) -> None:
    for ask in (
        lambda: reply_logprobs(_cases(tmp_path, tier="text")),
        lambda: reply_logprobs(_cases(tmp_path, tier="activations"), perturbation=NOISE),
        lambda: contrast_activations(_cases(tmp_path, tier="logprobs")),
        lambda: list(token_stream(_cases(tmp_path, tier="logprobs"))),
    ):
        with pytest.raises(TierError, match="needs tier"):
            ask()
