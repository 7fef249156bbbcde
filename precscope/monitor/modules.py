"""Activations and their gradients: forward hooks on modules, tensor hooks on their outputs.

Never full backward hooks: they raise in models with in-place operations, TorchScript or
functorch, and change the order of gradient accumulation. A hook on the output tensor sees the
gradient with respect to the value before a later in-place operation, which is the gradient of
the module's output.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from precscope.kernels.launching import is_capturing
from precscope.monitor import compiled
from precscope.monitor.fastpath import FastPath, outermost_encoders
from precscope.monitor.guard import Guard
from precscope.monitor.hook import Attachment, Calling, hook_gradient
from precscope.monitor.made import MadeTensors
from precscope.monitor.outputs import OutputHook
from precscope.monitor.produced import Produced
from precscope.monitor.sitebook import SiteBook, output_name
from precscope.monitor.state import State
from precscope.monitor.tensors import floating_tensors, graph_task, local_values, unreadable

CAPTURED = "captured in a CUDA graph: its replays run no hook, and are not observed"

_is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]

compiled.run_eagerly_outside(OutputHook.__call__, Calling.__call__, FastPath.__call__)


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
        state: State,
        guard: Guard,
        wanted: Callable[[str], bool],
    ) -> None:
        self._book = book
        self.state = state
        self.guard = guard
        self.lock = threading.RLock()
        self.reasons: dict[str, str] = {}
        self.seen_modules: set[str] = set()
        self.skipped: Counter[tuple[str, str]] = Counter()
        self._made = MadeTensors()
        self._on_leaves: list[RemovableHandle] = []
        self._produced: defaultdict[str, list[Produced]] = defaultdict(list)
        self._model = model
        self._hooks: dict[str, OutputHook] = {}
        self._attachments: defaultdict[str, list[Attachment]] = defaultdict(list)
        for name, module in model.named_modules():
            self._prepare(name, module, wanted)
        self._fast_paths = [self._fast_path(*place) for place in outermost_encoders(model)]

    def _prepare(self, name: str, module: nn.Module, wanted: Callable[[str], bool]) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            self.reasons[name] = "TorchScript modules cannot be hooked"
        elif not wanted(name):
            self.reasons[name] = "excluded by a pattern"
        else:
            hook = self._hooks[name] = OutputHook(name, self, module)
            self._attach(name, partial(module.register_forward_hook, hook))

    def _attach(self, name: str, attach: Callable[[], RemovableHandle]) -> None:
        self._attachments[name].append(Attachment(attach))

    def _fast_path(self, name: str, layer: nn.Module) -> FastPath:
        names = [f"{name}.{inner}".strip(".") for inner, _ in layer.named_modules()]

        def attachments() -> list[Attachment]:
            return [attachment for inner in names for attachment in self._attachments[inner]]

        path = FastPath(layer, attachments, self._hooks.get(name))
        self._attach(name, partial(layer.register_forward_pre_hook, path, with_kwargs=True))
        return path

    def attach_to_root(self, call: Callable[..., None]) -> None:
        """Call ``call(module, args, kwargs)`` whenever the root is about to run."""
        hook = Calling(self._model._forward_pre_hooks, call)
        self._attach("", partial(self._model.register_forward_pre_hook, hook, with_kwargs=True))

    @property
    def names(self) -> set[str]:
        """Names of the modules that existed when watching began."""
        return self._hooks.keys() | self.reasons.keys()

    def output(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        """Observe what ``module`` has just returned."""
        if not (module.training or torch.is_grad_enabled()) or _is_tracing():
            return
        if not self._made:
            for tensor in floating_tensors(inputs):
                self._made.add(tensor)
        tensors = (output,) if type(output) is torch.Tensor else tuple(floating_tensors(output))
        for position, tensor in enumerate(tensors):
            if tensor.is_floating_point():
                self._tensor(name, module, position, tensor)
        if not tensors:
            self.reasons.setdefault(name, "returns no floating-point tensor")

    def _tensor(self, name: str, module: nn.Module, position: int, tensor: torch.Tensor) -> None:
        if tensor in self._made:
            self.reasons.setdefault(name, "hands on a tensor that another module made")
            return
        reason = unreadable(local_values(tensor))
        if reason is not None:
            self.reasons.setdefault(name, reason)
            self.skipped[(output_name(name, position), reason)] += 1
            return
        self._made.add(tensor)
        self.seen_modules.add(name)
        known = self._produced[name]
        produced = (
            known[position]
            if position < len(known)
            else self._produce(name, type(module).__name__, position)
        )
        if self.state.activations and graph_task() == -1:
            produced.observe(tensor)
        if self.state.activation_gradients and tensor.requires_grad:
            on_leaf = hook_gradient(tensor, produced.observe_gradient)
            if on_leaf is not None:
                self._on_leaves.append(on_leaf)

    def _produce(self, name: str, module_type: str, position: int) -> Produced:
        known = self._produced[name]
        while len(known) <= position:
            site = output_name(name, len(known))
            known.append(Produced(site, module_type, self._book, self))
        return known[position]

    def from_compiled(
        self, name: str, module_type: str, tensor: torch.Tensor, position: int, gradient: bool
    ) -> None:
        """Observe a tensor that compiled code hands over."""
        if is_capturing():
            self.skipped[(output_name(name, position), CAPTURED)] += 1
            return
        produced = self._produce(name, module_type, position)
        if gradient:
            produced.observe_gradient(tensor)
        elif self.state.active and graph_task() == -1 and not self.guard.disabled(name):
            try:
                with self.lock:
                    self.seen_modules.add(name)
                    produced.observe(tensor)
            except Exception:  # noqa: BLE001 - an observer must not stop the user's program
                self.guard.failed(name)

    def end_step(self) -> None:
        """Forget which tensors this step made, and leave the leaves that it returned."""
        self._made.clear()
        while self._on_leaves:
            self._on_leaves.pop().remove()

    def remove(self) -> None:
        """Take every hook off the model."""
        for path in self._fast_paths:
            path.close()
        for attachment in chain.from_iterable(self._attachments.values()):
            attachment.take_off()
        for hook in self._hooks.values():
            compiled.forget(hook.key)
        self._attachments.clear()
        self.end_step()
