"""Prices, estimates and the limit that is never passed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from afbench.errors import AfbenchError, BackendError, SpendingLimitError, UnavailableError
from afbench.remote.backend import make_backend
from afbench.remote.exchange import spent_on
from afbench.remote.ledger import Estimate, Ledger, usd
from afbench.remote.prices import SHIPPED, load_price, priced_models
from afbench.remote.reply import Reply, Tokens
from afbench.store import Store
from tests.provider_server import FOREVER, Fault, Provider
from tests.remote.conftest import SETTINGS, Make, talk

pytest.importorskip("anthropic")


# Prices


def test_a_request_costs_what_its_tokens_cost() -> None:
    price = load_price("claude-opus-5-5")
    assert price is not None
    tokens = Tokens(input=1000, cache_write=2000, cache_read=4000, output=500)
    expected = (1000 * 4 + 2000 * 5 + 4000 * 0.2 + 500 * 20) / 1e6
    assert price.cost(tokens) == pytest.approx(expected)
    assert price.cost(tokens, batched=True) == pytest.approx(expected / 2)


def test_a_long_prompt_makes_all_of_its_request_dearer() -> None:
    price = load_price("claude-haiku-5-5")
    assert price is not None
    short = Tokens(input=60_000, cache_read=40_000, output=10)
    long = replace(short, input=60_001)
    assert price.cost(short) == pytest.approx((60_000 * 0.1 + 40_000 * 0.01 + 10 * 0.5) / 1e6)
    assert price.cost(long) == pytest.approx((60_001 * 0.5 + 40_000 * 0.05 + 10 * 2.5) / 1e6)


def test_a_dated_id_has_the_price_of_its_model() -> None:
    assert load_price("claude-haiku-4-5-20251001") == load_price("claude-haiku-4-5")
    assert load_price("claude-haiku-9") is None


def test_prices_say_where_and_when_they_were_read() -> None:
    content = json.loads(SHIPPED.read_text("utf-8"))
    assert content["source"].startswith("https://")
    assert len(content["date"].split("-")) == 3
    assert sorted(content["models"]) == priced_models()


def test_no_request_exceeds_what_was_said_to_be_the_most(make: Make, provider: Provider) -> None:
    model = make()
    talks = [talk("Ü" * 50), talk("word " * 40), talk("x")]
    model.generate(talks, SETTINGS)
    price = model.exchange.price
    assert price is not None
    for question in model.questions(talks, SETTINGS):
        reply = model.exchange.used[question.key]
        assert reply.cost is not None
        assert reply.cost <= price.about(question) <= price.at_most(question)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("not json", "no prices"),
        ("{}", "source: Field required"),
        ('{"source": "", "date": "", "unit": "EUR", "batch_share": 1, "models": {}}', "unit"),
    ],
)
def test_a_malformed_file_of_prices_is_one_line(tmp_path: Path, content: str, part: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(BackendError, match=part):
        load_price("m", path)
    with pytest.raises(BackendError, match="cannot read"):
        load_price("m", tmp_path / "none.json")


def test_a_model_without_a_price_needs_one(provider: Provider, tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(BackendError, match=r"no price of 'claude-haiku-9' .* --prices FILE"):
        make_backend("anthropic", "claude-haiku-9", store, lambda estimate: None)
    content = json.loads(SHIPPED.read_text("utf-8"))
    content["models"] = {"claude-haiku-9": content["models"]["claude-haiku-4-5"]}
    (tmp_path / "prices.json").write_text(json.dumps(content))
    backend = make_backend(
        "anthropic", "claude-haiku-9", store, lambda e: None, prices=tmp_path / "prices.json"
    )
    assert backend.exchange.price == load_price("claude-haiku-4-5")


# Estimates


def test_nothing_is_sent_before_it_was_approved_and_it_is_asked_once(
    make: Make, provider: Provider
) -> None:
    seen: list[Estimate] = []

    def refuse(estimate: Estimate) -> None:
        seen.append(estimate)
        raise AfbenchError("not approved")

    model = make(approve=refuse)
    with pytest.raises(AfbenchError, match="not approved"):
        model.generate([talk("Q."), talk("Q."), talk("R.")], SETTINGS)
    assert provider.requests == []
    assert seen[0].requests == 2, "equal requests are one"
    assert seen[0].output == 200
    seen.clear()
    model = make(approve=seen.append)
    model.generate([talk("Q."), talk("R.")], SETTINGS)
    model.generate([talk("S.")], SETTINGS)
    assert len(seen) == 1
    again = make(approve=seen.append)
    again.generate([talk("Q."), talk("R.")], SETTINGS)
    assert len(seen) == 1, "what is kept costs nothing"


def test_an_estimate_in_batches_is_half(make: Make) -> None:
    model = make()
    questions = model.questions([talk(f"Q {n}.") for n in range(5)], SETTINGS)
    one_by_one = model.exchange.estimate(questions, batched=False)
    batched = model.exchange.estimate(questions, batched=True)
    assert one_by_one.about is not None
    assert batched.about == pytest.approx(one_by_one.about / 2)


def test_an_estimate_is_one_line_with_the_date_of_the_prices() -> None:
    estimate = Estimate("claude at host", 1200, 240_000, True, 0.35, 0.52, 0.5, "2026-11-21")
    assert estimate.line() == (
        "1,200 requests to claude at host, in batches: about $0.35, at most $0.52 by prices of "
        "2026-11-21; the run stops at $0.5"
    )
    free = Estimate("m at host", 3, 300, False, None, None, None, None)
    assert free.line() == (
        "3 requests to m at host, one by one, at most 300 tokens back (no price is known)"
    )
    assert [usd(amount) for amount in (0, 0.0000961, 12.345)] == ["$0.00", "$9.6e-05", "$12.35"]


# The limit


def test_what_is_under_way_counts_with_the_most_that_it_can_cost() -> None:
    ledger = Ledger(1.0)
    ledger.reserve(0.6)
    with pytest.raises(SpendingLimitError, match="--max-cost"):
        ledger.reserve(0.5)
    ledger.settle(0.6, 0.1)
    ledger.reserve(0.9)
    ledger.release(0.9, begun=True)
    with pytest.raises(SpendingLimitError):
        ledger.reserve(0.01)
    assert ledger.spent == pytest.approx(0.1), "what may have been billed is not said to be paid"


def test_a_run_that_would_cost_more_than_its_limit_sends_nothing(
    make: Make, provider: Provider
) -> None:
    with pytest.raises(SpendingLimitError, match="nothing was sent"):
        make(max_cost=0.0001).generate([talk(f"Q {n}.") for n in range(50)], SETTINGS)
    assert provider.requests == []


def test_a_run_stops_before_it_passes_its_limit(make: Make, provider: Provider) -> None:
    model = make(concurrency=4)
    price = model.exchange.price
    assert price is not None
    (question,) = model.questions([talk("Q 0.")], SETTINGS)
    provider.answer = lambda system, user: "word " * 100
    limit = 3 * price.about(question)
    model = make(concurrency=4, max_cost=limit)
    for number in range(3):
        model.generate([talk(f"Q {number}.")], SETTINGS)
    with pytest.raises(SpendingLimitError, match="is reached"):
        model.generate([talk(f"Q {number}.") for number in range(3, 200)], SETTINGS)
    assert model.exchange.ledger.spent <= limit
    assert model.exchange.ledger.spent == pytest.approx(
        sum(reply.cost or 0 for reply in model.exchange.used.values())
    )
    assert isinstance(SpendingLimitError("x"), UnavailableError), "no fault of a detector"


def test_a_batch_that_could_pass_the_limit_is_not_sent(make: Make, provider: Provider) -> None:
    model = make(batch_from=1)
    questions = model.questions([talk(f"Q {n}.") for n in range(9)], SETTINGS)
    about = model.exchange.estimate(questions, batched=True).about
    assert about is not None
    tight = make(batch_from=1, max_cost=about * 1.01)
    with pytest.raises(SpendingLimitError, match="is reached"):
        tight.exchange.collect(questions)
    assert not provider.batches
    assert not tight.exchange._journal.open_batches()


def test_an_answer_that_was_lost_counts_against_the_limit(make: Make, provider: Provider) -> None:
    provider.fail(Fault(cut_at=40, times=FOREVER))
    model = make(attempts=3)
    with pytest.raises(AfbenchError):
        model.generate([talk("Q.")], SETTINGS)
    ledger, price = model.exchange.ledger, model.exchange.price
    (question,) = model.questions([talk("Q.")], SETTINGS)
    assert price is not None
    assert ledger.committed == pytest.approx(3 * price.at_most(question))
    assert ledger.spent == 0


# What a run says it spent


def test_what_replies_took_is_added_up() -> None:
    one = Reply("a", "", "whole", Tokens(10, 5, 20, 7), cost=0.5)
    two = Reply("", "", "refused", Tokens(1, 0, 0, 0), cost=0.25)
    assert spent_on([one, two]) == {
        "calls": 2,
        "input_tokens": 36,
        "cached_tokens": 20,
        "output_tokens": 7,
        "refused": 1,
        "usd": 0.75,
    }
    assert spent_on([one, replace(two, cost=None)])["usd"] is None


def test_the_prompt_cache_makes_the_second_request_cheaper(make: Make, provider: Provider) -> None:
    model = make(concurrency=1)
    model.generate([talk("Q."), talk("R.")], SETTINGS)
    first, second = model.exchange.used.values()
    assert (first.tokens.cache_write, first.tokens.cache_read) == (7, 0)
    assert (second.tokens.cache_write, second.tokens.cache_read) == (0, 7)
    assert first.cost is not None
    assert second.cost is not None
    assert second.cost < first.cost


def test_a_reply_is_kept_as_it_came() -> None:
    reply = Reply("a", "b", "cut", Tokens(1, 2, 3, 4), (5, 6), True, 0.5)
    assert Reply.from_record(json.loads(json.dumps(reply.as_record()))) == reply
