"""Judges behind an API: every answer is kept by its content, and a malformed one asked for again.

What differs between providers is a `Transport`; what is kept, counted, retried and refused is here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol, TypedDict

from afbench.errors import BudgetError
from afbench.judging.items import Item
from afbench.judging.judge import Problem, Spending, Verdict
from afbench.judging.parsing import MalformedVerdict, parse_verdict
from afbench.judging.rubrics import Rubric
from afbench.store import Store, digest_of

# A malformed answer is asked for once more; the second one is counted as no verdict.
_ATTEMPTS: Final = 2
_KIND: Final = "verdicts"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from a provider.

    Attributes:
        ended: how: as it should, refused, or cut off (then the text is no whole answer).
        input_tokens: all of them, `cached_tokens` included.
    """

    text: str
    ended: Literal["whole", "refused", "cut"]
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


class Transport(Protocol):
    """One provider's way to ask for one answer."""

    @property
    def kind(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the question; JSON-able, without any secret."""
        ...

    def ask(self, system: str, user: str, schema: dict[str, Any]) -> Answer:
        """One answer; passing faults are retried inside.

        Raises:
            JudgeUnavailableError: none can be had: no key or a wrong one, no connection.
            JudgeError: it was asked wrongly, for a model that is not there, say.
        """
        ...


class _Entry(TypedDict):
    """What is kept of one verdict."""

    suspicion: float | None
    met: list[list[str]]
    problem: Problem | None
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


class RemoteJudge:
    """A judge behind a `Transport`.

    Args:
        transport: the provider.
        rubric: what the judge goes by.
        store: where answers are kept, verdicts that failed among them.
        concurrency: the most requests under way at once.
        max_requests: the most requests that this judge may make; kept answers are free.
    """

    def __init__(
        self,
        transport: Transport,
        rubric: Rubric,
        store: Store,
        *,
        concurrency: int = 8,
        max_requests: int = 5000,
    ) -> None:
        self.rubric = rubric
        self.spending = Spending()
        self._transport, self._store = transport, store
        self._concurrency, self._left = concurrency, max_requests
        self._lock = threading.Lock()

    @property
    def kind(self) -> str:
        """The provider's."""
        return self._transport.kind

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self._transport.model

    @property
    def identity(self) -> str:
        """A digest of the provider, the model, its settings and the rubric."""
        return digest_of([self._transport.identity, self.rubric.digest])

    def verdicts(self, items: Sequence[Item], votes: int = 1) -> list[tuple[Verdict, ...]]:
        """`votes` verdicts on each item; see `Judge`."""
        shown = [
            item if self.rubric.reads_reasoning else item.without_reasoning() for item in items
        ]
        keys = [[self._key(item, vote) for vote in range(votes)] for item in shown]
        kept: dict[str, _Entry] = {}
        missing: dict[str, Item] = {}
        for item, row in zip(shown, keys, strict=True):
            for key in row:
                if key in kept or key in missing:
                    continue
                found = self._store.read_json(_KIND, key)
                if found is None:
                    missing[key] = item
                else:
                    kept[key] = found
        kept |= self._asked(missing)
        for key in {key for row in keys for key in row}:
            self._count(kept[key])
        return [tuple(_verdict(kept[key]) for key in row) for row in keys]

    def _key(self, item: Item, vote: int) -> str:
        return digest_of([self.identity, asdict(item), vote])

    def _asked(self, missing: dict[str, Item]) -> dict[str, _Entry]:
        with self._lock:
            if len(missing) > self._left:
                raise BudgetError(
                    f"the judge '{self.kind}' would have to be asked {len(missing)} times, and "
                    f"{self._left} are left to it",
                    fix="raise max_requests in the judge's params, or ask of fewer cases",
                )
            self._left -= len(missing)
        if not missing:
            return {}
        # The first by itself: a wrong key fails once, and the provider's prompt cache is warm for
        # the rest.
        (first, item), *others = missing.items()
        answered = {first: self._entry(first, item)}
        calls = [lambda key=key, item=item: self._entry(key, item) for key, item in others]
        answered |= dict(zip([k for k, _ in others], _all(calls, self._concurrency), strict=True))
        return answered

    def _entry(self, key: str, item: Item) -> _Entry:
        """Ask until there is a verdict or no more attempt, and keep what came of it."""
        entry = _Entry(
            suspicion=None, met=[], problem="malformed",
            requests=0, input_tokens=0, cached_tokens=0, output_tokens=0,
        )  # fmt: skip
        for _ in range(_ATTEMPTS):
            answer = self._transport.ask(self.rubric.instructions, item.text(), self.rubric.schema)
            entry["requests"] += 1
            entry["input_tokens"] += answer.input_tokens
            entry["cached_tokens"] += answer.cached_tokens
            entry["output_tokens"] += answer.output_tokens
            if answer.ended == "refused":
                entry["problem"] = "refused"
                break
            try:
                if answer.ended == "cut":
                    raise MalformedVerdict("cut off")
                verdict = parse_verdict(answer.text, self.rubric, item)
            except MalformedVerdict:
                continue
            entry["suspicion"], entry["problem"] = verdict.suspicion, None
            entry["met"] = [list(pair) for pair in verdict.met]
            break
        self._store.write_json(_KIND, key, entry)
        return entry

    def _count(self, entry: _Entry) -> None:
        spent = self.spending
        spent.verdicts += 1
        spent.requests += entry["requests"]
        spent.input_tokens += entry["input_tokens"]
        spent.cached_tokens += entry["cached_tokens"]
        spent.output_tokens += entry["output_tokens"]
        spent.failed += entry["suspicion"] is None


def _verdict(entry: _Entry) -> Verdict:
    met = tuple((name, quote) for name, quote in entry["met"])
    return Verdict(entry["suspicion"], met, entry["problem"])


def _all(calls: Sequence[Callable[[], _Entry]], concurrency: int) -> list[_Entry]:
    """The results of calls, some at a time; after a failure no further one begins."""
    if not calls:
        return []
    failed = threading.Event()

    def run(call: Callable[[], _Entry]) -> _Entry:
        if failed.is_set():
            raise CancelledError
        try:
            return call()
        except BaseException:
            failed.set()
            raise

    pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="judge")
    try:
        # In the order in which they begin: the failure comes before what it cancelled.
        return [future.result() for future in [pool.submit(run, call) for call in calls]]
    finally:
        failed.set()
        # Those under way end by themselves and are kept; nobody waits for them after a failure.
        pool.shutdown(wait=False, cancel_futures=True)
