"""What a request asks of the hidden states of its prompt, on its way to the engine's process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

VALUES: Final = "values"
_PARAMETERS: Final = "kv_transfer_params"


@dataclass(frozen=True, slots=True)
class Reading:
    """Which vectors of a transcript are wanted, and where they are put.

    Attributes:
        file: name of the file, in the folder that the engine was started with.
        prompt_tokens: how many of the transcript's tokens come before its reply.
        slots: positions of the wanted layers among those that the engine keeps.
        poolings: names out of `POOLINGS`; none stands for every token.
    """

    file: str
    prompt_tokens: int
    slots: tuple[int, ...]
    poolings: tuple[str, ...]

    def as_extra(self) -> dict[str, Any]:
        """As a request's extra arguments."""
        return {_PARAMETERS: {"afbench": asdict(self)}}

    @classmethod
    def of(cls, extra: Mapping[str, Any] | None) -> Reading | None:
        """The reading among a request's extra arguments, if there is one."""
        found = ((extra or {}).get(_PARAMETERS) or {}).get("afbench")
        if found is None:
            return None
        return cls(
            file=str(found["file"]),
            prompt_tokens=int(found["prompt_tokens"]),
            slots=tuple(found["slots"]),
            poolings=tuple(found["poolings"]),
        )
