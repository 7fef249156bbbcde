"""precscope: see where a PyTorch model loses precision, and train it in mixed precision.

    with precscope.watch(model, optimizer, path="run.precscope"):
        ...                                            # the training loop, unchanged
    recording = precscope.Recording.open("run.precscope")
    for finding in precscope.advise(recording):
        print(finding.message, finding.code)

Names are loaded when first used, so that ``import precscope`` costs next to nothing.
"""

from __future__ import annotations

# Not typing's: with ``python -m`` the user's folder comes first on sys.path while this file runs,
# so it imports nothing that a file there could be called.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from precscope.advice import advise as advise
    from precscope.errors import PrecscopeError as PrecscopeError
    from precscope.formats import NumberFormat as NumberFormat
    from precscope.histogram import ExponentHistogram as ExponentHistogram
    from precscope.recipe import Recipe as Recipe
    from precscope.recording import Recording as Recording
    from precscope.result import build_result as build_result
    from precscope.training import MixedPrecision as MixedPrecision
    from precscope.watching import watch as watch

__version__ = "0.1.0"

_HOMES = {
    "ExponentHistogram": "precscope.histogram",
    "MixedPrecision": "precscope.training",
    "NumberFormat": "precscope.formats",
    "PrecscopeError": "precscope.errors",
    "Recipe": "precscope.recipe",
    "Recording": "precscope.recording",
    "advise": "precscope.advice",
    "build_result": "precscope.result",
    "watch": "precscope.watching",
}

__all__ = [
    "ExponentHistogram",
    "MixedPrecision",
    "NumberFormat",
    "PrecscopeError",
    "Recipe",
    "Recording",
    "__version__",
    "advise",
    "build_result",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'precscope' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
