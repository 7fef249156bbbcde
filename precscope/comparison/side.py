"""One side of a comparison: a result, where it came from, and the loss that was observed."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from precscope.comparison.shape import check_result
from precscope.errors import RecordingError
from precscope.recording import Recording
from precscope.recording.values import json_value
from precscope.result import build_result

MAX_JSON_BYTES: Final = 1 << 30
"""A result.json larger than this is not read: ours have some kilobytes per site."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is compared.

    Attributes:
        label: how the side is called, usually its path.
        result: a dict of schema 1.
        observed_loss: mean of the last tenth of the finite losses that the observer saw in the
            training itself, None where it saw none or the side came from a ``result.json``.
    """

    label: str
    result: dict[str, Any]
    observed_loss: float | None = None


def side_of_recording(recording: Recording, label: str) -> Side:
    """The side that a Recording is."""
    return Side(label, build_result(recording), _observed_loss(recording))


def load_side(path: str | os.PathLike[str], label: str | None = None) -> Side:
    """A side from a file: what ``Recording.open`` takes, or a ``result.json`` told by its suffix.

    The file is treated as a stranger's: every key that a comparison reads is checked.

    Raises:
        RecordingError: it cannot be read or is damaged; one line.
    """
    file = Path(path)
    label = str(path) if label is None else label
    if file.suffix == ".json":
        return Side(label, _read_result(file))
    return side_of_recording(Recording.open(file), label)


def _read_result(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise RecordingError(f"cannot read {path}: there is no such file")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise RecordingError(f"{path} is too large to be a result of precscope")
        result = json_value(path.read_text(encoding="utf-8"))
        check_result(result)
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise RecordingError(f"{path} is not JSON: {error.msg} in line {error.lineno}") from error
    except ValueError as error:
        raise RecordingError(f"{path} is not a result of precscope: {error}") from error
    found: dict[str, Any] = result
    return found


def _observed_loss(recording: Recording) -> float | None:
    losses = [s.loss for s in recording.steps if s.loss is not None and math.isfinite(s.loss)]
    last = losses[-max(1, len(losses) // 10) :]
    return math.fsum(last) / len(last) if last else None
