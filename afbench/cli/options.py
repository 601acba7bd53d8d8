"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from afbench.sandbox.choose import Isolation

Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugins",
        metavar="DIR",
        help="A folder with plug-ins; may be given several times. See also AFBENCH_PLUGINS.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Cache = Annotated[
    Path | None, typer.Option(help="The cache (default: AFBENCH_CACHE or the user's).")
]
Out = Annotated[Path, typer.Option(help="Where runs are written.")]
Fresh = Annotated[bool, typer.Option(help="Evaluate again even if this run's result is there.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes that score detectors side by side.")]
SANDBOXES: Final = ("auto", "bubblewrap", "container")
Sandbox = Annotated[
    str | None,
    typer.Option(
        "--sandbox",
        metavar="[auto|bubblewrap|container]",
        help="Run the code of detectors isolated: no network, no files, no labels but those of its "
        "fit. Alone it means auto: the first that works here.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="With --sandbox: where nothing isolates, run it unprotected."),
]


def with_sandbox_kind(arguments: Sequence[str]) -> list[str]:
    """The command line with `--sandbox=auto` for a `--sandbox` that has no value."""
    following = [*arguments[1:], ""]
    return [
        "--sandbox=auto" if one == "--sandbox" and after not in SANDBOXES else one
        for one, after in zip(arguments, following, strict=True)
    ]


def isolation_of(sandbox: str | None, trust: bool) -> Isolation | None:
    """What `--sandbox` and `--trust` ask for; None runs detectors in this process.

    Raises:
        SandboxError: nothing here isolates a detector, and it is not trusted.
        AfbenchError: the options do not go together.
    """
    from afbench.errors import AfbenchError
    from afbench.sandbox.choose import choose

    if sandbox is None:
        if trust:
            raise AfbenchError("there is nothing to trust", where="--trust", fix="add --sandbox")
        return None
    return choose(sandbox, trust=trust)
