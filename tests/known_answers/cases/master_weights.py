"""Updates of a known size beside weights of a known size.

FP16 numbers from 1 to 2 lie 2^-10 apart, so a weight there keeps nothing of an update below 2^-11 and
moves by a whole 2^-10 above. With plain SGD and a linear loss the update is exactly the rate times
the coefficient, in every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from precscope.workload import Workload
from tests.known_answers.claims import Case, Claim, among, below, exactly, near
from tests.known_answers.workloads import Result, analysed, sgd, watched, workload

HALF_ULP = 2.0**-11
UNDER = HALF_ULP * (1 - 2.0**-6)
OVER = HALF_ULP * (1 + 2.0**-6)
START = 1.25


class Weights(nn.Module):
    """Layers whose outputs are their weights: 64 each, all equal at first."""

    def __init__(self, names: Iterable[str], start: float = START) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(1, 64, bias=False) for name in names})
        for parameter in self.parameters():
            nn.init.constant_(parameter, start)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer's output by its name."""
        return {name: layer(x) for name, layer in self.layers.items()}


def downhill(model: nn.Module, updates: Mapping[str, float]) -> torch.Tensor:
    """A loss whose gradient is minus the wanted update of every layer, at a rate of 1."""
    outputs = model(torch.ones(1, 1))
    terms = [(outputs[name] * torch.full((64,), -u)).sum() for name, u in updates.items()]
    return torch.stack(terms).sum()


def moved(model: nn.Module) -> dict[str, float]:
    """How far each layer's first weight is from where it began."""
    return {n.split(".")[1]: float(p.detach().flatten()[0]) - START
            for n, p in model.named_parameters()}  # fmt: skip


def steady(updates: Mapping[str, float]) -> Workload:
    """The same updates in every step."""
    names = tuple(updates)
    return workload(lambda: Weights(names), downhill, [dict(updates)], sgd(1.0), moved)


def parameter(result: Result, name: str) -> dict[str, object]:
    """What is said about the master weight of one layer's parameter."""
    rows = result["master_weights"]["parameters"]
    found: dict[str, object] = next(row for row in rows if f".{name}." in f".{row['name']}.")
    return found


def _half_an_ulp(update: float, retention: float, verdicts: tuple[str, ...]) -> Case:
    def judge(folder: Path) -> Iterable[Claim]:
        result = analysed(steady({"layer": update}), folder, steps=16)
        row = parameter(result, "layer")
        yield near("retention R", retention, row["retention"], 1e-6)
        lost = 1.0 if retention == 0 else 0.0
        yield exactly("share of lost updates", lost, row["lost_updates_fraction"])
        yield among("verdict", verdicts, result["master_weights"]["verdict"])
        yield exactly("recipe keeps a master copy", True, result["recipe"]["master_weights"])

    where = "under" if update < HALF_ULP else "over"
    why = (
        f"u = {update / HALF_ULP:g} half ulp: the FP16 weight moves by"
        f" {retention * update / (2 * HALF_ULP):g} ulp, so R = d / u = {retention:.4g}"
    )
    return Case(f"updates-just-{where}-half-an-ulp", why, judge)


def _survive_a_hundredth(folder: Path) -> Iterable[Claim]:
    up, down = {"layer": 1.0}, {"layer": -1.0}
    subject = workload(lambda: Weights(("layer",), 0.5), downhill, [up, down], sgd(1.0))
    result = analysed(subject, folder, steps=16)
    row = parameter(result, "layer")
    yield near("retention R", 1.0, row["retention"], 1e-6)
    yield near("R of a tenth", 102 / 102.4, row["retention_0_1"], 2e-3)
    yield near("R of a hundredth", 10 / 10.24, row["retention_0_01"], 2e-3)
    yield exactly("verdict", "not_needed", result["master_weights"]["verdict"], "0.026 over 0.95")
    yield exactly("recipe keeps a master copy", False, result["recipe"]["master_weights"])


def _no_master_loses_what_r_says(folder: Path) -> Iterable[Claim]:
    steps = 24
    recipes = ("paper", "paper-no-master")
    subject = steady({"lost": UNDER, "doubled": OVER, "kept": 2 * HALF_ULP})
    result = analysed(subject, folder, steps=16, recipes=recipes, recipe_steps=steps)
    runs = {run["recipe"]: run["metrics"] for run in result["runs"]}
    for name, update, r in (("lost", UNDER, 0), ("doubled", OVER, 2 * HALF_ULP / OVER),
                            ("kept", 2 * HALF_ULP, 1)):  # fmt: skip
        yield near(f"R of {name}", r, parameter(result, name)["retention"], 1e-6)
        yield near(f"FP32 moves {name} by", steps * update, runs["fp32"][name], 1e-7)
        yield near(f"without master {name} moves", r * steps * update,
                   runs["paper-no-master"][name], 1e-7)  # fmt: skip
        yield near(f"with master {name} moves", steps * update, runs["paper"][name], HALF_ULP)


def _mean_moved(model: nn.Module) -> dict[str, float]:
    weights = next(model.parameters()).detach().double()
    return {"mean": float(weights.mean()) - START, "spread": float(weights.std())}


