"""What is run for the reproduction of the paper: domains, recipes, seeds, in which order."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

EXAMPLES = Path(__file__).parents[1] / "examples" / "paper"

RECIPES = (
    "fp32",
    "paper",
    "fp16",
    "paper-no-scaling",
    "paper-no-master",
    "paper-fp16-accumulation",
)
ADVISED = "advised"
"""Trained like a recipe: it is what the analysis of the domain says."""

Size = Literal["quick", "small", "large"]
Kind = Literal["advise", "histograms", "train", "slow", "dose", "probe", "clip"]

SHORT_CPU_SECONDS = 80.0
"""A recipe whose first run takes more of a core is not run on further seeds. FP32, the yardstick,
is. CPU time and not time by the clock: what else runs on the machine must not choose the seeds."""

SLOW_DOMAIN, SLOW_LOG2_RATE = "translation", -9
"""Where the master copy is tried at a learning rate that is small against the weights."""

SLOW_RECIPES = ("fp32", "paper", "paper-no-master")
DOSE_DOMAIN = "detection"
DOSES = (-18, -15, -12, -9, -6, -3, 0, 3, 9)
QUICK_DOSES = (-12, 3)
CLIP_DOMAIN = "classification"
"""Trained by SGD: an update of Adam's has the same size however small the gradient is clipped."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One of the paper's six kinds of network.

    Attributes:
        name: name of the example file.
        title: what it is.
        judged_by: ``final_loss``, or ``metric`` where the loss says nothing about quality.
        paper: the paper's own row, in words.
        needs_scaling: whether the paper needed loss scaling for it; None if it is not said.
        untestable: why a need for scaling may not show here; empty where the paper has none.
    """

    name: str
    title: str
    judged_by: Literal["final_loss", "metric"]
    paper: str
    needs_scaling: bool | None
    untestable: str = ""


DOMAINS = (
    Domain(
        "classification", "Classification, residual network", "final_loss",
        "ResNet-50, ILSVRC12 top-1: FP32 75.92, mixed precision 76.04 without loss scaling; largest"
        " difference over six networks 0.28 points", False,
    ),
    Domain(
        "detection", "Detection, SSD", "final_loss",
        "Multibox SSD, VOC2007 mAP: FP32 76.9, with loss scaling 77.1, diverges without; Faster"
        " R-CNN 69.1, 69.7 with, 68.6 without", True,
        "an SSD of this size and schedule has larger gradients; see the dose-response",
    ),
    Domain(
        "speech", "Speech, bidirectional GRU with CTC", "final_loss",
        "DeepSpeech 2 character error rate: English FP32 2.20, mixed precision 1.99; Mandarin 15.82"
        " and 15.01", None,
    ),
    Domain(
        "translation", "Translation, attention LSTM", "final_loss",
        "WMT15 English to French: with loss scaling it matches FP32, without a slight degradation",
        True, "the degradation there is slight, of networks of 1024 cells trained to the end",
    ),
    Domain(
        "language_model", "Language model, projected LSTM", "final_loss",
        "bigLSTM, 1B words: a scale of 128 matches FP32's perplexity, without it diverges after"
        " 300 000 iterations", True, "a run here has a thousandth of those iterations",
    ),
    Domain(
        "gan", "Generation, DCGAN", "metric",
        "DCGAN, faces 128 x 128: judged by eye, no loss scaling needed", False,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """One cell: small enough to be lost, large enough to be worth keeping."""

    domain: str
    kind: Kind
    recipe: str = "fp32"
    seed: int = 0

    @property
    def key(self) -> str:
        """Its name in the state."""
        return f"{self.domain}/{self.kind}/{self.recipe}/{self.seed}"


Cells = Mapping[str, Mapping[str, Any]]
"""Finished cells by key."""


def tasks_of(domain: str, size: Size, seeds: int, cells: Cells) -> list[Task]:
    """All tasks of a domain, the most telling first, as far as the cells so far decide."""
    yardstick = 2 if size == "quick" else max(2, seeds)
    tasks = [Task(domain, "advise")]
    tasks += [Task(domain, "train", "fp32", seed) for seed in range(yardstick)]
    first = [Task(domain, "train", recipe) for recipe in (*RECIPES[1:], ADVISED)]
    tasks += [*first, Task(domain, "histograms"), *_figures_of(domain, size)]
    if size != "quick":
        short = [task for task in first if _is_short(task, cells)]
        tasks += [replace(task, seed=seed) for seed in range(1, seeds) for task in short]
    return tasks


def _is_short(task: Task, cells: Cells) -> bool:
    taken = cells.get(task.key, {}).get("cpu_seconds")
    return taken is not None and taken <= SHORT_CPU_SECONDS


def _figures_of(domain: str, size: Size) -> Iterator[Task]:
    if domain == SLOW_DOMAIN:
        yield from (Task(domain, "slow", recipe) for recipe in SLOW_RECIPES)
    if domain == DOSE_DOMAIN:
        yield Task(domain, "probe")
        for dose in QUICK_DOSES if size == "quick" else DOSES:
            yield Task(domain, "dose", str(dose))
    if domain == CLIP_DOMAIN:
        yield Task(domain, "clip")


def pending(domains: list[str], size: Size, seeds: int, cells: Cells) -> list[Task]:
    """What is left to do; a run of the advised recipe waits for the advice."""
    wanted = [task for name in domains for task in tasks_of(name, size, seeds, cells)]
    return [task for task in wanted if task.key not in cells]


def is_ready(task: Task, cells: Cells) -> bool:
    """Whether what the task needs is known."""
    return task.recipe != ADVISED or Task(task.domain, "advise").key in cells


def steps_of(domain: str, size: Size) -> int:
    """Length of a run: the constant ``STEPS`` of the example, read without running it."""
    tree = ast.parse((EXAMPLES / f"{domain}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "STEPS":
            steps: dict[str, int] = ast.literal_eval(node.value)
            return steps[size]
    raise SystemExit(f"{domain}.py has no constant STEPS")


def fingerprint(domain: str) -> str:
    """A digest of the example and of what it may import: cells of another version do not count."""
    others = {f"{other.name}.py" for other in DOMAINS if other.name != domain}
    files = sorted(file for file in EXAMPLES.glob("*.py") if file.name not in others)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
