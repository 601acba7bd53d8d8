"""How a run tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A listener for stages that take time."""

    def start(self, stage: str, total: int) -> None:
        """A stage begins; `total` steps are ahead."""

    def advance(self, stage: str, steps: int) -> None:
        """Some more steps are done."""

    def say(self, line: str) -> None:
        """Something that a person should know now."""


class Silent:
    """Tells nobody."""

    def start(self, stage: str, total: int) -> None: ...

    def advance(self, stage: str, steps: int) -> None: ...

    def say(self, line: str) -> None: ...
