"""What providers charge, from a data file with its source and date."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afbench.errors import BackendError
from afbench.remote.reply import Question, Tokens

SHIPPED: Final = Path(__file__).parent / "prices.json"
_MILLION: Final = 1_000_000
# English has about four bytes to a token; the newest tokenizers of Anthropic make more of them.
_BYTES_PER_TOKEN: Final = 3
# What a request has besides its texts: roles and marks of turns.
_FRAME: Final = 64


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rates(_Part):
    """USD per million tokens; `cache_write` is that of entries that last five minutes."""

    input: float = Field(ge=0)
    cache_write: float = Field(ge=0)
    cache_read: float = Field(ge=0)
    output: float = Field(ge=0)

    def cost(self, tokens: Tokens) -> float:
        """USD of one request."""
        return (
            tokens.input * self.input
            + tokens.cache_write * self.cache_write
            + tokens.cache_read * self.cache_read
            + tokens.output * self.output
        ) / _MILLION


class LongRates(Rates):
    """Of a request whose prompt has more than `over` tokens; all of its tokens cost as much."""

    over: int = Field(gt=0)


class ModelRates(Rates):
    """Of one model."""

    long: LongRates | None = None


class _File(_Part):
    source: str
    date: str
    note: str = ""
    unit: str = Field(pattern=r"^USD per million tokens$")
    batch_share: float = Field(gt=0, le=1)
    models: dict[str, ModelRates]


class Price(_Part):
    """What one model costs.

    `batch_share` is the part of it that a request in a batch costs; `date` is that of the prices.
    """

    rates: ModelRates
    batch_share: float
    date: str

    def cost(self, tokens: Tokens, *, batched: bool = False) -> float:
        """USD of one request."""
        long = self.rates.long
        rates = long if long is not None and tokens.prompt > long.over else self.rates
        return rates.cost(tokens) * (self.batch_share if batched else 1.0)

    def about(self, question: Question, *, batched: bool = False) -> float:
        """USD of a request by the length of its text, if its reply takes all tokens it may."""
        tokens = Tokens(input=question.size // _BYTES_PER_TOKEN + _FRAME, output=question.output)
        return self.cost(tokens, batched=batched)

    def at_most(self, question: Question, *, batched: bool = False) -> float:
        """USD that a request cannot exceed: every byte is a token that goes into the cache."""
        tokens = Tokens(cache_write=question.size + _FRAME, output=question.output)
        return self.cost(tokens, batched=batched)


def load_price(model: str, path: Path | None = None) -> Price | None:
    """The price of a model, by its id with or without a date at its end.

    Args:
        path: a file of the user's, of the shape of prices.json; None is the shipped one.

    Returns:
        None where the file does not hold the model.

    Raises:
        BackendError: the file cannot be read, or is of another shape.
    """
    source = SHIPPED if path is None else path
    try:
        found = _File.model_validate_json(source.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(f"cannot read the prices: {error}", where=str(source)) from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"]) or "the file"
        raise BackendError(
            f"no prices: {field}: {first['msg']}",
            where=str(source),
            fix="write it as afbench/remote/prices.json is",
        ) from None
    for name in (model, re.sub(r"-\d{8}$", "", model)):
        if name in found.models:
            rates = found.models[name]
            return Price(rates=rates, batch_share=found.batch_share, date=found.date)
    return None


def priced_models() -> list[str]:
    """The models of the shipped file."""
    return sorted(_File.model_validate_json(SHIPPED.read_text("utf-8")).models)
