"""Batches that are paid for once, whatever is killed when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from afbench.errors import BackendError, BackendUnavailableError
from afbench.remote.journal import Journal, OpenBatch
from afbench.remote.ledger import Ledger
from afbench.remote.pacing import patiently
from afbench.remote.prices import Price
from afbench.remote.provider import BatchProvider, BatchState
from afbench.remote.reply import Question, Reply

T = TypeVar("T")

# The API takes 100,000 requests and 256 MB; smaller batches lose less to an expiry.
_REQUESTS: Final = 10_000
_BYTES: Final = 100_000_000
# Clocks of two machines may differ by so much.
_SKEW: Final = timedelta(minutes=5)


class Batches:
    """Sends questions in batches and keeps what comes back.

    Args:
        provider: takes batches.
        journal: where replies are kept.
        ledger: the run's money.
        price: of the model; None counts no money.
        attempts: how often a request to the provider is made before it is given up.
        every: seconds between two looks at a batch.
        keep: keeps a reply that arrives and says what it cost.
        say: told what is waited for.
    """

    def __init__(
        self,
        provider: BatchProvider,
        journal: Journal,
        ledger: Ledger,
        price: Price | None,
        *,
        attempts: int,
        every: float,
        keep: Callable[[str, Reply], float],
        say: Callable[[str], None],
    ) -> None:
        self._provider, self._journal, self._ledger = provider, journal, ledger
        self._price, self._attempts, self._every = price, attempts, every
        self._keep, self._say = keep, say

    def resume(self, keys: set[str]) -> None:
        """Keep what comes of batches that an earlier process sent for some of these questions."""
        for batch in self._journal.open_batches():
            if keys.isdisjoint(batch.keys):
                continue
            if batch.id is None:
                self._find(batch)
                continue
            self._ledger.commit(batch.at_most)
            self._say(f"a batch of {len(batch.keys)} requests was sent before: waiting for it")
            self._finish(batch)

    def send(self, questions: Sequence[Question]) -> None:
        """Send questions, wait, and keep the replies; those that expired are left unanswered.

        Raises:
            SpendingLimitError: they could take the run over its limit; nothing was sent then.
        """
        sent = [self._sent(part) for part in _parts(questions)]
        for batch in sent:
            self._finish(batch)

    def _sent(self, questions: Sequence[Question]) -> OpenBatch:
        price = self._price
        at_most = sum(price.at_most(one, batched=True) for one in questions) if price else 0.0
        self._ledger.reserve(at_most)
        batch = self._journal.begin(tuple(one.key for one in questions), at_most)
        requests = [(_id_of(one.key), one.body) for one in questions]
        try:
            # Once: of a request that may have arrived only the list of batches tells whether it
            # did, and `resume` asks that.
            state = self._once(lambda: self._provider.send_batch(requests))
        except BackendError as error:
            self._ledger.release(at_most)
            if not (isinstance(error, BackendUnavailableError) and error.begun):
                self._journal.close(batch)
            raise
        self._say(f"sent a batch of {len(questions)} requests: its replies take up to a day")
        return self._journal.sent(batch, state.id)

    def _find(self, batch: OpenBatch) -> None:
        """Look for a batch that was about to be sent when the process was killed."""
        since = datetime.fromisoformat(batch.begun) - _SKEW
        claimed = {other.id for other in self._journal.open_batches()}
        for state in self._patiently(lambda: self._provider.batches_since(since)):
            if state.requests != len(batch.keys) or state.id in claimed:
                continue
            self._ledger.commit(batch.at_most)
            self._wait(state)
            ours = {_id_of(key) for key in batch.keys}
            if {id_ for id_, _, _ in self._results(state.id)} == ours:
                self._finish(self._journal.sent(batch, state.id))
                return
            self._ledger.release(batch.at_most)
        self._journal.close(batch)  # it never arrived

    def _finish(self, batch: OpenBatch) -> None:
        """Wait for a batch that was sent, keep its replies, and close it."""
        id_ = batch.id or ""
        state = self._wait(self._state(id_))
        if state.archived:
            self._journal.close(batch)
            self._ledger.release(batch.at_most, begun=True)
            raise BackendError(
                f"the batch {id_} is archived: its replies cannot be had any more",
                where=self._where,
                fix="run it again to ask for them anew; they are paid for again",
            )
        keys = {_id_of(key): key for key in batch.keys}
        cost, why = 0.0, ""
        for found, reply, problem in self._results(id_):
            if reply is not None and found in keys:
                cost += self._keep(keys[found], reply)
            else:
                why = problem or why
        self._journal.close(batch)
        self._ledger.settle(batch.at_most, cost)
        if why:
            self._say(f"some requests of a batch have no reply ({why}); they cost nothing")

    def _wait(self, state: BatchState) -> BatchState:
        pause = threading.Event()
        while not (state.ended or state.archived):
            pause.wait(self._every)
            state = self._state(state.id)
        return state

    def _state(self, id_: str) -> BatchState:
        return self._patiently(lambda: self._provider.batch(id_))

    def _results(self, id_: str) -> list[tuple[str, Reply | None, str]]:
        return self._patiently(lambda: list(self._provider.results(id_)))

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(call, attempts=self._attempts, where=self._where)

    def _once(self, call: Callable[[], T]) -> T:
        return patiently(call, attempts=self._attempts, where=self._where, again_if_begun=False)

    @property
    def _where(self) -> str:
        return f"{self._provider.model} at {self._provider.host}"


def _id_of(key: str) -> str:
    """Our id of a request: 64 hexadecimal digits, which is as long as the API takes."""
    return key.removeprefix("sha256:")


def _parts(questions: Sequence[Question]) -> list[list[Question]]:
    parts: list[list[Question]] = []
    size = _BYTES + 1
    for question in questions:
        if size + question.size > _BYTES or len(parts[-1]) >= _REQUESTS:
            parts.append([])
            size = 0
        parts[-1].append(question)
        size += question.size
    return parts
