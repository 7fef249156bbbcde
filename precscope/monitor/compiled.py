"""Observation from inside ``torch.compile``: one operator in the graph, everything else outside.

Python state in a hook would be guarded, and compiled again whenever it changes. The operator
carries constants instead; what they stand for, whether the step is observed and which row
counts, is looked up when the compiled code runs. It is registered as having an effect, because an
operator without one is removed as dead code. Declaring a tensor as mutated would also keep it,
but autograd saves that tensor for backward and then finds it changed.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import torch

Watcher = Callable[[torch.Tensor, int, bool], None]

FIRST_TORCH: Final = (2, 13)
"""Effects in backward graphs are known to work from this version on."""

_serial = itertools.count()
_watchers: Final[dict[str, Watcher]] = {}


def new_key(watcher: Watcher) -> str:
    """A key under which compiled code reaches ``watcher``, until ``forget``."""
    key = str(next(_serial))
    _watchers[key] = watcher
    return key


def forget(key: str) -> None:
    """Let compiled code that still holds ``key`` run without effect."""
    _watchers.pop(key, None)


OPERATOR: Final = "precscope_v1::watch"

_UNSAFE: Final = getattr(torch._C.Tag, "cudagraph_unsafe", None)
"""Inductor runs operators with this tag between CUDA graphs: a replay would look nothing up."""


_TAGS: Final[dict[str, Any]] = {} if _UNSAFE is None else {"tags": (_UNSAFE,)}


@torch.library.custom_op(OPERATOR, mutates_args=(), **_TAGS)
def watch_operator(tensor: torch.Tensor, key: str, position: int, gradient: bool) -> None:
    """Tell the watcher of ``key`` what the output at ``position``, or its gradient, holds."""
    watcher = _watchers.get(key)
    if watcher is not None:
        watcher(tensor, position, gradient)


@watch_operator.register_fake
def _watch_fake(tensor: torch.Tensor, key: str, position: int, gradient: bool) -> None:
    """Nothing to infer: no output. Runs while code is compiled, before Inductor looks at it."""
    _keep_out_of_cuda_graphs()


def _keep_out_of_cuda_graphs() -> None:
    """Have Inductor split its graphs at the operator.

    It asks for the tag of a node's target, which is ``with_effects`` for an operator that has one;
    its own list of operators to split at it compares with the operator inside.
    """
    config = sys.modules.get("torch._inductor.config")
    listed = getattr(config, "custom_should_partition_ops", None)
    if isinstance(listed, list) and OPERATOR not in listed:
        config.custom_should_partition_ops = [*listed, OPERATOR]  # type: ignore[union-attr]


def _register_effect() -> bool:
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    try:
        effects = import_module("torch._higher_order_ops.effects")
        if version < FIRST_TORCH:
            return False
        operator = torch.ops.precscope_v1.watch.default
        effects._register_effectful_op(operator, effects._EffectType.ORDERED)
    except (ImportError, AttributeError):
        return False
    return True


WORKS: Final = _register_effect()
"""Whether compiled code can be observed; without it the hooks leave compiled graphs alone."""


def compiled_code_exists() -> bool:
    """Whether anything was compiled in this process."""
    utils = sys.modules.get("torch._dynamo.utils")
    return bool(utils and getattr(utils, "counters", {}).get("frames"))


def trace_output(key: str, output: Any, activations: bool, gradients: bool) -> None:
    """Called while tracing: put the operator on the output's tensors and on their gradients."""
    for position, tensor in enumerate(_tensors(output)):
        if activations:
            watch_operator(tensor, key, position, False)
        if gradients and tensor.requires_grad:
            _trace_gradient(key, tensor, position)


def _trace_gradient(key: str, tensor: torch.Tensor, position: int) -> None:
    def watch_gradient(gradient: torch.Tensor) -> None:
        watch_operator(gradient, key, position, True)

    tensor.register_hook(watch_gradient)


def _tensors(output: Any) -> list[torch.Tensor]:
    """Flat containers only, in plain loops: what every version of the tracer understands."""
    if isinstance(output, torch.Tensor):
        return [output] if output.is_floating_point() else []
    found: list[torch.Tensor] = []
    values = output.values() if isinstance(output, dict) else output
    if isinstance(output, (tuple, list, dict)):
        for value in values:
            found.extend(_tensors(value))
    return found


def run_eagerly_outside(*functions: Callable[..., object]) -> None:
    """Let Dynamo inline these functions into graphs, and never make graphs of them alone.

    The hooks of the root module run outside of the compiled forward pass, where each would
    otherwise become a graph of its own.
    """
    try:
        frames = import_module("torch._C._dynamo.eval_frame")
        skip = frames._FrameAction.SKIP
        strategy = frames._FrameExecStrategy(skip, skip)
        for function in functions:
            frames.set_code_exec_strategy(function.__code__, strategy)
    except (ImportError, AttributeError):
        return
