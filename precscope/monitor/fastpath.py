"""Encoder layers take a fused path in evaluation, unless somebody has hooked them.

That path differs in the last bits, and pads differently: hooks that were still there would
change the user's numbers. So each layer, called as part of the root or alone, loses our hooks for
the time of a call that may take the path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle

from precscope.monitor.hook import Attachment, Guest
from precscope.monitor.tensors import floating_tensors

CHECKS_HOOKS = (nn.TransformerEncoderLayer, nn.MultiheadAttention)

Returned = Callable[[nn.Module, Any, Any], None]


def outermost_encoders(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules that look for hooks in themselves; none inside of another."""
    inside: set[nn.Module] = set()
    for name, module in root.named_modules():
        if module not in inside and isinstance(module, CHECKS_HOOKS):
            inside.update(module.modules())
            yield name, module


class FastPath(Guest):
    """The forward pre-hook of one encoder layer.

    The hooks come back with a global hook, which the layer does not look for, and which is
    there only while the layer is being called.

    Args:
        layer: the module.
        attachments: gives our hooks on the layer and on what is in it, this one included.
        returned: observes what the layer returns, None if that is not wanted.
    """

    def __init__(
        self,
        layer: nn.Module,
        attachments: Callable[[], list[Attachment]],
        returned: Returned | None,
    ) -> None:
        super().__init__(layer._forward_pre_hooks)
        self._layer = layer
        self._attachments = attachments
        self._returned = returned
        self._closing: RemovableHandle | None = None

    def __call__(self, module: nn.Module, inputs: Any, kwargs: Any = None) -> None:
        """Take the hooks off, if this call may take the fused path."""
        if torch.compiler.is_compiling() or module.training or self._closing is not None:
            return
        if not (torch.is_grad_enabled() and _needs_gradient(module, (inputs, kwargs))):
            self._closing = register_module_forward_hook(self._close, always_call=True)
            for attachment in self._attachments():
                attachment.take_off()

    def _close(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if module is not self._layer:
            return
        self.close()
        if self._returned is not None and output is not None:
            self._returned(module, inputs, output)

    def close(self) -> None:
        """Put the hooks back, if they are off."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.remove()
            for attachment in self._attachments():
                attachment.put_back()


def _needs_gradient(module: nn.Module, inputs: Any) -> bool:
    return any(p.requires_grad for p in module.parameters()) or any(
        tensor.requires_grad for tensor in floating_tensors(inputs)
    )
