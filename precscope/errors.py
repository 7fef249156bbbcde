"""The errors that precscope raises on purpose: one line each, naming what to change."""

from __future__ import annotations


class PrecscopeError(Exception):
    """A mistake that the user can mend; the message is one line that says how.

    Attributes:
        exit_code: what the command line exits with when this error reaches it.
    """

    exit_code = 1


class UsageError(PrecscopeError):
    """A wrong argument: an unknown recipe, format or option value."""

    exit_code = 2


class WorkloadError(PrecscopeError):
    """The model file, its model, batches, loss or optimizer cannot be used as they are."""


class RecordingError(PrecscopeError):
    """A Recording cannot be read or written: truncated, foreign, of a newer schema, unwritable."""
