"""Options that ``analyze`` and ``train`` share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import click

from precscope_cli.application import Invocation

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


class PathAsTyped(click.Path):
    """A path as it is: what else is wrong with it is said by whoever opens it.

    Args:
        path_type: what the command gets.
        is_file: whether it is a file that is written; one that ends in a slash is none.
    """

    def __init__(self, path_type: type, is_file: bool = False) -> None:
        super().__init__(path_type=path_type, readable=False)
        self._is_file = is_file

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; an empty one is most likely a variable of a shell that is not set."""
        typed = str(value)
        if not typed:
            self.fail("the path is empty", param, ctx)
        if self._is_file and typed.endswith(("/", os.sep)):
            self.fail(f"{typed} is a folder: name a file", param, ctx)
        return super().convert(value, param, ctx)


PATH = PathAsTyped(Path)
WRITTEN_FILE = PathAsTyped(Path, is_file=True)

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Request:
    """One call of ``analyze`` or ``train``.

    Attributes:
        file: the model file.
        output: folder for the results, None for one named after the model and the time.
        json: where else the result goes: a path, ``"-"`` for stdout, None for nowhere.
        quiet: nothing but errors is printed.
        settings: fields of ``AnalysisOptions`` that were given; the others keep their defaults.
    """

    file: Path
    output: Path | None
    json: str | None
    quiet: bool
    settings: dict[str, Any]


def request_from(given: dict[str, Any]) -> Request:
    """The request behind click's parameters of a command."""
    own = {key: given.pop(key) for key in ("file", "output", "json", "quiet")}
    return Request(**own, settings={key: val for key, val in given.items() if val is not None})


def _device(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not DEVICE.fullmatch(value):
        raise click.BadParameter(f"{value!r} is none of auto, cpu, cuda and cuda:N")
    return value


def _recipes(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise click.BadParameter("name at least one recipe, for example fp32,advised")
    return ("fp32", *dict.fromkeys(name for name in names if name != "fp32"))


def _recipe_files(
    ctx: click.Context, parameter: click.Parameter, value: tuple[Path, ...]
) -> tuple[Path, ...] | None:
    # Absolute: the model file may change the working directory before the recipe is trained.
    return tuple(path.absolute() for path in value) or None


def _debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    invocation = ctx.find_object(Invocation)
    if invocation is not None:
        invocation.debug |= value


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_debug,
    help="Show the traceback of an error.",
)

json_option = click.option(
    "--json",
    "json",
    type=PathAsTyped(str, is_file=True),
    metavar="PATH|-",
    help="Also write the result as JSON to PATH; '-' prints it, and nothing else, on stdout.",
)

quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")

OBSERVING_OPTIONS = (
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        metavar="N",
        help="Training steps to observe in FP32.  [default: 60]",
    ),
    click.option(
        "--every",
        type=click.IntRange(min=1),
        metavar="N",
        help="Observe every N-th of them.  [default: 1]",
    ),
)

RUN_OPTIONS = (
    click.option(
        "--output",
        "-o",
        type=PATH,
        metavar="DIR",
        help="Where to write.  [default: precscope-runs/<name>-<time>]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        metavar="N",
        help="Of the weights and the batches, the same for each recipe.  [default: 0]",
    ),
    click.option(
        "--device",
        metavar="NAME",
        callback=_device,
        help="auto, cpu, cuda or cuda:N.  [default: auto]",
    ),
    json_option,
    quiet_option,
    debug_option,
)

file_argument = click.argument("file", type=PATH)


def recipes_option(default: str) -> Option:
    """``--recipes``, with the default named in its help."""
    return click.option(
        "--recipes",
        metavar="A,B,C",
        callback=_recipes,
        help=f"What to train with, fp32 always first.  [default: {default}]",
    )


def recipe_steps_option(*names: str) -> Option:
    """``--recipe-steps``, under further names where there are no other steps."""
    return click.option(
        "recipe_steps",
        *names,
        "--recipe-steps",
        type=click.IntRange(min=1),
        metavar="N",
        help="Training steps of each recipe.  [default: 100]",
    )


recipe_file_option = click.option(
    "recipe_files",
    "--recipe",
    type=PATH,
    multiple=True,
    metavar="FILE",
    callback=_recipe_files,
    help="Also train with the recipe saved in FILE, under its name. May be repeated.",
)


def seeds_option(others: str) -> Option:
    """``--seeds``, with what is compared and the default named in its help."""
    return click.option(
        "--seeds",
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Train fp32 and {others} on N seeds in a row, to state parity against FP32's "
        "own spread.  [default: 3 where that takes up to 20 s per recipe, else 1]",
    )


def options(*chosen: Option) -> Option:
    """One decorator that adds the options in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(chosen), command)
