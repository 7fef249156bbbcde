"""What a script asks autograd for: ``loss.backward()``, ``autograd.backward``, ``autograd.grad``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

Tensors = tuple[torch.Tensor, ...]
Function = Callable[..., Any]
Listen = Callable[["Differentiation"], Any]

NO_GRAPH_TASK = -1


@dataclass(frozen=True, slots=True, eq=False)
class Differentiation:
    """One call that computes gradients.

    Attributes:
        outputs: what is differentiated.
        inputs: with respect to what; None where gradients are added up in ``.grad`` of leaves.
        creates_graph: whether the gradients can be differentiated again.
        run: does it for other outputs in place of these, and returns what the script gets.
    """

    outputs: Tensors
    inputs: Tensors | None
    creates_graph: bool
    run: Callable[[Tensors], Any]

    def loss(self, parameters: Collection[int]) -> torch.Tensor | None:
        """The sum of its scalars in float32, detached; None if it is no loss that is minimised.

        Gradients that are only handed back are those of a loss if they are of parameters and
        are not differentiated again: a gradient penalty is no loss.

        Args:
            parameters: identities of what the optimizers hold.
        """
        if self.inputs is not None and (
            self.creates_graph or not any(id(i) in parameters for i in self.inputs)
        ):
            return None
        with torch.no_grad():
            scalars = [o.detach().float().reshape(()) for o in self.outputs if o.numel() == 1]
            # A copy: a script may add to its loss in place.
            return functools.reduce(torch.add, scalars).clone() if scalars else None


def listening_backward(original: Function, listen: Listen) -> Function:
    """``torch.autograd.backward`` that asks ``listen`` to do it."""
    return _listening(original, listen, "tensors", has_inputs=False)


def listening_grad(original: Function, listen: Listen) -> Function:
    """``torch.autograd.grad`` that asks ``listen`` to do it."""
    return _listening(original, listen, "outputs", has_inputs=True)


def leaves(outputs: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Every leaf that a backward pass from ``outputs`` adds a gradient to."""
    stack: list[Any] = []
    for output in outputs:
        if output.grad_fn is not None:
            stack.append(output.grad_fn)
        elif output.requires_grad:
            yield output
    seen = set(stack)
    while stack:
        node = stack.pop()
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)


def _listening(original: Function, listen: Listen, name: str, has_inputs: bool) -> Function:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def differentiate(*args: Any, **kwargs: Any) -> Any:
        # A checkpoint differentiates inside of a backward pass: that is a part of the outer one.
        if torch.compiler.is_compiling() or _is_nested():
            return original(*args, **kwargs)
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return original(*args, **kwargs)
        outputs = _tensors(given.arguments.get(name))
        inputs = _tensors(given.arguments.get("inputs")) if has_inputs else None
        if outputs is None or (has_inputs and inputs is None):
            return original(*args, **kwargs)

        def run(others: Tensors) -> Any:
            given.arguments[name] = others
            return original(*given.args, **given.kwargs)

        creates_graph = bool(given.arguments.get("create_graph"))
        return listen(Differentiation(outputs, inputs, creates_graph, run))

    return differentiate


def _is_nested() -> bool:
    return torch._C._current_graph_task_id() != NO_GRAPH_TASK


def _tensors(value: Any) -> Tensors | None:
    """A tensor or a sequence of them as a tuple; None for what else autograd takes."""
    if isinstance(value, torch.Tensor):
        return (value,)
    if isinstance(value, (list, tuple)) and all(isinstance(v, torch.Tensor) for v in value):
        return tuple(value)
    return None
