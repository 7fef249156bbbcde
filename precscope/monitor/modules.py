"""Activations and their gradients: forward hooks on modules, tensor hooks on their outputs.

Never full backward hooks: they raise in models with in-place operations, TorchScript or
functorch, and change the order of gradient accumulation. A hook on the output tensor sees the
gradient with respect to the value before a later in-place operation, which is the gradient of
the module's output.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from precscope.monitor import compiled
from precscope.monitor.fastpath import checked_for_hooks
from precscope.monitor.guard import Guard
from precscope.monitor.hook import Calling, Guest
from precscope.monitor.sitebook import Observe, SiteBook, output_name
from precscope.monitor.state import State
from precscope.monitor.tensors import floating_tensors, local_values, unreadable

_graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)
_is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


class OutputHook(Guest):
    """The forward hook of one module.

    Args:
        name: the module's qualified name.
        owner: what observes.
        module: the hooked module.
    """

    def __init__(self, name: str, owner: ModuleHooks, module: nn.Module) -> None:
        self._name = name
        self._owner = owner
        self._kinds = (owner.state.activations, owner.state.activation_gradients)
        self._hands_on = isinstance(module, nn.Identity) or (
            type(module).forward is nn.Sequential.forward and len(module._modules) > 0
        )
        module_type = type(module).__name__

        def watcher(tensor: torch.Tensor, position: int, gradient: bool) -> None:
            owner.from_compiled(name, module_type, tensor, position, gradient)

        self.key = compiled.new_key(watcher)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Observe ``output``; never raises, never changes anything."""
        if torch.compiler.is_compiling():
            watched = compiled.WORKS and (module.training or torch.is_grad_enabled())
            if watched and not self._hands_on and not _is_exporting():
                compiled.trace_output(self.key, output, *self._kinds)
            return
        owner = self._owner
        if not owner.state.active or (owner.guard.any and owner.guard.disabled(self._name)):
            return
        try:
            with owner.lock:
                owner.output(self._name, module, inputs, output)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            owner.guard.failed(self._name)


compiled.run_eagerly_outside(OutputHook.__call__, Calling.__call__)


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
        self.state = state
        self.guard = guard
        self.lock = threading.RLock()
        self.reasons: dict[str, str] = {}
        self.seen_modules: set[str] = set()
        self.skipped: Counter[tuple[str, str]] = Counter()
        self._made: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}
        self._gradient_hooks: dict[tuple[str, int], Callable[[torch.Tensor], None]] = {}
        self._hooks: dict[str, tuple[nn.Module, OutputHook]] = {}
        self._handles: dict[str, RemovableHandle] = {}
        for name, module in model.named_modules():
            self._prepare(name, module, wanted)
        checked = checked_for_hooks(model)
        self._fast_path = [name for name in self._hooks if name in checked]

    def _prepare(self, name: str, module: nn.Module, wanted: Callable[[str], bool]) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            self.reasons[name] = "TorchScript modules cannot be hooked"
        elif not wanted(name):
            self.reasons[name] = "excluded by a pattern"
        else:
            self._hooks[name] = (module, OutputHook(name, self, module))
            self._attach(name)

    def _attach(self, name: str) -> None:
        module, hook = self._hooks[name]
        self._handles[name] = module.register_forward_hook(hook)

    @property
    def names(self) -> set[str]:
        """Names of the modules that existed when watching began."""
        return self._hooks.keys() | self.reasons.keys()

    @property
    def has_fast_path(self) -> bool:
        """Whether evaluation takes a fused path that hooks would close."""
        return bool(self._fast_path)

    def open_fast_path(self) -> None:
        """Take the hooks off encoder layers, for an evaluation pass."""
        for name in self._fast_path:
            self._handles.pop(name).remove()

    def close_fast_path(self) -> None:
        """Put the hooks back on encoder layers."""
        for name in self._fast_path:
            if name not in self._handles:
                self._attach(name)

    def output(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        """Observe what ``module`` has just returned."""
        if not (module.training or torch.is_grad_enabled()) or _is_tracing():
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
        reason = unreadable(local_values(tensor))
        if reason is not None:
            self.reasons.setdefault(name, reason)
            self.skipped[(output_name(name, position), reason)] += 1
            return
        self._remember(tensor)
        self.seen_modules.add(name)
        module_type = type(module).__name__
        if self.state.activations and _graph_task() == -1:
            self._count(output_name(name, position), "activation", tensor, module_type)
        if self.state.activation_gradients and tensor.requires_grad:
            tensor.register_hook(self._gradient_hook(name, position, module_type))

    def _count(self, site: str, kind: Any, tensor: torch.Tensor, module_type: str) -> None:
        values = local_values(tensor)
        self._observe(values, self._book.row(site, kind, values, module_type))

    def _remember(self, tensor: torch.Tensor) -> None:
        # Tensors of inference mode do not count their versions.
        version = -1 if tensor.is_inference() else tensor._version
        self._made[id(tensor)] = (weakref.ref(tensor), version)

    def _already_made(self, tensor: torch.Tensor) -> bool:
        known = self._made.get(id(tensor))
        if known is None or known[0]() is not tensor:
            return False
        return known[1] == (-1 if tensor.is_inference() else tensor._version)

    def _note_inputs(self, inputs: Any) -> None:
        for tensor in floating_tensors(inputs):
            self._remember(tensor)

    def _gradient_hook(
        self, name: str, position: int, module_type: str
    ) -> Callable[[torch.Tensor], None]:
        known = self._gradient_hooks.get((name, position))
        if known is not None:
            return known

        def observe_gradient(gradient: torch.Tensor) -> None:
            self.gradient(output_name(name, position), module_type, gradient)

        self._gradient_hooks[(name, position)] = observe_gradient
        return observe_gradient

    def gradient(self, site: str, module_type: str, gradient: torch.Tensor) -> None:
        """Observe the gradient that has come back to an output."""
        if not self.state.active or (self.guard.any and self.guard.disabled(site)):
            return
        try:
            with self.lock:
                reason = unreadable(local_values(gradient))
                if reason is not None:
                    self.skipped[(f"gradient of {site}", reason)] += 1
                else:
                    self._count(site, "activation_gradient", gradient, module_type)
        except Exception:  # noqa: BLE001 - an observer must not stop the user's program
            self.guard.failed(site)

    def from_compiled(
        self, name: str, module_type: str, tensor: torch.Tensor, position: int, gradient: bool
    ) -> None:
        """Observe a tensor that compiled code hands over."""
        site = output_name(name, position)
        if gradient:
            self.gradient(site, module_type, tensor)
        elif self.state.active and _graph_task() == -1 and not self.guard.disabled(name):
            try:
                with self.lock:
                    self.seen_modules.add(name)
                    self._count(site, "activation", tensor, module_type)
            except Exception:  # noqa: BLE001 - an observer must not stop the user's program
                self.guard.failed(name)

    def end_step(self) -> None:
        """Forget which tensors this step made."""
        self._made.clear()

    def remove(self) -> None:
        """Take every hook off the model."""
        for handle in self._handles.values():
            handle.remove()
        for _, hook in self._hooks.values():
            compiled.forget(hook.key)
        self._handles.clear()
        self._made.clear()
