"""What a provider answered, and what was asked: the two things that the journal keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Ended: TypeAlias = Literal["whole", "cut", "refused"]
Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one request, as the provider counts them.

    Attributes:
        input: read and in no cache.
        cache_write, cache_read: read into, or from, the provider's prompt cache.
        output: written, thinking included.
    """

    input: int = 0
    cache_write: int = 0
    cache_read: int = 0
    output: int = 0

    @property
    def prompt(self) -> int:
        """All that were read."""
        return self.input + self.cache_write + self.cache_read


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a provider.

    Attributes:
        text: the reply, without what it thought; empty where the provider's filter refused.
        reasoning: what it thought, as far as the provider shows it.
        ended: as it should; cut by the limit of tokens; or refused by the provider's filter, which
            is not the model's own refusal.
        tokens: what it took.
        token_ids: of the reply, where the server gives them.
        batched: it came from a batch, at the price of one.
        cost: in USD; None where no price is known.
    """

    text: str
    reasoning: str
    ended: Ended
    tokens: Tokens
    token_ids: tuple[int, ...] = ()
    batched: bool = False
    cost: float | None = None

    def as_record(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Reply:
        """The inverse of `as_record`."""
        fields = dict(record)
        fields["tokens"] = Tokens(**fields["tokens"])
        fields["token_ids"] = tuple(fields["token_ids"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Question:
    """One request for a reply.

    Attributes:
        key: digest of all that the reply depends on; under it the reply is kept.
        body: what is sent.
        size: of the body's text in UTF-8 bytes: no tokenizer makes more tokens of it.
        output: the most tokens that come back.
    """

    key: str
    body: Body
    size: int
    output: int
