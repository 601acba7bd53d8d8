"""Asks a provider each question once: kept replies first, then what was approved."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, cast

from afbench.errors import BackendUnavailableError, SpendingLimitError
from afbench.messages import Conversation
from afbench.models.interface import GenerationSettings, Progress
from afbench.remote.batches import Batches
from afbench.remote.journal import Journal
from afbench.remote.ledger import Approve, Estimate, Ledger
from afbench.remote.pacing import Pacer, patiently
from afbench.remote.prices import Price
from afbench.remote.provider import BatchProvider, Provider
from afbench.remote.reply import Question, Reply
from afbench.remote.wire import Fault
from afbench.store import Store, digest_of

_ATTEMPTS = 8
# A batch of which requests expired is sent once more, without those that were answered.
_BATCH_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """How a provider is asked; none of it changes a reply.

    Attributes:
        max_cost: USD that the run may spend; None is what was approved.
        concurrency: the most requests under way at once.
        attempts: how often a request is made before it is given up.
        batch_from: from so many questions on they go out in batches; None never.
        every: seconds between two looks at a batch.
    """

    max_cost: float | None = None
    concurrency: int = 32
    attempts: int = _ATTEMPTS
    batch_from: int | None = 1000
    every: float = 30.0


class _Round:
    """Requests that are under way together; after the first failure no further one begins."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self._lock = threading.Lock()

    def fail(self, error: BaseException) -> None:
        """Remember the first failure; later ones may only follow from it."""
        with self._lock:
            if not self.stop.is_set():
                self.failure = error
                self.stop.set()


