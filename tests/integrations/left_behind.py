"""What a trainer's callback may have left on what it watched."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def hooks_of(model: nn.Module, optimizers: Iterable[Optimizer] = ()) -> list[str]:
    """Every hook on the modules, the parameters and the optimizers."""
    found = [f"{n}.{k}" for n, m in model.named_modules() for k in MODULE_HOOKS if vars(m)[k]]
    for name, parameter in model.named_parameters():
        accumulated = parameter._post_accumulate_grad_hooks
        found += [name] if parameter._backward_hooks or accumulated else []
    for optimizer in optimizers:
        found += [kind for kind in OPTIMIZER_HOOKS if vars(optimizer)[kind]]
    return found


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models hold the same names and the same bits."""
    first, second = a.state_dict(), b.state_dict()
    same_names = first.keys() == second.keys()
    return same_names and all(torch.equal(first[name], second[name]) for name in first)
