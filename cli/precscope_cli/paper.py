"""Text for a stream, drawn by rich, without being on that stream yet."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from precscope_cli.streams import PLAIN_HEIGHT, Look, trimmed

if TYPE_CHECKING:
    from rich.console import Console


def printed(look: Look, draw: Callable[[Console], object]) -> str:
    """What ``draw`` prints on a console of this look; no line ends in spaces."""
    from rich.console import Console

    page = io.TextIOWrapper(io.BytesIO(), encoding=look.encoding, errors="replace", newline="\n")
    draw(
        Console(
            file=page,
            width=look.width,
            height=PLAIN_HEIGHT,
            color_system=look.color_system,  # type: ignore[arg-type]
            force_terminal=look.color_system is not None,
            force_jupyter=False,
            legacy_windows=False,
            no_color=False,
            markup=False,
            emoji=False,
            highlight=False,
        )
    )
    page.flush()
    return trimmed(page.buffer.getvalue().decode(look.encoding))