class Exchange:
    """One provider, its journal, and the money of one run.

    Args:
        provider: is asked.
        store: the cache, in which replies are kept.
        price: of the model; None counts no money.
        approve: called with an estimate before the first request; raises to send none.
        terms: how it is asked.
        say: told of what a person should know.
    """

    def __init__(
        self,
        provider: Provider,
        store: Store,
        price: Price | None,
        approve: Approve,
        terms: Terms | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.provider, self.price = provider, price
        self.terms = terms or Terms()
        self.ledger = Ledger(self.terms.max_cost)
        self.used: dict[str, Reply] = {}
        self._provider_digest = digest_of(provider.identity)
        self._journal = Journal(store, self._provider_digest)
        self._approve, self._approved = approve, False
        self._pacer = Pacer(self.terms.concurrency)
        self._say = say

    @property
    def name(self) -> str:
        """The model and its host, for messages."""
        return f"{self.provider.model} at {self.provider.host}"

    def question(
        self,
        system_prompt: str | None,
        conversation: Conversation,
        settings: GenerationSettings,
        model: str | None = None,
    ) -> Question:
        """The question for one reply.

        Args:
            model: another model of the same provider.
        """
        body = self.provider.body(system_prompt, conversation, settings)
        if model is not None:
            body["model"] = model
        output = max(int(body.get(field, 0)) for field in ("max_tokens", "max_completion_tokens"))
        return Question(
            key=digest_of([self._provider_digest, body, self.provider.sample_of(settings)]),
            body=body,
            size=len(json.dumps(body, ensure_ascii=False).encode()),
            output=output,
        )

    def replies(
        self, questions: Sequence[Question], progress: Progress | None = None
    ) -> list[Reply]:
        """The reply to each question; those that are not kept are asked for one by one.

        Raises:
            BackendError: none can be had; what was answered before that is kept.
            SpendingLimitError: the next one could take the run over its limit.
        """
        missing = self._missing(questions)
        self._approve_once(missing, batched=False)
        self._one_by_one(missing, progress, len(questions) - len(missing))
        return [self.used[question.key] for question in questions]

    def collect(self, questions: Sequence[Question], progress: Progress | None = None) -> None:
        """Have all these replies kept, in batches where they are many.

        Raises:
            BackendError, SpendingLimitError: as `replies`.
        """
        missing = self._missing(questions)
        batches = self._batches()
        if batches is not None and missing:
            batches.resume({question.key for question in missing})
            missing = self._missing(questions)
        many = self.terms.batch_from is not None and len(missing) >= self.terms.batch_from
        batched = batches is not None and many
        self._approve_once(missing, batched=batched)
        if batches is None or not batched:
            self._one_by_one(missing, progress, len(questions) - len(missing))
            return
        for _ in range(_BATCH_ROUNDS):
            if missing:
                batches.send(missing)
                missing = self._missing(questions)
        if missing:
            raise BackendUnavailableError(
                f"{len(missing)} requests got no reply in {_BATCH_ROUNDS} batches",
                where=self.name,
                fix="run it again later: what was answered is kept",
            )
        if progress is not None:
            progress(len(questions))

    def estimate(self, questions: Sequence[Question], *, batched: bool) -> Estimate:
        """What questions will cost."""
        price, limit = self.price, self.terms.max_cost
        if price is not None and limit is None:
            # Room to ask one of them again and again after answers that were lost on the way.
            each = [price.at_most(question, batched=batched) for question in questions]
            limit = sum(each) + self.terms.attempts * max(each, default=0.0)
        return Estimate(
            model=self.name,
            requests=len(questions),
            output=sum(question.output for question in questions),
            batched=batched,
            about=sum(price.about(q, batched=batched) for q in questions) if price else None,
            at_most=sum(price.at_most(q, batched=batched) for q in questions) if price else None,
            limit=limit,
            date=price.date if price else None,
        )

    def _missing(self, questions: Sequence[Question]) -> list[Question]:
        """Those without a kept reply, each once."""
        missing: dict[str, Question] = {}
        for question in questions:
            if question.key in self.used or question.key in missing:
                continue
            kept = self._journal.reply(question.key)
            if kept is None:
                missing[question.key] = question
            else:
                self.used[question.key] = kept
        return list(missing.values())

    def _approve_once(self, missing: Sequence[Question], *, batched: bool) -> None:
        if self._approved or not missing:
            return
        estimate = self.estimate(missing, batched=batched)
        about, limit = estimate.about, self.terms.max_cost
        if about is not None and limit is not None and about > limit:
            raise SpendingLimitError(
                f"more than the limit: {estimate.line()}",
                where="--max-cost",
                fix="raise it, or take fewer scenarios; nothing was sent",
            )
        self._approve(estimate)
        self._approved = True
        if self.ledger.limit is None and estimate.limit is not None:
            # What was not approved is not spent: a later question has what these leave.
            self.ledger.limit = self.ledger.committed + estimate.limit

    def _one_by_one(
        self, missing: Sequence[Question], progress: Progress | None, done: int
    ) -> None:
        if not missing:
            return
        round_ = _Round()
        # The first by itself: a wrong key fails once, and the prompt cache is warm for the rest.
        self._ask(missing[0], round_)
        if progress is not None:
            progress(done + 1)
        pool = ThreadPoolExecutor(self.terms.concurrency, thread_name_prefix="afbench-remote")
        try:
            futures = [pool.submit(self._ask, question, round_) for question in missing[1:]]
            for index, future in enumerate(futures):
                wait([future])
                if round_.failure is not None:
                    raise round_.failure
                if progress is not None:
                    progress(done + index + 2)
        finally:
            round_.stop.set()
            # Those under way are kept when they are answered; none begins after a failure.
            pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, question: Question, round_: _Round) -> None:
        try:
            self.used[question.key] = patiently(
                lambda: self._attempt(question, round_.stop),
                attempts=self.terms.attempts,
                where=self.name,
                pacer=self._pacer,
                stop=round_.stop,
            )
        except BaseException as error:
            round_.fail(error)
            raise

    def _attempt(self, question: Question, stop: threading.Event) -> Reply:
        if stop.is_set():
            raise CancelledError
        at_most = self.price.at_most(question) if self.price else 0.0
        self.ledger.reserve(at_most)
        try:
            reply = self.provider.ask(question.body)
        except Fault as fault:
            self.ledger.release(at_most, begun=fault.begun)
            raise
        except BaseException:
            self.ledger.release(at_most)
            raise
        priced = self._priced(reply)
        # Kept before anything else: from here on it is paid.
        self._journal.keep(question.key, priced)
        self.ledger.settle(at_most, priced.cost or 0.0)
        return priced

    def _priced(self, reply: Reply) -> Reply:
        if self.price is None:
            return reply
        return replace(reply, cost=self.price.cost(reply.tokens, batched=reply.batched))

    def _batches(self) -> Batches | None:
        if not hasattr(self.provider, "send_batch"):
            return None

        def keep(key: str, reply: Reply) -> float:
            priced = self._priced(reply)
            self._journal.keep(key, priced)
            return priced.cost or 0.0

        return Batches(
            cast(BatchProvider, self.provider),
            self._journal,
            self.ledger,
            self.price,
            attempts=self.terms.attempts,
            every=self.terms.every,
            keep=keep,
            say=self._say,
        )


def spent_on(replies: Sequence[Reply]) -> dict[str, Any]:
    """What replies took, added up: requests, tokens, USD (None where no price is known)."""
    priced = [reply.cost for reply in replies if reply.cost is not None]
    return {
        "calls": len(replies),
        "input_tokens": sum(reply.tokens.prompt for reply in replies),
        "cached_tokens": sum(reply.tokens.cache_read for reply in replies),
        "output_tokens": sum(reply.tokens.output for reply in replies),
        "refused": sum(reply.ended == "refused" for reply in replies),
        "usd": round(sum(priced), 6) if len(priced) == len(replies) and replies else None,
    }
