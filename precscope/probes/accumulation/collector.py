"""Sees every operator of a step and measures the sums in it, once per place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from precscope.probes.accumulation.call import Call, Origin, bound
from precscope.probes.accumulation.facts import Reduction, Site, taken
from precscope.probes.accumulation.modules import OUTSIDE, Modules
from precscope.probes.accumulation.samplers import NOT_SAMPLED, SAMPLERS

ACCUMULATE_GRAD = "AccumulateGrad"


class Collector(TorchDispatchMode):
    """Measures as the step runs: operands are looked at while they are alive, and not kept.

    A sum is measured again only if a later call at the same place is longer.
    """

    def __init__(self, modules: Modules, scale: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._modules = modules
        self._scale = scale
        self._origins: dict[int, Origin] = {}
        self._made: dict[int, Site] = {}
        self.sites: dict[tuple[str, str], Site] = {}
        self.skipped: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        try:
            self._look(func, args, kwargs, result)
        except Exception as error:  # noqa: BLE001 - the probe must not stop the user's step
            operator = str(func._schema.name).partition("::")[2]
            self.skipped[(operator, f"{type(error).__name__}: {error}"[:200])] += 1
        return result

    def _look(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        operator = str(func._schema.name).partition("::")[2]
        node: Any = torch._C._current_autograd_node()
        if node is None:
            self._forward(operator, func, args, kwargs, result)
        elif ACCUMULATE_GRAD in node.name():
            self._name_gradient(node, args)
        elif not torch.is_grad_enabled():
            self._backward(operator, func, args, kwargs, result, node)
        else:  # checkpointing runs a forward again, whose nodes stand for the first one's
            self._forward(operator, func, args, kwargs, result)

    def _forward(
        self, operator: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        site = self._modules.site_of(_tensors(args))
        origin = self._new_origin(site, operator)
        if operator in SAMPLERS:
            arguments = bound(func, args, kwargs)
            call = Call(operator, arguments, func, args, kwargs, result, site, 1.0, False, origin)
            call.seen, call.weights = self._modules.frame.calls, self._modules.weights
            self._measure(call)
        elif operator in NOT_SAMPLED:
            self.skipped[(operator, "not taken apart")] += 1

    def _new_origin(self, site: str, operator: str) -> Origin | None:
        """A record of the node that this call made; None if it made none.

        Autograd makes the node, then calls the operator: the first call after it is its own.
        """
        number = _next_node() - 1
        if number in self._origins:
            return None
        return self._origins.setdefault(number, Origin(site, operator.strip("_")))

    def _backward(
        self,
        operator: str,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        node: Any,
    ) -> None:
        if operator in NOT_SAMPLED:
            self.skipped[(operator, "not taken apart")] += 1
        if operator not in SAMPLERS:
            return
        origin = self._origins.get(node._sequence_nr())
        site = origin.site if origin is not None else OUTSIDE
        arguments = bound(func, args, kwargs)
        scale = self._scale
        call = Call(operator, arguments, func, args, kwargs, result, site, scale, True, origin)
        call.weights = self._modules.weights
        self._measure(call)

    def _measure(self, call: Call) -> None:
        for number, reduction in enumerate(SAMPLERS[call.operator](call)):
            site = self._known(call, reduction)
            output = call.output(number) if "backward" in call.operator else call.output()
            if output is not None and output.numel():
                self._made[output.data_ptr()] = site

    def _known(self, call: Call, reduction: Reduction) -> Site:
        key = (call.site, reduction.operation)
        found = self.sites.get(key)
        if found is not None:
            found.calls += 1
            if found.length >= reduction.length and found.taken.is_measured:
                return found
        phase = "backward" if call.is_backward else "forward"
        family, length, sums = reduction.family, reduction.length, taken(reduction)
        site = Site(*key, call.operator, phase, family, length, sums, found.calls if found else 1)
        self.sites[key] = site
        return site

    def _name_gradient(self, node: Any, args: tuple[Any, ...]) -> None:
        """A sum whose result becomes a parameter's gradient is called after the parameter."""
        tensor = next(_tensors(args), None)
        owner = self._modules.owners.get(node.variable.data_ptr())
        site = self._made.get(tensor.data_ptr()) if tensor is not None else None
        if owner is None or site is None or not site.operation.startswith("gradient sum"):
            return
        self.sites.pop((site.site, site.operation), None)
        site.site, site.operation = owner[0], f"{owner[1]} gradient"
        other = self.sites.setdefault((site.site, site.operation), site)
        if other is not site and other.length < site.length:
            self.sites[(site.site, site.operation)] = site


_next_node: Callable[[], int] = getattr(torch.autograd, "_get_sequence_nr")  # noqa: B009
"""Number of the next autograd node; there is no public way to ask for it."""


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
