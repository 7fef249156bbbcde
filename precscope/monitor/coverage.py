"""What the monitor did not see, and why."""

from __future__ import annotations

from typing import Any

from torch import nn

from precscope.monitor.guard import Guard
from precscope.monitor.modules import ModuleHooks
from precscope.monitor.parameters import ParameterHooks
from precscope.monitor.sitebook import SiteBook


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
            "reason": modules.reasons.get(name, "its forward was not called while observed"),
        }
        for name, module in model.named_modules()
        if name not in modules.seen_modules
    ]
    skipped = [
        {"what": name, "reason": reason, "count": 1} for name, reason in parameters.skipped.items()
    ]
    return {
        "modules_seen": len(modules.seen_modules),
        "modules_not_seen": not_seen,
        "tensors_skipped": skipped,
        "observer_errors": guard.report(),
        "observed_steps": observed_steps,
        "sites": len(book.entries),
    }