def _alternatives(folder: Path) -> Iterable[Claim]:
    steps, ulp = 48, 2 * HALF_ULP
    recipes = ("paper-no-master", "paper-stochastic-rounding", "paper-kahan")
    subject = workload(
        lambda: Weights(("layer",)), downhill, [{"layer": UNDER}], sgd(1.0), _mean_moved
    )
    result = analysed(subject, folder, steps=16, recipes=recipes, recipe_steps=steps)
    runs = {run["recipe"]: run["metrics"] for run in result["runs"]}
    whole, p = steps * UNDER, UNDER / ulp
    # Each step is up by an ulp with probability p: the mean of 64 weights has this deviation.
    sd = ulp * (steps * p * (1 - p) / 64) ** 0.5
    yield near("FP32 moves by", whole, runs["fp32"]["mean"], 1e-7)
    yield near("rounding to nearest moves by", 0.0, runs["paper-no-master"]["mean"], 1e-9)
    yield near("Kahan moves by", whole, runs["paper-kahan"]["mean"], 1.1 * HALF_ULP)
    stochastic = runs["paper-stochastic-rounding"]
    yield near("stochastic rounding moves by", whole, stochastic["mean"], 4 * sd)
    yield near("deviation of its weights", sd * 8, stochastic["spread"], 0.4 * sd * 8)


def _watched(
    rate: Callable[[int], float], steps: int, folder: Path, start: float = START
) -> Result:
    model = Weights(("layer",), start)
    optimizer = torch.optim.SGD(model.parameters(), rate(0))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step) / rate(0))

    def step(index: int) -> torch.Tensor:
        if index:
            schedule.step()
        return downhill(model, {"layer": 1.0})

    return watched(model, optimizer, step, steps, folder)


LARGE, SMALL = 2.0**-9, 2.0**-14
"""Two ulp of a weight from 1 to 2, and a sixteenth of one."""


def _ends_where_updates_vanish(folder: Path) -> Iterable[Claim]:
    result = _watched(lambda step: LARGE if step < 128 else SMALL, 192, folder)
    yield exactly("verdict", "required", result["master_weights"]["verdict"], "R = 0 at the end")
    yield near("retention R", 0.0, parameter(result, "layer")["retention"], 1e-6)
    before = _watched(lambda step: LARGE, 128, folder)
    yield near("R without the end", 1.0, parameter(before, "layer")["retention"], 1e-6)
    yield among("verdict without the end", ("advised", "not_needed"),
                before["master_weights"]["verdict"])  # fmt: skip


def _drops_inside_a_window(folder: Path) -> Iterable[Claim]:
    result = _watched(lambda step: LARGE if step < 100 else SMALL, 192, folder)
    yield exactly(
        "verdict", "required", result["master_weights"]["verdict"], "92 of 192 steps lost"
    )
    yield below("retention R", 0.8, parameter(result, "layer")["retention"])


def _converged(folder: Path) -> Iterable[Claim]:
    def loss(model: nn.Module, target: torch.Tensor) -> torch.Tensor:
        distance = model(torch.ones(1, 1))["layer"].float() - target
        return 0.5 * distance.square().sum()

    subject = workload(
        lambda: Weights(("layer",)), loss, [torch.full((1, 64), 1.75)], sgd(0.5), moved
    )
    result = analysed(subject, folder, 48, recipes=("paper-no-master",), recipe_steps=48)
    row = parameter(result, "layer")
    yield among("verdict", ("advised", "not_needed"), result["master_weights"]["verdict"])
    yield near("retention R", 1.0, row["retention"], 1e-6)
    runs = {run["recipe"]: run["metrics"]["layer"] for run in result["runs"]}
    yield near("without master it moves by", 0.5, runs["paper-no-master"], 2 * HALF_ULP)


CASES = (
    _half_an_ulp(UNDER, 0.0, ("required",)),
    _half_an_ulp(OVER, 2 * HALF_ULP / OVER, ("required", "advised")),
    Case(
        "updates-that-survive-a-hundredth",
        "weights go from 0.5 to 1.5 and back: u / 100 is 10.24 ulp of 1.5, of which FP16 keeps 10",
        _survive_a_hundredth,
    ),
    Case(
        "without-master-exactly-r-is-kept",
        "24 steps of SGD: FP16 weights without a master move by R times as far as FP32's, which is"
        " nowhere for R = 0; with a master they are within half an ulp",
        _no_master_loses_what_r_says,
    ),
    Case(
        "kahan-and-stochastic-rounding-keep-what-nearest-loses",
        "48 steps just under half an ulp: nearest moves nowhere, Kahan ends within half an ulp, and"
        " stochastic rounding is a binomial walk with p = u / ulp",
        _alternatives,
    ),
    Case(
        "schedule-ends-where-updates-vanish",
        "128 steps of 2 ulp (R = 1) and 64 of 1/16 ulp (R = 0), by the learning rate alone: required,"
        " and only because of the end",
        _ends_where_updates_vanish,
    ),
    Case(
        "schedule-drops-inside-a-window",
        "the same, but the rate drops in step 100, in the middle of a window of 64 steps: the whole"
        " last window is lost all the same",
        _drops_inside_a_window,
    ),
    Case(
        "updates-vanish-because-it-converged",
        "the distance to the optimum halves in each step: late updates are far below half an ulp"
        " because the gradient has died away, and FP16 weights end within an ulp of the optimum",
        _converged,
    ),
)
