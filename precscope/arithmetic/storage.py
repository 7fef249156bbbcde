"""FP16 storage of a model's parameters: which are converted, and a loan of a model so stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

from precscope.errors import UsageError

NORMALISATION: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers whose parameters stay float32: their statistics are float32 arithmetic, their kernels
take float16 activations with float32 parameters, and they are few. ``_NormBase`` is the base of
every batch and instance normalisation."""


def convertible_parameters(
    model: nn.Module, keep: Collection[nn.Module] = ()
) -> dict[str, nn.Parameter]:
    """Float32 parameters outside normalisation layers and ``keep``, by qualified name, once each.

    Nor those that spectral normalisation divides by their norm: the power iteration that finds it
    has float32 buffers.

    Raises:
        UsageError: a parameter is float16 already, so there is nothing to make a master from.
    """
    kept = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORMALISATION) or module in keep
        for parameter in module.parameters(recurse=False)
    }
    kept |= {id(parameter) for module in model.modules() for parameter in _spectral(module)}
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.dtype is torch.float16:
            raise UsageError(f"parameter {name} is float16 already: call model.float() first")
        if parameter.dtype is torch.float32 and id(parameter) not in kept:
            found[name] = parameter
    return found


def _spectral(module: nn.Module) -> Iterator[nn.Parameter]:
    """What spectral normalisation, of either kind, keeps of a module's weight."""
    if isinstance(module, ParametrizationList) and any(
        isinstance(m, _SpectralNorm) for m in module
    ):
        yield from module.parameters(recurse=False)
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm):
            yield getattr(module, f"{hook.name}_orig")


@contextmanager
def half_stored(model: nn.Module, keep: Collection[nn.Module] = ()) -> Iterator[None]:
    """Store the convertible parameters in float16 inside the block, and give the float32 ones back.

    The parameter objects stay the same ones. Their gradients have the dtype they are stored in:
    start and leave the block without gradients.
    """
    single = [(p, p.data) for p in convertible_parameters(model, keep).values()]
    try:
        for parameter, value in single:
            parameter.data = value.half()
        yield
    finally:
        for parameter, value in single:
            parameter.grad = None
            parameter.data = value
