"""A file that is there whole, or as it was before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all.

    A link is followed, and a file that is replaced keeps its permissions. A pipe or a device
    cannot be replaced: it is written to.

    Raises:
        OSError: it cannot be written.
    """
    content = text.encode("utf-8")
    if path.exists() and not path.is_file():
        path.write_bytes(content)
    else:
        _replace(Path(os.path.realpath(path)), content)


def _replace(target: Path, content: bytes) -> None:
    # A name of its own: one made from the target's could be too long.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".precscope-")
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        unfinished.chmod(_permissions(target))
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _permissions(target: Path) -> int:
    """Those of the file that is replaced, or of any new file: mkstemp's is private."""
    if target.exists():
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
