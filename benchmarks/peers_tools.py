"""How each tool that looks at a training is attached, by its own documentation.

A tool is given a training and returns how one step runs under it. Each entry says what it looks
at, because no two look at the same tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Around = Callable[[int], None]
"""Runs the step of the given index, observed if the schedule says so."""


class Training:
    """A network, its batch and its optimizer; a tool may put another network in place."""

    def __init__(self, build: Callable[[], Any]) -> None:
        torch.manual_seed(0)
        model, self.inputs, self.targets = build()
        self.use(model)

    def use(self, model: nn.Module) -> None:
        """Train ``model``."""
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step(self) -> None:
        """Forward, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(self.inputs).flatten(0, -2), self.targets).backward()
        self.optimizer.step()


@dataclass(frozen=True, slots=True)
class Job:
    """What a tool needs in order to attach itself.

    Attributes:
        training: what it looks at.
        every: look at every n-th step.
        folder: a place for its files.
        closing: takes what has to be undone at the end.
    """

    training: Training
    every: int
    folder: Path
    closing: ExitStack


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        name: as the table shows it.
        requirement: what pip installs, empty for what torch brings.
        sees: what it looks at.
        schedule: "own" if it can look at every n-th step, "by hand" if the user's loop does
            that, "none" if it looks at each step.
        attach: attaches it, by a job.
        counted: whether its operations pass where they are counted.
    """

    name: str
    requirement: str
    sees: str
    schedule: str
    attach: Callable[[Job], Around]
    counted: bool = True


def precscope(job: Job) -> Around:
    """Exponent histograms of all values, sums and extremes."""
    from overhead import KINDS

    from precscope import watch

    path = job.folder / "run.precscope"
    model, optimizer = job.training.model, job.training.optimizer
    job.closing.enter_context(watch(model, optimizer, path=path, every=job.every, kinds=KINDS))
    return _always(job)


def anomaly_mode(job: Job) -> Around:
    """NaN in gradients."""
    return _within(job, lambda: torch.autograd.detect_anomaly(check_nan=True))


def debug_mode_hashes(job: Job) -> Around:
    """A log of operations with the L1 norm of every result."""
    from torch.utils._debug_mode import DebugMode

    def both() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(DebugMode())
        stack.enter_context(DebugMode.log_tensor_hashes())
        return stack

    return _within(job, both)


def transformers_debug(job: Job) -> Around:
    """Smallest and largest magnitude, infinities and NaNs of weights, inputs and outputs."""
    from transformers.debug_utils import DebugUnderflowOverflow

    DebugUnderflowOverflow(job.training.model)
    return _always(job)


def wandb_watch(job: Job) -> Around:
    """Histograms of 64 linear bins of parameters and their gradients."""
    import wandb

    quiet = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True,
        x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
    )  # fmt: skip
    run = wandb.init(mode="offline", dir=str(job.folder), project="peers", settings=quiet)
    job.closing.callback(wandb.teardown)
    job.closing.callback(run.finish)
    run.watch(job.training.model, log="all", log_freq=job.every)

    def around(index: int) -> None:
        job.training.step()
        run.log({"step": index})

    return around


def tensorboard(job: Job) -> Around:
    """Histograms of parameters and their gradients, written in the loop."""
    from torch.utils.tensorboard import SummaryWriter

    writer = job.closing.enter_context(SummaryWriter(str(job.folder)))

    def around(index: int) -> None:
        job.training.step()
        if index % job.every == 0:
            for name, parameter in job.training.model.named_parameters():
                writer.add_histogram(f"weight/{name}", parameter, index)
                writer.add_histogram(f"gradient/{name}", parameter.grad, index)

    return around


INSPECT = """\
all:
  enabled: True
  layers: {{layer_name_regex_pattern: .*}}
  LogTensorStats:
    enabled: True
    tensors: [activation, gradient]
    stats: [min, max, mean, std, l1_norm, l2_norm]
    freq: {every}
