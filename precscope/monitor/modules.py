"""Activations and their gradients: forward hooks on modules, tensor hooks on their outputs.

Never full backward hooks: they raise in models with in-place operations, TorchScript or
functorch, and change the order of gradient accumulation. A hook on the output tensor sees the
gradient with respect to the value before a later in-place operation, which is the gradient of
the module's output.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from precscope.monitor.guard import Guard
from precscope.monitor.sitebook import Observe, SiteBook, output_name
from precscope.monitor.state import State
from precscope.monitor.tensors import floating_tensors

_graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


class ModuleHooks:
    """Observes what every module of ``model`` returns, and the gradient that comes back to it.

    A tensor is counted once, where it was made: a container that hands on its last child's
    output, or a module that returns its input, adds no site. A forward pass that checkpointing
    repeats inside backward is not counted again.
    """

    def __init__(
        self,
        model: nn.Module,
        book: SiteBook,
        observe: Observe,
        state: State,
        guard: Guard,
        wanted: Callable[[str], bool],
    ) -> None:
        self._book = book
        self._observe = observe
        self._state = state
        self._guard = guard
        self.reasons: dict[str, str] = {}
        self.seen_modules: set[str] = set()
        self._made: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}
        self._gradient_hooks: dict[tuple[str, int], Callable[[torch.Tensor], None]] = {}
        self._handles: list[RemovableHandle] = []
        for name, module in model.named_modules():
            self._attach(name, module, wanted)

    def _attach(self, name: str, module: nn.Module, wanted: Callable[[str], bool]) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            self.reasons[name] = "TorchScript modules cannot be hooked"
        elif not wanted(name):
            self.reasons[name] = "excluded by a pattern"
        else:
            self._handles.append(module.register_forward_hook(self._forward_hook(name)))

    def _forward_hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def observe_output(module: nn.Module, inputs: Any, output: Any) -> None:
            if torch.compiler.is_compiling() or not self._state.active:
                return
            if self._guard.any and self._guard.disabled(name):
                return
            try:
                self._output(name, module, inputs, output)
            except Exception:  # noqa: BLE001 - an observer must not stop the user's program
                self._guard.failed(name)

        return observe_output

    def _output(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not (module.training or torch.is_grad_enabled()):
            return
        if not self._made:
            self._note_inputs(inputs)
        tensors = (output,) if type(output) is torch.Tensor else tuple(floating_tensors(output))
        for position, tensor in enumerate(tensors):
            if tensor.is_floating_point():
                self._tensor(name, module, position, tensor)
        if not tensors:
            self.reasons.setdefault(name, "returns no floating-point tensor")

    def _tensor(self, name: str, module: nn.Module, position: int, tensor: torch.Tensor) -> None:
        if self._already_made(tensor):
            self.reasons.setdefault(name, "hands on a tensor that another module made")
            return
        self._made[id(tensor)] = (weakref.ref(tensor), tensor._version)
        self.seen_modules.add(name)
        if self._state.activations and _graph_task() == -1:
            site = output_name(name, position)
            row = self._book.row(site, "activation", tensor, type(module).__name__)
            self._observe(tensor, row)
        if self._state.activation_gradients and tensor.requires_grad:
            tensor.register_hook(self._gradient_hook(name, position, type(module).__name__))

    def _already_made(self, tensor: torch.Tensor) -> bool:
        known = self._made.get(id(tensor))
        return known is not None and known[0]() is tensor and known[1] == tensor._version

    def _note_inputs(self, inputs: Any) -> None:
        for tensor in floating_tensors(inputs):
            self._made[id(tensor)] = (weakref.ref(tensor), tensor._version)

    def _gradient_hook(
        self, name: str, position: int, module_type: str
    ) -> Callable[[torch.Tensor], None]:
        known = self._gradient_hooks.get((name, position))
        if known is not None:
            return known
        site = output_name(name, position)

        def observe_gradient(gradient: torch.Tensor) -> None:
            if self._guard.any and self._guard.disabled(site):
                return
            try:
                row = self._book.row(site, "activation_gradient", gradient, module_type)
                self._observe(gradient, row)
            except Exception:  # noqa: BLE001 - an observer must not stop the user's program
                self._guard.failed(site)

        self._gradient_hooks[(name, position)] = observe_gradient
        return observe_gradient

    def end_step(self) -> None:
        """Forget which tensors this step made."""
        self._made.clear()

    def remove(self) -> None:
        """Take every hook off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._made.clear()
