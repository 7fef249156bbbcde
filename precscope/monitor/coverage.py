"""What the monitor did not see, and why."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from precscope.monitor import compiled
from precscope.monitor.guard import Guard
from precscope.monitor.modules import ModuleHooks
from precscope.monitor.parameters import ParameterHooks
from precscope.monitor.sitebook import SiteBook

FIRST = ".".join(map(str, compiled.FIRST_TORCH))
BEFORE = "compiled before watching began: call watch before the compiled model"
TOO_OLD = f"runs compiled, which torch before {FIRST} does not let be observed"
ADDED = "added to the model after watching began"
NOT_CALLED = "its forward was not called while observed"


def coverage_document(
    model: nn.Module,
    modules: ModuleHooks,
    parameters: ParameterHooks,
    guard: Guard,
    book: SiteBook,
    observed_steps: int,
) -> dict[str, Any]:
    """Modules seen and not seen with the reason, tensors skipped, observers that failed."""
    not_seen = [
        {
            "name": name or "(root)",
            "module_type": type(module).__name__,
            "reason": _reason(name, module, modules),
        }
        for name, module in model.named_modules()
        if name not in modules.seen_modules
    ]
    skipped = [
        {"what": name, "reason": reason, "count": 1} for name, reason in parameters.skipped.items()
    ]
    skipped += [
        {"what": name, "reason": ADDED, "count": 1}
        for name, _ in model.named_parameters()
        if name not in parameters.names
    ]
    skipped += [
        {"what": what, "reason": reason, "count": count}
        for (what, reason), count in modules.skipped.items()
    ]
    return {
        "modules_seen": len(modules.seen_modules),
        "modules_not_seen": not_seen,
        "tensors_skipped": skipped,
        "observer_errors": guard.report(),
        "observed_steps": observed_steps,
        "sites": len(book.entries),
    }


def _reason(name: str, module: nn.Module, modules: ModuleHooks) -> str:
    if name not in modules.names:
        return ADDED
    if not modules.seen_modules and compiled.compiled_code_exists():
        return BEFORE if compiled.WORKS else TOO_OLD
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return "a container, which is not called"
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return "its weights are used directly by the attention that owns it"
    unseen = NOT_CALLED
    if compiled.compiled_code_exists() and not compiled.WORKS:
        unseen = f"{NOT_CALLED}, or {TOO_OLD}"
    return modules.reasons.get(name, unseen)
