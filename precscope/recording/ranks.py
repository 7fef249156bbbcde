"""Names of the Recordings of a distributed run: one for each rank, beside each other."""

from __future__ import annotations

import os
import re
from pathlib import Path

from precscope.errors import RecordingError

DEFAULT_NAME = "run.precscope"


def rank_path(path: str | os.PathLike[str], rank: int) -> Path:
    """The Recording of one rank: ``run.rank3.precscope`` for rank 3 of ``run.precscope``."""
    whole = Path(path)
    return whole.with_name(f"{whole.stem}.rank{rank}{whole.suffix}")


def recordings_at(path: str | os.PathLike[str]) -> list[Path]:
    """The files that ``path`` stands for, in order of rank.

    A file stands for itself. A name without a file stands for the Recordings of its ranks, and a
    folder for the ``run.precscope`` in it, or for the only run in it. A name that stands for
    nothing is returned as it is.

    Raises:
        RecordingError: a folder holds several runs, or none.
    """
    named = Path(path)
    try:
        if named.is_dir():
            return _in_folder(named)
        return [named] if named.exists() else _ranks_of(named) or [named]
    except (OSError, ValueError):  # a name that no file can have
        return [named]


def _in_folder(folder: Path) -> list[Path]:
    usual = folder / DEFAULT_NAME
    if usual.exists():
        return [usual]
    runs = {_whole(file): file for file in sorted(folder.glob("*.precscope"))}
    if usual in runs or len(runs) == 1:
        whole = usual if usual in runs else next(iter(runs))
        return _ranks_of(whole) or [whole]
    if not runs:
        raise RecordingError(f"{folder} is a folder without a Recording: name the file")
    raise RecordingError(f"{folder} holds {len(runs)} Recordings of different runs: name one")


def _whole(file: Path) -> Path:
    return file.with_name(re.sub(r"\.rank\d+$", "", file.stem) + file.suffix)


def _ranks_of(whole: Path) -> list[Path]:
    pattern = re.compile(re.escape(whole.stem) + r"\.rank(\d+)" + re.escape(whole.suffix))
    found = {
        int(match[1]): file
        for file in (whole.parent.iterdir() if whole.parent.is_dir() else ())
        if (match := pattern.fullmatch(file.name))
    }
    return [found[rank] for rank in sorted(found)]
