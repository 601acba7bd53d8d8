"""Which isolation a run uses: what works here, or a refusal that says why nothing does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from afbench.errors import SandboxError, UnknownNameError
from afbench.sandbox.bubblewrap import Bubblewrap
from afbench.sandbox.container import Container
from afbench.sandbox.limits import Limits
from afbench.sandbox.processes import Sandbox
from afbench.sandbox.view import View

Kind = Literal["auto", "bubblewrap", "container"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Isolation:
    """How detectors are isolated: a description, which another process can act on as well.

    Attributes:
        kind: the way; never `auto`.
        limits: of each detector.
        secret: folders that no detector may see.
    """

    kind: Kind
    limits: Limits = field(default_factory=Limits)
    secret: tuple[Path, ...] = ()

    def sandbox(self) -> Sandbox:
        """A sandbox that is not started; the caller closes it.

        Raises:
            SandboxError: a secret folder cannot be kept from sight.
        """
        if self.kind == "container":
            return Container(self.limits)
        return Bubblewrap(View.of_this_machine(self.secret), self.limits)


def choose(
    kind: str = "auto",
    *,
    trust: bool = False,
    limits: Limits | None = None,
    secret: Sequence[Path] = (),
) -> Isolation | None:
    """The isolation to use: the one asked for, or the first that works.

    Args:
        trust: go on without one where none works.

    Returns:
        None where nothing works and the code is trusted.

    Raises:
        SandboxError: nothing works; says why.
        UnknownNameError: there is no such kind.
    """
    if kind not in KINDS:
        raise UnknownNameError("sandbox", kind, KINDS)
    problems = []
    for one in KINDS[1:]:
        if kind not in ("auto", one):
            continue
        chosen = Isolation(one, limits or Limits(), tuple(secret))
        with _closed(chosen) as problem:
            if problem is None:
                return chosen
        problems.append(problem)
    if trust:
        return None
    raise SandboxError(
        f"nothing here isolates a stranger's code: {'; '.join(problems)}",
        fix="install bubblewrap (Linux: apt-get install bubblewrap) or docker, or add --trust to "
        "run it unprotected",
    )


@contextmanager
def _closed(isolation: Isolation) -> Iterator[str | None]:
    """Why an isolation does not work, found by trying."""
    sandbox = isolation.sandbox()
    try:
        assert isinstance(sandbox, Bubblewrap | Container)
        yield sandbox.problem()
    finally:
        sandbox.close()
