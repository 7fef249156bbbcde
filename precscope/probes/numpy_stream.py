"""The position of numpy's global random stream, kept and put back, at no cost where it stands still.

``get_state`` and ``set_state`` take some 50 us each, as long as a forward pass of a small model, and
most code draws nothing from numpy. The generator's memory, 2.5 kilobytes that are compared in a
microsecond, tells whether anything was drawn.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from numpy.random import mtrand

MEMORY_BYTES: Final = 625 * 4
"""Of ``struct {uint32_t key[624]; int pos;}``, the Mersenne twister behind the global functions."""


class NumpyStream:
    """Where numpy's global stream stands as this is made.

    The state that was copied last serves again while the stream has not moved.
    """

    _last: tuple[bytes, Any] | None = None

    def __init__(self) -> None:
        self._memory = _memory()
        last = NumpyStream._last
        if last is not None and last[0] == self._memory:
            self._state = last[1]
            return
        self._state = np.random.get_state(legacy=False)  # noqa: NPY002
        if self._memory is None or self._state["has_gauss"]:
            # A normal deviate held back lies elsewhere: the memory does not tell that it was used.
            self._memory = None
        else:
            NumpyStream._last = (self._memory, self._state)

    def restore(self) -> None:
        """Put the stream back to where it stood."""
        if self._memory is None or self._memory != _memory():
            np.random.set_state(self._state)  # noqa: NPY002


def _memory() -> bytes | None:
    """The generator's memory; None of a generator other than numpy's own."""
    generator = mtrand.get_bit_generator()
    if not isinstance(generator, np.random.MT19937):
        return None
    return ctypes.string_at(generator.ctypes.state_address, MEMORY_BYTES)
