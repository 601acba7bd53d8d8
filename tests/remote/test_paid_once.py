"""Every answer that was paid for is kept, and none is paid for twice, whatever is killed when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afbench.errors import BackendError, BackendUnavailableError, StorageError
from tests.provider_server import FOREVER, KEY, Fault, Provider
from tests.remote.conftest import SETTINGS, Make, talk

pytest.importorskip("anthropic")
# One process of a run that asks for thirty replies, and says how many it has.
PROCESS = """
import sys
from pathlib import Path
from afbench.models.interface import GenerationSettings
from afbench.remote.claude import AnthropicProvider
from afbench.remote.chat_completions import OpenAIProvider
from afbench.remote.exchange import Exchange, Terms
from afbench.remote.prices import load_price
from afbench.store import Store
kind, url, cache, batch_from = sys.argv[1:]
claude = kind == "anthropic"
provider = AnthropicProvider("claude-haiku-5-5", base_url=url) if claude else OpenAIProvider(
    "served-model", base_url=url + "/v1")
terms = Terms(concurrency=4, batch_from=int(batch_from), every=0.02)
exchange = Exchange(provider, Store(Path(cache)), load_price(provider.model), lambda e: None, terms)
settings = GenerationSettings(max_new_tokens=100)
talks = [[{"role": "user", "content": f"Request {n}."}] for n in range(30)]
questions = [exchange.question("You act.", talk, settings) for talk in talks]
exchange.collect(questions)
print(len(exchange.replies(questions)), exchange.ledger.spent)
"""


def _start(kind: str, provider: Provider, cache: Path, batch_from: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, kind, provider.url, str(cache), str(batch_from)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def _until(done: Any, what: str) -> None:
    end = time.monotonic() + 240
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def _asked(provider: Provider) -> Counter[str]:
    """How often each request was answered."""
    return Counter(body["messages"][-1]["content"] for body in provider.answered)


@pytest.mark.slow
def test_a_killed_run_pays_for_no_answer_twice(
    provider: Provider, kind: str, tmp_path: Path
) -> None:
    provider.hold_after = 11
    first = _start(kind, provider, tmp_path, FOREVER)
    _until(provider.holding.is_set, "the server holds requests")
    _until(lambda: len(list(tmp_path.glob("replies/*/*.json"))) == 11, "what was answered is kept")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    provider.hold_after = None
    done = _start(kind, provider, tmp_path, FOREVER)
    out, err = done.communicate(timeout=240)
    assert done.returncode == 0, err
    assert out.split()[0] == "30"
    asked = _asked(provider)
    assert len(asked) == 30
    assert set(asked.values()) == {1}, "the server answered each request once"


@pytest.mark.slow
def test_a_run_killed_while_it_waits_for_a_batch_sends_it_once(
    provider: Provider, tmp_path: Path
) -> None:
    provider.polls = FOREVER
    first = _start("anthropic", provider, tmp_path, 10)
    _until(lambda: provider.sent("/v1/messages/batches/msgbatch_0"), "it looks at the batch")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    provider.batches["msgbatch_0"].polls = 1
    done = _start("anthropic", provider, tmp_path, 10)
    out, err = done.communicate(timeout=240)
    assert done.returncode == 0, err
    assert out.split()[0] == "30"
    assert len(provider.batches) == 1
    assert not provider.sent("/v1/messages")
    assert not list(tmp_path.glob("open-batches/*"))


def test_a_batch_whose_id_never_arrived_is_found_again(make: Make, provider: Provider) -> None:
    talks = [talk(f"Request {number}.") for number in range(5)]
    provider.lose = True
    first = make(batch_from=1)
    with pytest.raises(BackendUnavailableError, match="run it again later"):
        first.exchange.collect(first.questions(talks, SETTINGS))
    provider.lose = False
    # Another one of the same size, which is somebody else's.
    other = make(batch_from=1)
    strangers = [talk(f"Stranger {number}.") for number in range(5)]
    other.exchange.collect(other.questions(strangers, SETTINGS))
    assert len(provider.batches) == 2
    again = make(batch_from=1)
    again.exchange.collect(again.questions(talks, SETTINGS))
    replies = again.generate(talks, SETTINGS)
    assert [reply.text for reply in replies][3] == "Sure. Here is: Request 3."
    assert len(provider.batches) == 2, "it was not sent again"
    assert not provider.sent("/v1/messages")


def test_a_batch_that_never_arrived_is_sent(make: Make, provider: Provider) -> None:
    talks = [talk(f"Request {number}.") for number in range(5)]
    first = make(batch_from=1)
    questions = first.questions(talks, SETTINGS)
    # As a process leaves it that was killed before its request went out.
    first.exchange._journal.begin(tuple(question.key for question in questions), 0.01)
    again = make(batch_from=1)
    again.exchange.collect(again.questions(talks, SETTINGS))
    assert len(provider.batches) == 1
    assert len(provider.answered) == 5


def test_the_note_of_a_batch_that_cannot_be_read_is_no_reason_to_pay_again(
    make: Make, provider: Provider, tmp_path: Path
) -> None:
    folder = tmp_path / "cache/open-batches"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text('{"provider": "sha')
    model = make(batch_from=1)
    with pytest.raises(StorageError, match="cannot be read"):
        model.exchange.collect(model.questions([talk("Q.")], SETTINGS))
    assert provider.answered == []


# In one process


def test_an_equal_request_is_paid_once_by_whichever_organism(
    make: Make, provider: Provider, kind: str
) -> None:
    first, again = make(kind), make(kind)
    replies = first.generate([talk("Q."), talk("R."), talk("Q.")], SETTINGS)
    assert len(provider.answered) == 2, "equal requests are one question"
    assert replies[0] == replies[2]
    provider.fail(Fault(status=500, times=FOREVER))
    assert again.generate([talk("R."), talk("Q.")], SETTINGS) == [replies[1], replies[0]]
    assert len(provider.answered) == 2
    assert again.meter.generated_tokens > 0, "what it took does not depend on the journal"


def test_what_was_answered_before_needs_no_key(
    make: Make, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = make().generate([talk("Q.")], SETTINGS)
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    assert make().generate([talk("Q.")], SETTINGS) == replies


def test_another_prompt_setting_or_sample_is_another_question(
    make: Make, provider: Provider, kind: str
) -> None:
    model = make(kind)
    model.generate([talk("Q.")], SETTINGS)
    model.generate([talk("Q.")], replace(SETTINGS, seed=5))
    assert len(provider.answered) == 1, "greedy decoding has no seed"
    model.generate([talk("Q.")], replace(SETTINGS, max_new_tokens=50))
    for seed in (0, 1, 2):
        model.generate([talk("Q.")], replace(SETTINGS, temperature=1.0, seed=seed))
    model.system_prompt = "Another."
    model.generate([talk("Q.")], SETTINGS)
    # The Messages API takes no temperature: the first sample is the one that is there.
    assert len(provider.answered) == (5 if kind == "anthropic" else 6)


def test_what_was_answered_before_a_failure_is_kept(
    make: Make, provider: Provider, kind: str
) -> None:
    talks = [talk(f"Q {number}.") for number in range(6)]
    provider.fail(Fault(times=3), Fault(status=400, times=FOREVER))
    with pytest.raises(BackendError, match="refused the request"):
        make(kind, concurrency=1).generate(talks, SETTINGS)
    provider.fail()
    assert len(_asked(provider)) == 3
    make(kind).generate(talks, SETTINGS)
    assert set(_asked(provider).values()) == {1}
    assert len(_asked(provider)) == 6


def test_a_failure_is_the_one_that_came_first(make: Make, provider: Provider) -> None:
    provider.fail(Fault(times=1), Fault(status=500, headers={"retry-after": "30"}, times=2))
    model = make(concurrency=4, attempts=3)
    started = time.monotonic()
    real = provider.answer

    def refuse_the_last(system: str, user: str) -> str:
        if user == "Q 5.":
            provider.fail(Fault(status=400, times=FOREVER))
        return real(system, user)

    provider.answer = refuse_the_last
    with pytest.raises(BackendError, match="refused the request"):
        model.generate([talk(f"Q {number}.") for number in range(12)], SETTINGS)
    assert time.monotonic() - started < 20, "nobody goes on waiting"


# Batches


def test_many_requests_go_out_as_one_batch_at_half_the_price(
    make: Make, provider: Provider
) -> None:
    provider.polls = 3
    talks = [talk(f"Request {number}.") for number in range(20)]
    model = make(batch_from=20)
    seen: list[int] = []
    model.exchange.collect(model.questions(talks, SETTINGS), seen.append)
    assert seen == [20]
    (sent,) = provider.batches.values()
    assert len(sent.requests) == 20
    assert sent.requests[0]["params"]["system"][0]["cache_control"] == {"type": "ephemeral"}
    replies = model.generate(talks, SETTINGS)
    assert [reply.text for reply in replies] == [
        f"Sure. Here is: Request {number}." for number in range(20)
    ], "results come in another order"
    kept = model.exchange.used.values()
    assert all(reply.batched for reply in kept)
    rates = model.exchange.price
    assert rates is not None
    whole = sum(rates.cost(reply.tokens) for reply in kept)
    assert model.exchange.ledger.spent == pytest.approx(whole / 2)


def test_few_requests_go_out_one_by_one(make: Make, provider: Provider) -> None:
    model = make(batch_from=20)
    model.exchange.collect(model.questions([talk(f"Q {n}.") for n in range(19)], SETTINGS))
    assert not provider.batches
    assert len(provider.sent("/v1/messages")) == 19


@pytest.mark.parametrize("outcome", ["expired", "canceled", "errored"])
def test_requests_without_a_result_are_sent_in_one_more_batch(
    make: Make, provider: Provider, outcome: str
) -> None:
    provider.outcomes = {1: outcome, 4: outcome}
    talks = [talk(f"Request {number}.") for number in range(6)]
    model = make(batch_from=1)
    real = provider.answer
    model.exchange._say = lambda line: provider.outcomes.clear() if "no reply" in line else None
    provider.answer = real
    model.exchange.collect(model.questions(talks, SETTINGS))
    first, second = provider.batches.values()
    assert (len(first.requests), len(second.requests)) == (6, 2)
    assert set(_asked(provider).values()) == {1}


def test_a_batch_that_expires_again_is_one_line_and_keeps_the_rest(
    make: Make, provider: Provider, tmp_path: Path
) -> None:
    provider.outcomes = {0: "expired"}
    model = make(batch_from=1)
    questions = model.questions([talk(f"Request {number}.") for number in range(4)], SETTINGS)
    with pytest.raises(BackendUnavailableError, match="1 requests got no reply in 2 batches"):
        model.exchange.collect(questions)
    assert len(list(tmp_path.glob("cache/replies/*/*.json"))) == 3
    assert not list(tmp_path.glob("cache/open-batches/*"))


def test_an_archived_batch_is_said_to_be_lost(make: Make, provider: Provider) -> None:
    model = make(batch_from=1)
    questions = model.questions([talk("Q.")], SETTINGS)
    provider.lose = True
    with pytest.raises(BackendError):
        model.exchange.collect(questions)
    provider.lose = False
    (lost,) = provider.batches.values()
    again = make(batch_from=1)
    journal = again.exchange._journal
    (note,) = journal.open_batches()
    journal.sent(note, lost.id)
    lost.archived = True
    with pytest.raises(BackendError, match="archived"):
        again.exchange.collect(again.questions([talk("Q.")], SETTINGS))
    assert journal.open_batches() == []


def test_a_refused_batch_leaves_no_note(make: Make, provider: Provider, tmp_path: Path) -> None:
    provider.fail(Fault(status=400))
    model = make(batch_from=1)
    with pytest.raises(BackendError, match=r"refused the request: no \(\[key\]\)"):
        model.exchange.collect(model.questions([talk("Q.")], SETTINGS))
    assert not list(tmp_path.glob("cache/open-batches/*"))
    assert model.exchange.ledger.committed == 0


def test_notes_of_batches_hold_no_key(make: Make, provider: Provider, tmp_path: Path) -> None:
    provider.lose = True
    model = make(batch_from=1)
    with pytest.raises(BackendError):
        model.exchange.collect(model.questions([talk("Q.")], SETTINGS))
    (note,) = tmp_path.glob("cache/open-batches/*.json")
    assert KEY not in note.read_text()
    assert json.loads(note.read_text())["id"] is None
