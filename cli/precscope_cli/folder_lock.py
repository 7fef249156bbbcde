"""A folder that the user has named, kept from every other run until this process ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_held: dict[tuple[int, int], int] = {}
"""Descriptors by the folder's device and inode, which nothing else has while they are open."""


def lock_folder(folder: Path) -> bool:
    """Whether the folder is ours from now on: False while another run has it.

    Nothing is left in it, and a run that is killed leaves no lock. A file system without locks
    on folders lets everybody in.

    Raises:
        OSError: the folder cannot be opened.
    """
    if sys.platform == "win32":  # it has no locks on folders
        return True
    descriptor = os.open(folder, os.O_RDONLY)
    status = os.fstat(descriptor)
    key = (status.st_dev, status.st_ino)
    if key in _held:
        os.close(descriptor)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return not isinstance(error, BlockingIOError)
    _held[key] = descriptor
    return True
