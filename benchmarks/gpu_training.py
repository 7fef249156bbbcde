"""Training on the GPU: what observing costs, and every recipe beside FP32 and TF32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from statistics import median
from typing import Any

import torch
from gpu_models import Network, networks
from gpu_setting import Setting

from precscope.monitor import Monitor
from precscope.monitor.schedule import Schedule
from precscope.monitor.sink import NullSink
from precscope.recipe import Recipe
from precscope.timing.document import timing_document
from precscope.timing.measure import Measurement, measure, measure_on_host
from precscope.timing.steps import Plan

RECIPES = (
    "fp32",
    "tf32",
    "bf16",
    "fp16",
    "paper",
    "paper-no-master",
    "paper-no-scaling",
    "paper-fp16-accumulation",
)
BLOCK_STEPS = 10
REST_S = 45.0
"""Kept for the times of modules and the names of kernels: a second round is worth less."""


def overhead(setting: Setting) -> dict[str, Any]:
    """Blocks of ten fp16 steps with and without observers, in turn; the ratio of neighbours."""
    found: dict[str, Any] = {}
    for name, network in networks(setting.dry).items():
        for every in (1, 10):
            if setting.is_over:
                return {**found, "cut": True}
            found[f"{name} every={every}"] = setting.attempt(
                partial(_overhead, network, every, setting)
            )
            setting.keep(found)
    found["targets"] = {"every=1": 1.05, "every=10": 1.01}
    return found


def _overhead(network: Network, every: int, setting: Setting) -> dict[str, Any]:
    plain = _fp16_step(network, setting)[0]
    observed, model, optimizer = _fp16_step(network, setting)
    rounds = setting.pick(8, 4, 1)
    times: dict[str, list[float]] = {"plain": [], "observed": []}
    sink = NullSink()
    with Monitor(model, optimizer, sink, schedule=Schedule(every)) as monitor:
        for step in (plain, observed):
            setting.span_ms(step, setting.pick(BLOCK_STEPS, BLOCK_STEPS, 1))
        for turn in range(rounds):
            if setting.is_over and turn > 1:
                break
            pair = [("plain", plain), ("observed", observed)]
            for name, step in pair if turn % 2 == 0 else reversed(pair):
                times[name].append(setting.span_ms(step, setting.pick(BLOCK_STEPS, BLOCK_STEPS, 2)))
        monitor.flush()
    ratios = [o / p for o, p in zip(times["observed"], times["plain"], strict=True)]
    per_step = BLOCK_STEPS if not setting.dry else 2
    return {
        "plain_step_ms": median(times["plain"]) / per_step,
        "observed_step_ms": median(times["observed"]) / per_step,
        "ratio": median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "rounds": len(ratios),
        "sites": len(sink.sites),
        "observer_errors": monitor.coverage()["observer_errors"],
    }


def _fp16_step(
    network: Network, setting: Setting
) -> tuple[Callable[[], None], torch.nn.Module, torch.optim.Optimizer]:
    """An fp16 autocast step that never waits for the device: a constant loss scale."""
    session = network.session(0, str(setting.device))
    batches = cycle(list(islice(session.batches(), 2)))
    scale = 1024.0

    def step() -> None:
        session.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(setting.device.type, torch.float16, enabled=not setting.dry):
            loss = session.loss(next(batches))
        (loss * scale).backward()
        gradients = [p.grad for p in session.model.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, 1 / scale)
        session.optimizer.step()

    return step, session.model, session.optimizer


def recipes(setting: Setting) -> dict[str, Any]:
    """Every recipe on the transformer: all passes of ``precscope.timing``."""
    network = networks(setting.dry)["gpt2-small"]
    names = RECIPES[: setting.pick(len(RECIPES), 4, 2)]
    chosen = [Recipe.named(name) for name in names]
    if setting.device.type != "cuda":
        found = measure_on_host(network, chosen[0], setting.device, 0, 2, float("inf"))
        return timing_document(found, "fp32", "fp32")
    rounds = setting.pick(2, 1, 1)
    plan = Plan(
        warm_up_steps=3,
        warm_up_s=1.0,
        steps=10,
        seconds=3.3,
        rounds=rounds,
        limit_s=setting.left_s,
        rest_s=REST_S,
    )
    subject = "fp16"

    def document(found: Measurement) -> dict[str, Any]:
        return timing_document(found, subject, "fp16")

    def keep(found: Measurement) -> None:
        setting.keep(document(found))

    return document(measure(network, chosen, subject, setting.device, 0, plan, keep))
