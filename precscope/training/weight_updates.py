"""How an updated float32 value becomes a float16 weight, and what is kept of it until next time.

Four ways. The optimizer always works on a float32 value and keeps its own state in float32; the
ways differ in what that value is read from at the next step:

* ``KeptMaster``: the float32 value itself, 4 more bytes per parameter;
* ``NearestUpdates``: the rounded weight. An update below half an ulp is lost;
* ``StochasticUpdates``: the weight, rounded up or down at random such that the mean is right;
* ``KahanUpdates``: the weight minus a float16 compensation, 2 more bytes per parameter.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from precscope.errors import UsageError
from precscope.formats import FP16
from precscope.recipe import Recipe

Tensors = list[torch.Tensor]


class WeightUpdates(Protocol):
    """Rounds float32 masters into float16 weights, and brings the masters back."""

    def start(self, weights: Tensors, masters: Tensors) -> None:
        """These weights, behind any before, were rounded from the masters for the first time."""

    def publish(self, weights: Tensors, masters: Tensors) -> None:
        """After an update of the masters: set the weights, and the masters of the next step."""

    def extra_bytes(self, masters: Tensors) -> int:
        """Size of what is kept between steps beside the weights."""

    def state(self, weights: Tensors, masters: Tensors) -> dict[str, Any]:
        """All that ``load`` needs, as tensors by name."""

    def load(self, state: dict[str, Any], weights: Tensors, masters: Tensors) -> None:
        """Set weights, masters and what is kept, to what ``state`` gave."""


class KeptMaster:
    """The float32 master copy of the paper."""

    def start(self, weights: Tensors, masters: Tensors) -> None:
        """Nothing to do: the masters have all bits."""

    def publish(self, weights: Tensors, masters: Tensors) -> None:
        """Round the masters into the weights."""
        copy_all(masters, into=weights)

    def extra_bytes(self, masters: Tensors) -> int:
        """4 bytes for each parameter."""
        return sum(master.numel() * master.element_size() for master in masters)

    def state(self, weights: Tensors, masters: Tensors) -> dict[str, Any]:
        """The masters."""
        return {"masters": [master.detach() for master in masters]}

    def load(self, state: dict[str, Any], weights: Tensors, masters: Tensors) -> None:
        """The masters, and the weights rounded from them."""
        copy_all(state["masters"], into=masters)
        self.publish(weights, masters)


class NearestUpdates:
    """FP16 weights alone, each update rounded to nearest even."""

    def start(self, weights: Tensors, masters: Tensors) -> None:
        """Forget what the first rounding lost."""
        copy_all(weights, into=masters)

    def publish(self, weights: Tensors, masters: Tensors) -> None:
        """Round, and forget what was lost."""
        copy_all(masters, into=weights)
        copy_all(weights, into=masters)

    def extra_bytes(self, masters: Tensors) -> int:
        """None."""
        return 0

    def state(self, weights: Tensors, masters: Tensors) -> dict[str, Any]:
        """The weights."""
        return {"weights": [weight.detach() for weight in weights]}

    def load(self, state: dict[str, Any], weights: Tensors, masters: Tensors) -> None:
        """The weights."""
        copy_all(state["weights"], into=weights)
        copy_all(weights, into=masters)


class StochasticUpdates(NearestUpdates):
    """FP16 weights alone, each update rounded to a neighbour at random.

    Args:
        device: of the weights.
        seed: of the generator, which is its own: no other random stream is touched.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def publish(self, weights: Tensors, masters: Tensors) -> None:
        """Round at random, and forget what was lost."""
        for weight, master in zip(weights, masters, strict=True):
            weight.copy_(stochastically_rounded(master, self._generator))
        copy_all(weights, into=masters)

    def state(self, weights: Tensors, masters: Tensors) -> dict[str, Any]:
        """The weights and the state of the generator."""
        return {**super().state(weights, masters), "generator": self._generator.get_state()}

    def load(self, state: dict[str, Any], weights: Tensors, masters: Tensors) -> None:
        """The weights and the state of the generator."""
        super().load(state, weights, masters)
        self._generator.set_state(state["generator"].cpu())


