"""measure_accumulation: one training step in which every sum is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from precscope.probes.accumulation.collector import Collector
from precscope.probes.accumulation.facts import NOT_FINITE, Site, taken, worked_out
from precscope.probes.accumulation.modules import ROOT, Modules
from precscope.probes.accumulation.reductions import gradient_norm
from precscope.probes.accumulation.sums import prepare
from precscope.probes.isolated import isolated


def measure_accumulation(
    model: nn.Module, loss: Callable[[], torch.Tensor], log2_scale: int = 0
) -> dict[str, Any]:
    """The sums of one float32 forward and backward, with FP16 operands and FP16 accumulators.

    Each sum is sampled at up to 64 output elements. Gradients are rounded at the loss scale, so
    that what a sum loses is not confused with what underflows before it.

    Args:
        model: whose sums are asked for; given back unchanged, with the random streams.
        loss: computes the loss of one batch with ``model``.
        log2_scale: the loss scale, log2.

    Returns:
        ``{"log2_scale", "probe_ms", "addends", "sites", "skipped"}``: sites in order of
        execution as ``facts.worked_out`` describes them, ``skipped`` operators that add up and
        could not be taken apart, ``addends`` the number of addends looked at.
    """
    scale = 2.0**log2_scale
    prepare()
    started = time.perf_counter()
    modules = Modules(model)
    collector = Collector(modules, scale)
    with isolated(model):
        with modules.followed(), collector:
            loss().backward()
        _add_gradient_norm(model, collector, scale)
    found = list(collector.sites.values())
    for site, numbers in zip(found, worked_out([site.taken for site in found]), strict=True):
        site.numbers = numbers
    sites = [site.to_dict() for site in found if _is_number(site, collector)]
    return {
        "log2_scale": log2_scale,
        "probe_ms": (time.perf_counter() - started) * 1e3,
        "addends": sum(s["sampled_length"] * s["samples"] for s in sites),
        "sites": sites,
        "skipped": [
            {"operator": operator, "reason": reason, "count": count}
            for (operator, reason), count in collector.skipped.items()
        ],
    }


def _is_number(site: Site, collector: Collector) -> bool:
    """False, and noted, for a sum of NaN: that is a fault of the model, not of a format."""
    if site.numbers["unmeasured"] != NOT_FINITE:
        return True
    collector.skipped[(site.operator, f"NaN in {site.site}")] += 1
    return False


def _add_gradient_norm(model: nn.Module, collector: Collector, scale: float) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    dense = [g for g in gradients if g.layout is torch.strided]
    if not dense:
        return
    reduction = gradient_norm(dense, scale)
    name, length = "gradient norm", reduction.length
    site = Site(ROOT, name, "norm", "backward", reduction.family, length, taken(reduction))
    collector.sites[(ROOT, name)] = site
