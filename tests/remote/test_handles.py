"""Detectors ask remote organisms through the same handle as any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from afbench.errors import UnavailableError
from afbench.store import Store
from tests.fakes import handle_on
from tests.provider_server import FOREVER, Fault, Provider
from tests.remote.conftest import Make, talk

pytest.importorskip("anthropic")


def test_a_question_costs_a_detector_what_it_took_whether_or_not_it_was_kept(
    make: Make, provider: Provider, tmp_path: Path
) -> None:
    bills = []
    for number in range(2):
        # Another cache of the handle's, over the same journal.
        model = make()
        handle = handle_on(
            model, "text", Store(tmp_path / str(number)), capabilities=model.capabilities
        )
        assert handle.generate([talk("Q.")], max_new_tokens=20) == [["Sure. Here is: Q."]]
        bills.append((handle.spent.generated_tokens, handle.spent.forward_tokens))
    assert bills[0] == bills[1]
    assert len(provider.answered) == 1


def test_samples_of_one_question_are_answers_of_their_own(
    make: Make, provider: Provider, tmp_path: Path
) -> None:
    model = make()
    handle = handle_on(model, "text", Store(tmp_path / "h"), capabilities=model.capabilities)
    handle.generate([talk("Q.")], max_new_tokens=20, temperature=1.0, samples=3)
    assert len(provider.answered) == 3


def test_a_limit_that_is_reached_is_no_fault_of_the_detector(
    make: Make, provider: Provider, tmp_path: Path
) -> None:
    model = make(max_cost=0.0)
    handle = handle_on(model, "text", Store(tmp_path / "h"), capabilities=model.capabilities)
    with pytest.raises(UnavailableError, match="the limit") as caught:
        handle.generate([talk("Q.")], max_new_tokens=20)
    assert "organism" not in str(caught.value), "it does not say whose model it is"
    assert provider.requests == []


def test_a_provider_that_is_down_is_no_fault_of_the_detector(
    make: Make, provider: Provider, tmp_path: Path
) -> None:
    provider.fail(Fault(status=529, headers={"retry-after": "0"}, times=FOREVER))
    model = make(attempts=2)
    handle = handle_on(model, "text", Store(tmp_path / "h"), capabilities=model.capabilities)
    with pytest.raises(UnavailableError, match="529"):
        handle.generate([talk("Q.")], max_new_tokens=20)


def test_log_probabilities_are_unavailable_and_not_an_error(make: Make, tmp_path: Path) -> None:
    model = make()
    handle = handle_on(model, "logprobs", Store(tmp_path / "h"), capabilities=model.capabilities)
    assert not handle.can("logprobs")
    with pytest.raises(UnavailableError, match="offers no logprobs"):
        handle.logprobs([talk("Q.")], ["yes"])
