"""``python -m precscope``: the same as the ``precscope`` command."""

from __future__ import annotations

import sys


def _drop_working_directory() -> None:
    """Take off ``sys.path`` what ``-m`` put first, so that no file lying there shadows a module.

    The console script does not have the working directory on its path either.
    """
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]


def main() -> None:
    """Run the command line; it ends the process with the exit code."""
    _drop_working_directory()
    from precscope_cli.main import main as command_line  # noqa: TID251 - the one door upwards

    command_line()


if __name__ == "__main__":
    main()
