"""What a guest in somebody's program must leave as it was."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch

GLOBAL_HOOKS = ("torch.nn.modules.module", "torch.optim.optimizer")
PATCHABLE = (
    (torch.nn.Module, ("__call__", "_call_impl", "_wrapped_call_impl", "__setattr__", "forward")),
    (torch.Tensor, ("backward", "register_hook")),
    (torch.optim.Optimizer, ("zero_grad", "__init__", "register_step_post_hook")),
    (torch.autograd, ("backward", "grad")),
)


def _saved_tensor_hooks() -> Any:
    # Older torch has no way to ask for them.
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return None if top is None else top(True)


def program_state() -> dict[str, Any]:
    """A value per thing that outlives a call: modes, hooks, settings, functions of torch."""
    state: dict[str, Any] = {
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "function modes": torch._C._len_torch_function_stack(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "anomaly mode": torch.is_anomaly_enabled(),
        "saved tensor hooks": _saved_tensor_hooks(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "attention fast path": torch.backends.mha.get_fastpath_enabled(),
    }
    for device in ("cpu", "cuda"):
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        state[f"autocast on {device}"] = (enabled, dtype)
    return {**state, **dict(_global_hooks()), **dict(_functions())}


def _global_hooks() -> Iterator[tuple[str, Any]]:
    for name in GLOBAL_HOOKS:
        for attribute, value in vars(import_module(name)).items():
            if attribute.startswith("_global"):
                yield f"{name}.{attribute}", list(value) if isinstance(value, dict) else value


def _functions() -> Iterator[tuple[str, Any]]:
    for owner, names in PATCHABLE:
        for name in names:
            yield f"{owner.__name__}.{name}", getattr(owner, name)


def residue(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """One line per thing that changed."""
    names = before.keys() | after.keys()
    return [
        f"{name}: {before.get(name)} became {after.get(name)}"
        for name in sorted(names)
        if before.get(name) != after.get(name)
    ]
