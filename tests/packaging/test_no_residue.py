"""The fixture that guards every test can itself fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.program_state import program_state, residue

Undo = Callable[[], object]


def leave_a_mode() -> Undo:
    mode = TorchDispatchMode()
    mode.__enter__()
    return lambda: mode.__exit__(None, None, None)


def leave_autocast() -> Undo:
    context = torch.autocast("cpu", torch.bfloat16)
    context.__enter__()
    return lambda: context.__exit__(None, None, None)


def leave_saved_tensor_hooks() -> Undo:
    context = torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t)
    context.__enter__()
    return lambda: context.__exit__(None, None, None)


def leave_a_module_hook() -> Undo:
    return register_module_forward_hook(lambda module, args, output: None).remove


def leave_an_optimizer_hook() -> Undo:
    return register_optimizer_step_post_hook(lambda optimizer, args, kwargs: None).remove


def leave_a_dtype() -> Undo:
    torch.set_default_dtype(torch.float64)
    return lambda: torch.set_default_dtype(torch.float32)


def leave_threads() -> Undo:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    return lambda: torch.set_num_threads(threads)


def leave_a_patch() -> Undo:
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.nn.Module, "__call__", lambda self: None)
    return patch.undo


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        (leave_a_mode, "dispatch modes"),
        (leave_autocast, "autocast on cpu"),
        (leave_saved_tensor_hooks, "saved tensor hooks"),
        (leave_a_module_hook, "_global_forward_hooks"),
        (leave_an_optimizer_hook, "_global_optimizer_post_hooks"),
        (leave_a_dtype, "default dtype"),
        (leave_threads, "threads"),
        (leave_a_patch, "Module.__call__"),
    ],
)
def test_what_is_left_behind_is_named(leave: Callable[[], Undo], named: str) -> None:
    before = program_state()
    undo = leave()
    try:
        left = residue(before, program_state())
    finally:
        undo()
    assert any(named in line for line in left)
    assert residue(before, program_state()) == []
