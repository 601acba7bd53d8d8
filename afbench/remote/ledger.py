"""What a run spends, the limit that it never passes, and the estimate that is approved before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from afbench.errors import SpendingLimitError


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is about to be sent.

    Attributes:
        model: the model and its host.
        requests: how many.
        output: the most tokens that come back.
        batched: they go out in batches.
        about: USD by the length of the texts, if every reply takes all tokens it may; None where no
            price is known.
        at_most: USD that they cannot exceed.
        limit: USD that the run may spend, by the user or, where none was given, by this estimate;
            None where no price is known.
        date: of the prices.
    """

    model: str
    requests: int
    output: int
    batched: bool
    about: float | None
    at_most: float | None
    limit: float | None
    date: str | None

    def line(self) -> str:
        """The estimate as one line."""
        how = "in batches" if self.batched else "one by one"
        what = f"{self.requests:,} requests to {self.model}, {how}"
        if self.about is None or self.at_most is None:
            return f"{what}, at most {self.output:,} tokens back (no price is known)"
        figures = f"about {usd(self.about)}, at most {usd(self.at_most)}"
        limit = "" if self.limit is None else f"; the run stops at {usd(self.limit)}"
        return f"{what}: {figures} by prices of {self.date}{limit}"


Approve: TypeAlias = Callable[[Estimate], None]
"""Called before the first request; raises an `AfbenchError` to send none."""


class Ledger:
    """Money of one run, in USD. What is under way counts with the most that it can cost.

    Args:
        limit: what the run may spend; None until something is approved.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self._spent = self._under_way = self._doubtful = 0.0
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """What was paid in this process."""
        return self._spent

    @property
    def committed(self) -> float:
        """Paid, under way, or possibly billed without an answer."""
        return self._spent + self._under_way + self._doubtful

    def reserve(self, amount: float) -> None:
        """Before a request is sent.

        Raises:
            SpendingLimitError: it could take the run over its limit.
        """
        with self._lock:
            if self.limit is not None and self.committed + amount > self.limit + 1e-12:
                raise SpendingLimitError(
                    f"the spending limit of {usd(self.limit)} is reached: {usd(self._spent)} were "
                    f"spent, and the next request may cost {usd(amount)}",
                    where="--max-cost",
                    fix="what was answered is kept; run it again with a higher --max-cost",
                )
            self._under_way += amount

    def commit(self, amount: float) -> None:
        """As `reserve`, for what an earlier process sent: it is paid whatever the limit."""
        with self._lock:
            self._under_way += amount

    def settle(self, amount: float, cost: float) -> None:
        """A reserved request was answered."""
        with self._lock:
            self._under_way -= amount
            self._spent += cost

    def release(self, amount: float, *, begun: bool = False) -> None:
        """A reserved request has no answer; if it was begun it may be billed all the same."""
        with self._lock:
            self._under_way -= amount
            if begun:
                self._doubtful += amount


def usd(amount: float) -> str:
    """An amount with as many digits as it takes to show that it is not nothing."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.2g}"
