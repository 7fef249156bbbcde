"""Encoder layers take a fused path in evaluation, unless somebody has hooked them.

That path differs in the last bits, and pads differently: hooks that were still there would
change the user's validation numbers.
"""

from __future__ import annotations

from torch import nn

CHECKS_HOOKS = (nn.TransformerEncoderLayer, nn.MultiheadAttention)


def checked_for_hooks(root: nn.Module) -> frozenset[str]:
    """Names below ``root`` of the modules whose hooks an encoder layer looks for.

    Empty for the part of the model that contains the root itself: its hooks cannot be taken off
    while it is being called.
    """
    found: set[str] = set()
    for name, module in root.named_modules():
        if name and isinstance(module, CHECKS_HOOKS):
            found.update(f"{name}.{inner}".rstrip(".") for inner, _ in module.named_modules())
    return frozenset(found) if not isinstance(root, CHECKS_HOOKS) else frozenset()