class KahanUpdates:
    """FP16 weights with an FP16 compensation c: the value that is updated is ``w - c``.

    For an update u of ``w - c`` in float32, Kahan's sum: ``t = fp16(w - c + u)``,
    ``c = fp16(t - (w - c + u))``, ``w = t``.
    """

    def __init__(self) -> None:
        self._compensations: Tensors = []

    def start(self, weights: Tensors, masters: Tensors) -> None:
        """Begin with the rounded weights, c = 0."""
        copy_all(weights, into=masters)
        self._compensations += [torch.zeros_like(weight) for weight in weights]

    def publish(self, weights: Tensors, masters: Tensors) -> None:
        """Round the masters, and keep what was lost, itself rounded."""
        copy_all(masters, into=weights)
        for weight, master, lost in zip(weights, masters, self._compensations, strict=True):
            # An infinite weight has lost nothing that could be given back.
            lost.copy_(torch.where(weight.isfinite(), weight.float() - master, 0.0))
        self._read(weights, masters)

    def extra_bytes(self, masters: Tensors) -> int:
        """2 bytes for each parameter."""
        return sum(lost.numel() * lost.element_size() for lost in self._compensations)

    def state(self, weights: Tensors, masters: Tensors) -> dict[str, Any]:
        """The weights and their compensations."""
        return {
            "weights": [weight.detach() for weight in weights],
            "compensations": list(self._compensations),
        }

    def load(self, state: dict[str, Any], weights: Tensors, masters: Tensors) -> None:
        """The weights and their compensations."""
        copy_all(state["weights"], into=weights)
        copy_all(state["compensations"], into=self._compensations)
        self._read(weights, masters)

    def _read(self, weights: Tensors, masters: Tensors) -> None:
        for weight, master, lost in zip(weights, masters, self._compensations, strict=True):
            torch.sub(weight.float(), lost.float(), out=master)


def weight_updates(recipe: Recipe, device: torch.device, seed: int) -> WeightUpdates:
    """The way that a recipe with float16 weights asks for.

    Args:
        recipe: one with float16 weights.
        device: of the weights.
        seed: of stochastic rounding, which draws from a generator of its own on the device.
    """
    if recipe.master_weights:
        return KeptMaster()
    if recipe.weight_updates == "stochastic":
        return StochasticUpdates(device, seed)
    return KahanUpdates() if recipe.weight_updates == "kahan" else NearestUpdates()


def stochastically_rounded(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """FP16 values ``lo + ulp * Bernoulli((|x| - lo) / ulp)``, with the sign of x.

    ``lo`` is |x| rounded towards zero to FP16 and ``ulp`` the distance to the next FP16 number,
    2^-24 where FP16 is subnormal. So the mean is x: to 2^-24 ulp where x is below 2^-14, exactly
    above. A value that FP16 has is kept. NaN, infinities and magnitudes above 65504 are rounded to
    nearest: there is no finite neighbour above.

    Args:
        values: float32, any shape.
        generator: of the same device; one number is drawn for each value.

    Returns:
        float16.
    """
    magnitude = values.detach().abs()
    octave = magnitude.view(torch.int32).bitwise_and(0x7F800000).view(torch.float32)
    ulp = (octave * 2.0**-10).clamp_(min=2.0**-24)
    steps = magnitude / ulp
    low = steps.floor()
    chance = torch.rand(values.shape, generator=generator, device=values.device)
    rounded = torch.copysign((low + (chance < steps - low)) * ulp, values)
    return torch.where(magnitude <= FP16.max_finite, rounded, values.detach()).half()


def copy_all(values: Tensors, into: Tensors) -> None:
    """Copy each tensor into its counterpart, with rounding to nearest even where it narrows.

    Raises:
        UsageError: they do not match in number or shape.
    """
    if [value.shape for value in values] != [target.shape for target in into]:
        raise UsageError("the saved weights do not have the shapes of the model's")
    if into:
        torch._foreach_copy_(into, values)
