"""What is recorded about a run: sites, windows of statistics, steps. Plain frozen facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from precscope.histogram import ExponentHistogram

SiteKind = Literal["activation", "activation_gradient", "weight", "weight_gradient"]
SITE_KINDS: tuple[SiteKind, ...] = (
    "activation",
    "activation_gradient",
    "weight",
    "weight_gradient",
)
GRADIENT_KINDS: tuple[SiteKind, ...] = ("activation_gradient", "weight_gradient")


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the model where values are stored.

    Attributes:
        name: qualified name of the module (activations) or parameter (weights), as
            ``named_modules()`` and ``named_parameters()`` of the root spell it; the root itself
            is ``"(root)"``; the second tensor of a module's output is ``"name[1]"``.
        kind: what is stored there.
        shape: shape when first seen.
        dtype: torch dtype name when first seen, for example ``"float32"``.
        autocast_dtype: dtype the same tensor has in half precision training (FP16 weights, FP16
            autocast), from one real step of it; None where that was not measured. A site that
            stays float32 is not at risk.
        module_type: class name of the module, or of the module that owns the parameter.
        order: position in the order in which sites were first seen.
    """

    name: str
    kind: SiteKind
    shape: tuple[int, ...]
    dtype: str
    autocast_dtype: str | None
    module_type: str
    order: int


@dataclass(frozen=True, slots=True)
class Window:
    """Statistics of one site over the observed steps from ``first_step`` to ``last_step``.

    Attributes:
        first_step: first observed step (0 is the first optimizer step).
        last_step: last observed step, inclusive.
        observations: tensors counted into the histogram.
        histogram: all their values.
    """

    first_step: int
    last_step: int
    observations: int
    histogram: ExponentHistogram


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One observed step.

    Attributes:
        step: index of the optimizer step.
        loss: the loss, None where the observer does not see it.
        gradient_amax: largest finite magnitude of any gradient site in this step (true scale).
        gradient_amax_site: index of the site that held it, None if every gradient was zero.
        log2_scale: loss scale in force, log2; 0.0 for none.
    """

    step: int
    loss: float | None
    gradient_amax: float
    gradient_amax_site: int | None
    log2_scale: float


@dataclass(frozen=True, slots=True)
class RetentionSums:
    """Sums over sampled elements that say what FP16 weights keep of an update.

    With ``w16 = fp16(w)``, the FP32 update ``u`` times ``update_factor``, and
    ``d = fp16(w16 + u) - w16``.

    Attributes:
        update_factor: the factor c on the update: 1, 0.1, 0.01 stand for a later learning rate.
        dot: sum of d * u.
        update_squares: sum of u^2.
        noise_squares: sum of (d - u)^2.
        lost: non-zero updates with d = 0.
        nonzero: non-zero updates.
    """

    update_factor: float
    dot: float
    update_squares: float
    noise_squares: float
    lost: int
    nonzero: int


@dataclass(frozen=True, slots=True)
class UpdateWindow:
    """Retention of one parameter's updates over the observed steps of a window.

    Attributes:
        parameter: qualified parameter name.
        first_step: first observed step.
        last_step: last observed step, inclusive.
        steps: observed steps.
        sampled: elements sampled per step.
        learning_rate: learning rate at the last step, None if the optimizer has none.
        below_2_24: sampled non-zero updates with |u| < 2^-24 (the paper's first reason).
        ratio_above_2048: sampled non-zero updates with |w| > 2048 |u| (its second reason).
        single: sums for single updates, one entry per update factor.
        accumulated: the same sums for the whole window at once: u is the sum of the window's
            updates, d what FP16 weights moved by when they took each update in turn. None if
            the window holds one step only.
    """

    parameter: str
    first_step: int
    last_step: int
    steps: int
    sampled: int
    learning_rate: float | None
    below_2_24: int
    ratio_above_2048: int
    single: tuple[RetentionSums, ...]
    accumulated: RetentionSums | None
