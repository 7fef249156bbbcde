"""Load all compiled code before the user's files can shadow what its compiler imports."""

from __future__ import annotations

import torch

from precscope import kernels
from precscope.arithmetic.accumulation_kernel import products
from precscope.probes.accumulation.sums import prepare


def load_compiled_code() -> None:
    """Compile the kernels, or load them from numba's cache, and run each once.

    numba imports parts of itself when it compiles. Once the folder of a model file is on
    ``sys.path``, a file there may have the name of what it wants.
    """
    for dtype in (torch.float32, torch.float16):
        kernels.observe(torch.zeros(1, dtype=dtype), kernels.new_rows(1)[0])
    prepare()
    products()
