"""Ways to run one operator in float32 on float16 CPU tensors and round what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

Reroute = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""``(operator, args, kwargs) -> result``, in place of ``operator(*args, **kwargs)``."""


def widened(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``fp16(func(fp32(args)))``, where every floating-point argument is float16.

    A mixture of dtypes goes to the native kernel, whose refusal the user has to see: it would
    be refused on a GPU as well.
    """
    if not is_half_work(args, kwargs):
        return func(*args, **kwargs)
    return rounded(_run_wide(func, args, kwargs))


def widened_attention(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As ``widened``; the second output, log-sum-exp, is float32 natively and stays so."""
    if not is_half_work(args, kwargs):
        return func(*args, **kwargs)
    output, log_sum_exp = _run_wide(func, args, kwargs)
    return rounded(output), log_sum_exp


def widened_attention_backward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As ``widened``; log-sum-exp, the sixth argument, is float32 beside float16 ones."""
    if not is_half(args[0]):
        return func(*args, **kwargs)
    return rounded(_run_wide(func, args, kwargs))


def widened_affine(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A normalisation of a float32 input, in float32, where its weight or bias is float16.

    Autocast on CUDA does the same for layer and group normalisation; on a CPU it leaves them to
    the native kernels, which refuse the mixture.
    """
    if args[0].dtype is torch.float32 and any(map(is_half, args)):
        return _run_wide(func, args, kwargs)
    return func(*args, **kwargs)


def widened_layer_norm_backward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As ``widened``; gradients have the dtypes of input, weight and bias.

    The native CPU kernel sums the last two in float16 whatever dtype the weight has. The statistics,
    and an affine pair kept in float32, are float32 arguments beside float16 ones.
    """
    affine_is_half = is_half(args[5]) or is_half(args[6])
    if not (is_half(args[0]) or affine_is_half):
        return func(*args, **kwargs)
    grad_input, *affine = _run_wide(func, args, kwargs)
    return (
        rounded(grad_input) if is_half(args[0]) else grad_input,
        *(rounded(affine) if affine_is_half else affine),
    )


def widened_group_norm_backward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """In float32 where the gradient is and the weight is float16; see ``widened_affine``."""
    if args[0].dtype is not torch.float32 or not is_half(args[4]):
        return func(*args, **kwargs)
    grad_input, *affine = _run_wide(func, args, kwargs)
    return (grad_input, *rounded(affine))


def if_accumulating(reroute: Reroute) -> Reroute:
    """Reroute ``index_put`` and ``put`` only where they add, which they do when told to."""

    def conditional(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        accumulate = kwargs.get("accumulate", args[3] if len(args) > 3 else False)
        return reroute(func, args, kwargs) if accumulate else func(*args, **kwargs)

    return conditional


def into_self(functional: Any, reroute: Reroute) -> Reroute:
    """In-place form: reroute ``functional``, then store into the first argument."""

    def in_place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_half_work(args, kwargs):
            return func(*args, **kwargs)
        return args[0].copy_(reroute(functional, args, kwargs))

    return in_place


def into_out(functional: Any, reroute: Reroute) -> Reroute:
    """``out=`` form with one output: reroute ``functional``, then resize and fill it."""

    def to_out(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_half_work(args, kwargs):
            return func(*args, **kwargs)
        rest = {name: value for name, value in kwargs.items() if name != "out"}
        result = reroute(functional, args, rest)
        return kwargs["out"].resize_(result.shape).copy_(result)

    return to_out


def is_half(value: object) -> bool:
    """Whether ``value`` is a float16 tensor on the CPU."""
    return isinstance(value, torch.Tensor) and value.dtype is torch.float16 and value.is_cpu


def rounded(value: Any) -> Any:
    """Float32 tensors of an operator's result as float16; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.half() if value.dtype is torch.float32 else value
    if isinstance(value, (list, tuple)):
        return tuple(rounded(item) for item in value)
    return value


def is_half_work(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether there are floating-point tensors and all of them are float16 on the CPU."""
    # A plain loop: this runs for every operator, and generators would double its time.
    found = False
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, torch.Tensor):
            if value.dtype is torch.float16 and value.is_cpu:
                found = True
            elif value.is_floating_point():
                return False
        elif isinstance(value, (list, tuple)):
            kind = _kind_of(value)
            if kind is False:
                return False
            found = found or kind is True
    return found


def _kind_of(values: Sequence[Any]) -> bool | None:
    """``is_half_work`` of what is in a list; None where it holds no floating-point tensor."""
    floating = [tensor for tensor in _tensors(values) if tensor.is_floating_point()]
    return all(map(is_half, floating)) if floating else None


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _run_wide(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not kwargs:
        return func(*map(_wide, args))
    return func(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()})


def _wide(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if is_half(value) else value
    if isinstance(value, (list, tuple)) and any(is_half(item) for item in value):
        return [_wide(item) for item in value]
    return value
