"""Which parameters a model has now: some come late, some are thawed, some are replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from precscope.monitor.ranks import FlatShare, flat_shares

Hook = Callable[[torch.Tensor], None]


@dataclass(slots=True, eq=False)
class Place:
    """Where a module keeps a parameter.

    Attributes:
        name: qualified name of the parameter.
        parameter: what was there when we looked last.
        owner: type of the module.
        slots: the module's parameters by name.
        leaf: the name in it.
        handle: the hook on the gradient, None if there is none.
        dtype: with which the weight was observed, None if it was not yet.
        share: what FSDP1 made of it, None elsewhere.
    """

    name: str
    parameter: nn.Parameter
    owner: str
    slots: dict[str, nn.Parameter | None]
    leaf: str
    handle: RemovableHandle | None = None
    dtype: torch.dtype | None = None
    share: FlatShare | None = None

    @property
    def whole(self) -> torch.Tensor:
        """What has the shape of the whole parameter; this process may hold a shard of it."""
        return self.parameter if self.share is None else self.share.whole

    def renew(self) -> bool:
        """Take up what the module has in this place now; whether it is another parameter.

        Torch replaces parameters that move between kinds of devices, FSDP2 by their shards. What
        FSDP2 may leave in the place of a shard after a pass is no parameter.
        """
        now = self.slots.get(self.leaf)
        if now is None or now is self.parameter:
            return False
        if hasattr(self.parameter, "device_mesh") and not hasattr(now, "device_mesh"):
            return False
        self.unhook()
        self.parameter, self.dtype = now, None
        return True

    def unhook(self) -> None:
        """Take the hook off the gradient."""
        if self.handle is not None:
            self.handle.remove()
            self.handle = None


class Places:
    """The wanted parameters of a model, a tied one once, under the first of its names.

    Args:
        model: the root.
        wanted: whether a parameter of this name is observed.
        hook: makes the hook on a parameter's gradient, None to leave gradients alone.

    Attributes:
        skipped: names of parameters that are not observed, with the reason.
        known: those that are.
        names: of every parameter that existed when watching began.
    """

    def __init__(
        self,
        model: nn.Module,
        wanted: Callable[[str], bool],
        hook: Callable[[Place], Hook] | None,
    ) -> None:
        self._hook = hook
        self.skipped: dict[str, str] = {}
        self.known: list[Place] = []
        places = list(_places(model))
        self.names = {place.name for place in places}
        self._waiting = [place for place in places if wanted(place.name)]
        self.attach_waiting()

    def look(self) -> bool:
        """Take up parameters that have come, thawed or changed; whether any was replaced.

        Between passes only: ``functional_call`` and FSDP2 put other tensors in the places.
        """
        changed = [p for p in self.known if p.slots.get(p.leaf) is not p.parameter]
        replaced = [place for place in changed if place.renew()]
        self.attach_waiting()
        return bool(replaced)

    def attach_waiting(self) -> None:
        """Take up the parameters that have a shape by now, and hook those that are trained."""
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            place.renew()
            if isinstance(place.parameter, nn.parameter.UninitializedParameter):
                self.skipped[place.name] = "lazy parameter, not yet initialised"
                self._waiting.append(place)
            elif not place.parameter.is_floating_point():
                self.skipped[place.name] = f"{place.parameter.dtype} has no binary exponents"
            else:
                self.skipped.pop(place.name, None)
                self.known.append(place)
        if self._hook is not None:
            for place in self.known:
                if place.handle is None and place.parameter.requires_grad:
                    hook = self._hook(place)
                    leaf = place.parameter if place.share is None else place.share.flat
                    place.handle = leaf.register_post_accumulate_grad_hook(hook)

    def remove(self) -> None:
        """Take every hook off."""
        for place in self.known:
            place.unhook()


def _places(model: nn.Module) -> Iterator[Place]:
    modules = dict(model.named_modules())
    shares = flat_shares(model)
    for name, parameter in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        owner = modules[path]
        kept = owner._parameters
        # Those of TorchScript are no dictionary, and stay what they are.
        slots = kept if isinstance(kept, dict) else {}
        share = shares.get(id(parameter))
        yield Place(name, parameter, type(owner).__name__, slots, leaf, share=share)
