"""A remote backend as `afbench run` is told of it, and who approves its cost."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.errors import AfbenchError

if TYPE_CHECKING:
    from afbench.cli.progress import TerminalProgress
    from afbench.remote.backend import Backend
    from afbench.remote.ledger import Approve, Estimate
    from afbench.store import Store

LOCAL = ("auto", "transformers", "vllm")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """The options of `afbench run` that say what runs the organisms."""

    backend: str
    model: str | None
    revision: str | None
    base_url: str | None
    max_cost: float | None
    yes: bool
    batch_from: int
    prices: Path | None


def remote_backend(
    options: RemoteOptions,
    store: Store,
    progress: TerminalProgress,
    *,
    temperature: float,
    jobs: int,
) -> Backend | None:
    """The backend that is asked for; None for models on this machine.

    Raises:
        UnknownNameError: there is no such backend.
        AfbenchError: options that do not go together; or as `make_backend`.
    """
    if options.backend in LOCAL:
        _check_local(options)
        return None
    from afbench.remote.backend import make_backend
    from afbench.remote.exchange import Terms

    if options.backend == "anthropic" and options.model is None:
        raise AfbenchError(
            "a remote backend needs the name of a model", where="--backend", fix="give --model"
        )
    if options.revision is not None:
        raise AfbenchError(
            "only a hub's model has a revision", where="--revision", fix="leave it out"
        )
    if jobs > 1:
        raise AfbenchError(
            "a remote backend is asked by one process, which keeps its limits",
            where="--jobs",
            fix="leave it out: requests go out side by side anyway",
        )
    if options.backend == "anthropic" and temperature > 0:
        raise AfbenchError(
            "the Messages API takes no temperature: its models sample at their own",
            where="--temperature",
            fix="leave it out",
        )
    return make_backend(
        options.backend,
        options.model,
        store,
        approval(progress, yes=options.yes),
        base_url=options.base_url,
        terms=Terms(max_cost=options.max_cost, batch_from=options.batch_from),
        prices=options.prices,
        say=progress.say,
    )


def approval(progress: TerminalProgress, *, yes: bool) -> Approve:
    """Shows an estimate and asks for it: on a terminal a person, elsewhere `--yes`."""

    def approve(estimate: Estimate) -> None:
        with progress.paused():
            line = estimate.line()
            if estimate.about is None or yes:
                print(line, file=sys.stderr)
                return
            if not sys.stdin.isatty() or not sys.stderr.isatty():
                raise AfbenchError(
                    f"nobody is there to approve {line}",
                    where="no terminal",
                    fix="add --yes to approve it; nothing was sent",
                )
            print(f"{line}\nSend them? [y/N] ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise AfbenchError("not approved", fix="nothing was sent")

    return approve


def _check_local(options: RemoteOptions) -> None:
    given = {
        "--base-url": options.base_url,
        "--max-cost": options.max_cost,
        "--prices": options.prices,
    }
    for name, value in given.items():
        if value is not None:
            raise AfbenchError(
                "models on this machine cost no money and have no address",
                where=name,
                fix="leave it out, or give --backend anthropic|openai",
            )
