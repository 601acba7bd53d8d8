"""The `afbench` command: its sub-commands, `--version`, and how every error is shown.

A sub-command's module is imported when the sub-command is asked for. Importing this module, and
`afbench --help`, must stay as quick as typer itself.
"""

from __future__ import annotations

import importlib
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from afbench import __version__
from afbench.cli.options import with_sandbox_kind
from afbench.cli.output import print_error
from afbench.errors import AfbenchError

EXIT_ERROR: Final = 1
EXIT_EXPECTED_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True)
class LazyCommand:
    """Where a sub-command is.

    Attributes:
        module: a module of afbench.cli, imported on demand; it imports heavy libraries inside its
            functions, because `--help` imports every one of them.
        attribute: a function (one command) or a typer.Typer (a group) in it.
    """

    module: str
    attribute: str


COMMANDS: Final[dict[str, LazyCommand]] = {
    "run": LazyCommand("run", "run"),
    "check": LazyCommand("check", "check"),
    "baseline": LazyCommand("check", "baseline"),
    "list": LazyCommand("catalog", "list_plugins"),
    "show": LazyCommand("catalog", "show"),
    "new": LazyCommand("catalog", "new"),
    "check-plugin": LazyCommand("catalog", "check_plugin"),
    "import": LazyCommand("imports", "app"),
    "organisms": LazyCommand("organisms", "app"),
    "detectors": LazyCommand("detectors", "app"),
    "submit": LazyCommand("submit", "submit"),
    "rescore": LazyCommand("submit", "rescore"),
    "leaderboard": LazyCommand("leaderboard", "app"),
    "schema": LazyCommand("schema", "schema"),
}


class LazyGroup(TyperGroup):
    """A group whose commands are the ones in COMMANDS, imported on demand.

    The signatures are loose, because typer's own click types are private.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of COMMANDS, then those registered on the app itself."""
        own = [name for name in super().list_commands(ctx) if name not in COMMANDS]
        return [*COMMANDS, *own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; None for an unknown name."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            # Kept in `commands`, from which typer also takes its suggestions.
            self.commands[cmd_name] = _load(cmd_name, COMMANDS[cmd_name])
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's, but an unknown name is compared with the names in COMMANDS."""
        if args and args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _load(name: str, where: LazyCommand) -> Any:
    target = getattr(importlib.import_module(f"afbench.cli.{where.module}"), where.attribute)
    if not isinstance(target, typer.Typer):
        single = typer.Typer(add_completion=False)
        single.command(name)(target)
        target = single
    command = typer.main.get_command(target)
    command.name = name
    return command


app = typer.Typer(
    name="afbench",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure whether a detector can tell a model that fakes alignment from one that does not.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"afbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks. May stand anywhere on the line.")
    ] = False,
) -> None:
    """Options before the sub-command. Both are handled elsewhere: here they are documented."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done; 1 a check failed, or an unexpected error; 2 an expected error, shown as one
    line, or wrong usage; 130 interrupted.

    Args:
        arguments: without the program's name; from sys.argv if None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = with_sandbox_kind([argument for argument in given if argument != "--debug"])
    try:
        app(given, prog_name="afbench")
    except AfbenchError as error:
        _fail(f"error: {error}", EXIT_EXPECTED_ERROR, debug)
    except KeyboardInterrupt:
        _interrupted(given, debug)
    except SystemExit as end:
        if end.code != EXIT_INTERRUPTED:
            raise
        _interrupted(given, debug)
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        hint = "" if debug else "; add --debug for the traceback"
        _fail(f"unexpected error: {line}{hint}", EXIT_ERROR, debug)


def _interrupted(arguments: Sequence[str], debug: bool) -> None:
    again = shlex.join(["afbench", *arguments])
    _fail(
        f"interrupted; what was finished is kept: to resume, run `{again}` again",
        EXIT_INTERRUPTED,
        debug,
    )


def _fail(line: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print_error(line)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
