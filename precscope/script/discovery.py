"""Which models a script trains: found as they are called, with the optimizers that hold them."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch.optim import Optimizer

from precscope.monitor.ranks import unwrapped

_Kind = TypeVar("_Kind")


@dataclass(slots=True)
class Root:
    """A model that the script calls and trains.

    Attributes:
        module: the outermost module, without wrappers of DDP and ``torch.compile``.
        name: prefix of its sites, ``""`` for the only model of a script.
        optimizers: those that hold parameters of it.
        inside: names of modules in it that are watched already, as roots of their own.
        in_call: whether it is being called while it is found: hooks put on it then begin with
            its next call.
    """

    module: nn.Module
    name: str
    optimizers: list[Optimizer]
    inside: list[str] = field(default_factory=list)
    in_call: bool = False

    @property
    def device(self) -> torch.device:
        """Device of its parameters."""
        return next(p.device for p in self.module.parameters())

    def named(self, name: str) -> str:
        """A name of this root in the Recording."""
        if not self.name:
            return name
        return self.name if name == "(root)" else f"{self.name}.{name}"


class Discovery:
    """Tells the roots from everything else that is called.

    A root is the outermost module of a call with gradients enabled that has parameters of an
    optimizer. Optimizers are looked up among the live objects, so that nothing has to be patched.
    """

    def __init__(self) -> None:
        self.roots: list[Root] = []
        self._known: WeakSet[nn.Module] = WeakSet()
        self._calls: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self._names: Counter[str] = Counter()
        self._stepped: WeakSet[Optimizer] = WeakSet()

    def called(self, module: nn.Module) -> Root | None:
        """The new root, if this call shows one."""
        if module in self._known or not torch.is_grad_enabled():
            return None
        module = unwrapped(module)
        if module in self._known:
            return None
        if not any(p.requires_grad for p in module.parameters()):
            return None
        calls = self._calls[module] = self._calls.get(module, 0) + 1
        # A look through all objects takes a moment: the 1st, 2nd, 4th, 8th call.
        return self._found(module) if calls & (calls - 1) == 0 else None

    def root_of(self, module: nn.Module) -> Root | None:
        """The root that ``module`` is."""
        return next((root for root in self.roots if root.module is module), None)

    def give_up(self, module: nn.Module) -> None:
        """Never look at ``module`` again; the modules in it may be roots of their own."""
        self._known.add(module)

    def stepped(self, optimizer: Optimizer) -> list[Root]:
        """Roots that were called before ``optimizer`` was known; also notes it for known roots.

        A script that calls ``gc.freeze`` hides its optimizers until they step.
        """
        self._stepped.add(optimizer)
        if any(optimizer in root.optimizers for root in self.roots):
            return []
        held = held_by([optimizer])
        for root in self.roots:
            if any(id(p) in held for p in root.module.parameters()):
                root.optimizers.append(optimizer)
        found = (self._found(module) for module in list(self._calls) if module not in self._known)
        return [root for root in found if root is not None]

    def _found(self, module: nn.Module) -> Root | None:
        optimizers = list({*alive(Optimizer), *self._stepped})
        own = {id(p) for p in module.parameters()}
        holders = [o for o in optimizers if own & held_by([o])]
        if not holders:
            return None
        inside = [
            name
            for name, inner in module.named_modules()
            if any(r.module is inner for r in self.roots)
        ]
        root = Root(module, self._name(module, own, optimizers), holders, inside)
        self.roots.append(root)
        for inner in module.modules():
            self._known.add(inner)
        return root

    def _name(self, module: nn.Module, own: set[int], optimizers: list[Optimizer]) -> str:
        kind = type(module).__name__
        self._names[kind] += 1
        if not self.roots and held_by(optimizers) <= own:
            return ""
        number = self._names[kind]
        return kind if number == 1 else f"{kind}({number})"


def held_by(optimizers: list[Optimizer]) -> set[int]:
    """Identity of every trainable parameter of the optimizers."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    return {id(p) for group in groups for p in group["params"] if p.requires_grad}


def alive(kind: type[_Kind]) -> list[_Kind]:
    """Every live object of a class; of optimizers, only those whose steps torch reports."""
    # By type(), not isinstance(): proxies of other libraries answer for what they stand for.
    found: list[Any] = [o for o in gc.get_objects() if issubclass(type(o), kind)]
    if kind is Optimizer:
        found = [o for o in found if "_optimizer_step_pre_hooks" in vars(o)]
    return found
