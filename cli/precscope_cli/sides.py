"""What a RUN on the command line may be, and how it is opened: by everything that is a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from precscope.errors import PrecscopeError, RecordingError, UsageError
from precscope_cli.output import RECORDING, RESULT

if TYPE_CHECKING:
    from precscope.comparison import Side
    from precscope.recording import Recording

_Made = TypeVar("_Made")

USE_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What code runs into that takes data to be as it should be."""


def files_of(run: Path) -> list[Path]:
    """The files that RUN stands for: one, or those of the ranks of a distributed training.

    Raises:
        RecordingError: a folder holds no Recording, or those of several runs.
    """
    from precscope.recording.ranks import recordings_at

    return recordings_at(run)


def open_recordings(runs: Sequence[Path]) -> Recording:
    """One Recording, or several merged as the ranks of one training.

    Raises:
        UsageError: one is named twice, or two have no site in common.
        RecordingError: one of them cannot be read.
    """
    from precscope.recording import Recording

    _check_named_once(runs)
    opened = [Recording.open(run) for run in runs]
    _check_one_training(runs, opened)
    return opened[0] if len(opened) == 1 else Recording.merge(opened)


def _check_named_once(runs: Sequence[Path]) -> None:
    first: dict[Path, Path] = {}
    for run in runs:
        recording = run / RECORDING if (run / RECORDING).is_file() else run
        known = first.setdefault(recording.resolve(), run)
        if known is not run:
            raise UsageError(f"{known} and {run} are the same Recording: name each rank once")


def _check_one_training(runs: Sequence[Path], opened: Sequence[Recording]) -> None:
    """Two models added up would be a number about nothing."""
    sites = [{(site.name, site.kind) for site in recording.sites} for recording in opened]
    for run, found in zip(runs, sites, strict=True):
        if found and sites[0] and not found & sites[0]:
            raise UsageError(
                f"{runs[0]} and {run} have no site in common, they are not ranks of one training:"
                " name one of them, or use precscope compare"
            )


def open_side(run: Path) -> Side:
    """A folder, a Recording, or a ``result.json``.

    Raises:
        RecordingError: it cannot be read or is damaged.
    """
    from precscope.comparison import load_side

    only_result = run.is_dir() and not (run / RECORDING).exists() and (run / RESULT).exists()
    path = run / RESULT if only_result else run
    return made_from(path, lambda: load_side(path, str(run)))


def made_from(path: Path, make: Callable[[], _Made]) -> _Made:
    """What ``make`` makes of a Recording that may be a stranger's.

    Every row is checked when it is read, but the documents of a Recording are free JSON: whatever
    their use runs into is told in one line that names the file.

    Raises:
        RecordingError: the documents cannot be used.
        PrecscopeError: what ``make`` raised on purpose.
    """
    try:
        return make()
    except PrecscopeError:
        raise
    except USE_ERRORS as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> RecordingError:
    said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return RecordingError(
        f"{path} holds documents that cannot be used ({said}; --debug shows where)"
    )
