"""What the parts of one monitor share, put together once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from precscope.monitor.guard import Guard
from precscope.monitor.inputs import Inputs
from precscope.monitor.modules import ModuleHooks
from precscope.monitor.parameters import ParameterHooks
from precscope.monitor.rows import RowStore
from precscope.monitor.sink import Sink
from precscope.monitor.sitebook import SiteBook
from precscope.monitor.state import State


@dataclass(frozen=True, slots=True)
class Parts:
    """The observers of a model with what they write to.

    Attributes:
        model: the root.
        wanted: whether a module or parameter of this name is observed.
        state: the switches that the hooks read.
        guard: the errors of the observers.
        rows: what is counted.
        book: the sites that were met.
        modules: hooks on the modules.
        parameters: hooks on the parameters.
        inputs: what the root is called with.
    """

    model: nn.Module
    wanted: Callable[[str], bool]
    state: State
    guard: Guard
    rows: RowStore
    book: SiteBook
    modules: ModuleHooks
    parameters: ParameterHooks
    inputs: Inputs


def make_parts(
    model: nn.Module,
    sink: Sink,
    kinds: Iterable[str],
    wanted: Callable[[str], bool],
    window_steps: int,
    autocast_dtypes: dict[tuple[str, str], str],
) -> Parts:
    """Attach the observers of ``model``; arguments as those of ``Monitor``."""
    state, guard, rows = State.of_kinds(kinds), Guard(), RowStore(window_steps)
    book = SiteBook(sink, rows, autocast_dtypes)
    shared = (model, book, state, guard, wanted)
    return Parts(
        model=model,
        wanted=wanted,
        state=state,
        guard=guard,
        rows=rows,
        book=book,
        modules=ModuleHooks(*shared),
        parameters=ParameterHooks(*shared),
        inputs=Inputs(rows, guard),
    )


def name_filter(include: Iterable[str], exclude: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name matches a glob pattern of ``include`` and none of ``exclude``."""
    taken, left_out = tuple(include), tuple(exclude)

    def wanted(name: str) -> bool:
        return any(fnmatchcase(name, p) for p in taken) and not any(
            fnmatchcase(name, p) for p in left_out
        )

    return wanted
