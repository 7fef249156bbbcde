"""The click group behind ``precscope``: lazy commands, one line per error, the exit codes.

Exit codes: 0 done, 1 an error, 2 a wrong command line, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from precscope.errors import PrecscopeError
from precscope_cli.streams import one_line, open_missing_streams, tell

PROGRAM = "precscope"
INTERRUPTED = 130


@dataclass(slots=True)
class Invocation:
    """What all commands know about how they were called.

    Attributes:
        command: the command line as typed, quoted so that it can be pasted.
        debug: whether an error shows its traceback.
    """

    command: str
    debug: bool = False


class Application(click.Group):
    """A group that imports a command when it is called, and turns errors into exit codes.

    Args:
        commands_in: ``"module:attribute"`` of each command, by name.
        **attributes: everything that ``click.Group`` takes.
    """

    def __init__(self, commands_in: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands_in = commands_in

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which somebody meets them."""
        return list(self.commands_in)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None if there is none of that name."""
        if cmd_name not in self.commands_in:
            return None
        module, attribute = self.commands_in[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; a wrong one is told with what was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(
                f"No such command {args[0]!r}{self._meant(args[0])}", ctx
            ) from error

    def _meant(self, typed: str) -> str:
        nearest = get_close_matches(typed, self.commands_in, 1)
        if nearest:
            return f": the nearest is {nearest[0]}"
        if Path(typed).exists():
            return f": did you mean {shlex.join([PROGRAM, 'analyze', typed])}"
        return ""

    def main(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any
    ) -> Any:
        """Run the command line and end the process with the exit code; never returns."""
        open_missing_streams()
        typed = sys.argv[1:] if args is None else list(args)
        invocation = Invocation(command=shlex.join([PROGRAM, *typed]))
        run = super().main
        extra["standalone_mode"] = False
        sys.exit(exit_code_of(lambda: run(typed, PROGRAM, obj=invocation, **extra), invocation))


def exit_code_of(call: Callable[[], object], invocation: Invocation) -> int:
    """Call, say in one line what went wrong if anything did, and return the exit code."""
    try:
        code = call()
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        tell(f"error: {_usage_message(error)}")
        return error.exit_code
    except PrecscopeError as error:
        _explain(error, str(error), invocation)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last one to see it; --debug shows all of it
        hint = "" if invocation.debug else " (--debug shows the traceback)"
        _explain(error, f"{_told(error)}{hint}", invocation)
        return 1
    return code if isinstance(code, int) else 0


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def _explain(error: Exception, message: str, invocation: Invocation) -> None:
    if invocation.debug:
        tell("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())
    tell(f"error: {one_line(message)}")


def _usage_message(error: click.ClickException) -> str:
    message = one_line(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path} --help)" if context else message