"""


def nvdlfw_inspect(job: Job) -> Around:
    """Six statistics of activations and their gradients, by hooks on the leaves."""
    import nvdlfw_inspect.api as inspect

    settings = job.folder / "inspect.yaml"
    settings.write_text(INSPECT.format(every=job.every))
    inspect.initialize(str(settings), log_dir=str(job.folder), default_logging_enabled=True)
    job.closing.callback(inspect.end_debug)

    def log(name: str, kind: str, tensor: torch.Tensor) -> None:
        inspect.log_tensor_stats(name, tensor=tensor, tensor_name=kind, skip_reduction=True)

    def hook(name: str) -> Callable[..., None]:
        def returned(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            log(name, "activation", output.detach())
            output.register_hook(lambda gradient: log(name, "gradient", gradient))

        return returned

    for name, module in job.training.model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(hook(name))

    def around(_index: int) -> None:
        job.training.step()
        inspect.step()

    return around


def msprobe(job: Job) -> Around:
    """Smallest, largest, mean, norm and NaNs of activations, gradients and weight gradients."""
    from msprobe.core.monitor_v2.trainer import TrainerMonitorV2

    operations = ["min", "max", "mean", "norm", "nans"]
    kinds = {kind: {"enabled": True, "ops": operations} for kind in ("module", "weight_grad")}
    settings = {
        "framework": "pytorch", "output_dir": str(job.folder), "step_interval": job.every,
        "monitors": kinds,
    }  # fmt: skip
    path = job.folder / "monitor.json"
    path.write_text(json.dumps(settings))
    path.chmod(0o600)
    monitor = TrainerMonitorV2(str(path), fr="pytorch")
    monitor.start(model=job.training.model, optimizer=job.training.optimizer, grad_acc_steps=1)
    job.closing.callback(monitor.stop)
    return _always(job)


def torchexplorer(job: Job) -> Around:
    """Histograms of 1000 samples of inputs, outputs, gradient norms and parameters."""
    import torchexplorer as explorer
    from torchexplorer.render import layout

    # Drawing the graph takes a program of its own; what is measured comes before it.
    layout.layout = lambda *_: (None, None)
    explorer.watch(job.training.model, log_freq=job.every, backend="none")
    return _always(job)


def unit_scaling(job: Job) -> Around:
    """Mean, spread and extremes of every operation's result and its gradient."""
    from unit_scaling.transforms import track_scales

    job.training.use(track_scales(job.training.model))
    return _always(job)


def _always(job: Job) -> Around:
    return lambda _index: job.training.step()


def _within(job: Job, context: Callable[[], Any]) -> Around:
    def around(index: int) -> None:
        if index % job.every:
            job.training.step()
            return
        with context():
            job.training.step()

    return around


EVERYTHING = "activations, weights, gradients of both"
TOOLS = (
    Tool("precscope", "", EVERYTHING, "own", precscope),
    Tool("torch anomaly mode", "", "NaN in gradients", "by hand", anomaly_mode),
    Tool("torch DebugMode, hashes", "", "a norm per operation", "by hand", debug_mode_hashes),
    Tool("transformers DebugUnderflowOverflow", "transformers", "weights, activations", "none", transformers_debug),
    Tool("nvdlfw-inspect", "nvdlfw-inspect", "activations, their gradients", "own", nvdlfw_inspect),
    Tool("unit-scaling track_scales", "unit-scaling", "operations, their gradients", "none", unit_scaling, counted=False),
    Tool("torchexplorer", "torchexplorer", "activations, weights, gradient norms", "own", torchexplorer),
    Tool("wandb.watch", "wandb", "weights, their gradients", "own", wandb_watch),
    Tool("msprobe monitor_v2", "mindstudio-probe", "activations, gradients of both", "own", msprobe),
    Tool("TensorBoard add_histogram", "tensorboard", "weights, their gradients", "by hand", tensorboard),
)  # fmt: skip

NOT_COMPARED = {
    "Composer ActivationMonitor": ("mosaicml==0.32.1", ""),
    "tensor_tracker": ("", "not on the package index"),
    "microxcaling, mptorch": ("", "not on the package index"),
    "cockpit": ("", "takes neither LayerNorm nor BatchNorm: both networks have one"),
    "Transformer Engine": ("", "needs CUDA, and layers of its own"),
}
"""Name: what pip is asked for, to tell whether it installs beside this torch; or why it is not."""
