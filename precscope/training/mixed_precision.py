"""MixedPrecision: the engine that trains a model by a Recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from types import TracebackType
from typing import Any

import torch
from torch import nn

from precscope.errors import UsageError
from precscope.recipe import Recipe
from precscope.training.batch_statistics import BatchStatistics
from precscope.training.checks import check_optimizer, device_of, is_distributed
from precscope.training.fp32_modules import Fp32Modules, select_modules, with_submodules
from precscope.training.gradient_scaling import (
    UNNAMED,
    CheckedScaling,
    GradientScaling,
    NoScaling,
    TorchScaling,
)
from precscope.training.gradients import optimizer_parameters
from precscope.training.master_weights import MasterWeights
from precscope.training.products import forward_in, products_of
from precscope.training.scaling import LossScaler, ScaleChange
from precscope.training.trainer_state import check_identity, identity
from precscope.training.weight_updates import weight_updates


class MixedPrecision:
    """Train a model by a recipe.

    ::

        trainer = MixedPrecision(model, optimizer, recipe="paper")
        for x, y in batches:
            with trainer.autocast():
                loss = loss_fn(model(x), y)
            trainer.step(loss)
        trainer.close()

    In place of ``step``, ``backward`` (once per micro-batch), ``unscale`` and ``update`` may be
    called in this order, with anything that needs true gradients before ``update``:
    ``torch.nn.utils.clip_grad_norm_(trainer.parameters(), 1.0)``.

    A step is skipped when the loss is scaled and a gradient is not finite. It leaves weights,
    optimizer state and the running statistics of normalisation layers as they were; advance a
    learning rate schedule only when ``step`` or ``update`` returned True.

    With float16 weights the model's parameters hold float16 values and float16, scaled gradients
    until ``close``; the optimizer holds the float32 masters instead of them.

    Args:
        model: a float32 model, on its device.
        optimizer: its optimizer.
        recipe: a name, a Recipe, or the path of a recipe file or ``result.json``.
        run_length: steps of the whole run, if known: a dynamic scale of ours then grows after
            a tenth of it at the latest.
        seed: of stochastic rounding, which draws from a generator of its own.

    Attributes:
        recipe: the Recipe in force.
        skipped_steps: steps skipped so far.
        simulated: whether FP16 arithmetic is simulated, on a CPU: the numbers are meaningful,
            the speed is not.

    Raises:
        UsageError: an unknown recipe, a model without parameters or with float16 ones, a name in
            ``fp32_modules`` that the model does not have, an optimizer that evaluates the loss
            itself (L-BFGS).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: str | PathLike[str] | Recipe = "paper",
        run_length: int | None = None,
        seed: int = 0,
    ) -> None:
        self.recipe = Recipe.of(recipe)
        self._model = model
        self._optimizer = optimizer
        self._device_type = device_of(model).type
        self.simulated = self.recipe.compute_dtype == "float16" and self._device_type == "cpu"
        self.skipped_steps = 0
        self._backwards = 0
        self._unscaled_versions: dict[str, int] | None = None
        check_optimizer(optimizer)
        with products_of(self.recipe, self._device_type):
            pass  # a recipe that this device cannot follow is refused here, not in the first step
        kept = select_modules(model, self.recipe.fp32_modules)
        self._masters = self._make_masters(kept, seed)
        hooked = kept if self.recipe.compute_dtype != "float32" else []
        self._fp32_modules = Fp32Modules(hooked, self._device_type)
        self._statistics = BatchStatistics(model)
        self._scaling = self._make_scaling(run_length)

    @property
    def log2_scale(self) -> float | None:
        """Loss scale of the next backward, log2; None without loss scaling."""
        return self._scaling.log2_scale

    @property
    def scale_changes(self) -> list[ScaleChange]:
        """Every change of the loss scale, with the gradient that caused it."""
        return self._scaling.changes

    @property
    def overflowed(self) -> str | None:
        """After a skipped step, the first parameter whose gradient was not finite; else None."""
        return self._scaling.overflowed

    def parameters(self) -> list[torch.Tensor]:
        """What the optimizer updates: after ``unscale`` their gradients are the true ones."""
        return list(optimizer_parameters(self._optimizer))

    def weight_bytes(self) -> int:
        """Size of the model's parameters, with their master copies or Kahan compensations."""
        own = sum(p.numel() * p.element_size() for p in self._model.parameters())
        return own + (self._masters.extra_bytes() if self._masters else 0)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Context for forward and loss, in training and in evaluation."""
        if torch.is_grad_enabled() and self.recipe.loss_scaling.kind != "none":
            self._statistics.take()
        with forward_in(self.recipe, self._device_type):
            yield

    def step(self, loss: torch.Tensor) -> bool:
        """Backward, unscale, check, and update the weights or skip.

        Gradients of earlier ``backward`` calls since the last update are added to; any other
        gradients are cleared first.

        Returns:
            Whether the weights were updated.
        """
        if not self._backwards:
            self._clear_gradients()
        self.backward(loss)
        return self.update()

    def backward(self, loss: torch.Tensor) -> None:
        """Scale the loss and add its gradients to those of earlier calls.

        Gradients of micro-batches are summed in float32, in the masters' gradients. Where the
        recipe accumulates in FP16, and in a distributed run, they are summed in float16, in
        those of the weights.

        Raises:
            UsageError: the loss has more than one element.
        """
        if loss.numel() != 1:
            shape = tuple(loss.shape)
            raise UsageError(f"the loss must be a scalar, not of shape {shape}: reduce it first")
        if self._backwards and self._masters and self._sums_in_float32():
            self._masters.take_gradients()
            self._masters.drop_weight_gradients()
        with products_of(self.recipe, self._device_type):
            self._scaling.scale(loss).backward()
        self._backwards += 1

    def unscale(self) -> None:
        """Put true gradients, in float32, on ``parameters()``. Once, after the last backward."""
        if self._unscaled_versions is not None:
            raise UsageError("unscale() was called already: update() has to follow")
        if self._masters:
            self._masters.take_gradients()
        self._scaling.unscale()
        self._unscaled_versions = self._weight_gradient_versions()

    def update(self) -> bool:
        """Update the weights, or skip if a gradient is not finite; clear all gradients.

        Returns:
            Whether the weights were updated.

        Raises:
            UsageError: the float16 gradients of the model were changed after ``unscale``: the
                optimizer does not read them.
        """
        if self._unscaled_versions is None:
            self.unscale()
        if self._unscaled_versions != self._weight_gradient_versions():
            raise UsageError(
                "a float16 gradient was changed after unscale(), to no effect: "
                "clip trainer.parameters() in place of model.parameters()"
            )
        updated = self._scaling.step()
        if updated and self._masters:
            self._masters.publish()
        if not updated:
            self._statistics.restore()
            self.skipped_steps += 1
        self._finish_step()
        return updated

    def state_dict(self) -> dict[str, Any]:
        """Masters, loss scale, optimizer state and step counts, for ``torch.save``.

        Save the model's own ``state_dict()`` beside it: it has the buffers and the parameters that
        the optimizer does not hold; and the random state, if forward draws from it. Tensors are
        not copied. Readable with ``torch.load(..., weights_only=True)``.

        Raises:
            UsageError: between ``backward`` and ``update``: gradients are not saved.
        """
        if self._backwards or self._unscaled_versions is not None:
            raise UsageError("state_dict() between backward() and update(): call it after update()")
        return {
            **self._identity(),
            "optimizer": self._optimizer.state_dict(),
            "scaling": self._scaling.state_dict(),
            "weights": self._masters.state_dict() if self._masters else {},
            "skipped_steps": self.skipped_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, to the bit, as the trainer that gave ``state`` would have.

        Call it on a new trainer of the same recipe, model and optimizer, after loading the model's
        own ``state_dict()``. Learning rates come from the state, as with an optimizer's.

        Raises:
            UsageError: a state of another recipe, model or optimizer, or none at all.
        """
        values = check_identity(state, self._identity())
        self._optimizer.load_state_dict(values["optimizer"])
        self._scaling.load_state_dict(values["scaling"])
        if self._masters:
            self._masters.load_state_dict(values["weights"])
        self.skipped_steps = values["skipped_steps"]
        self._finish_step()

    def close(self) -> None:
        """Give the model its float32 weights back and remove every hook.

        Parameters that the optimizer does not hold keep the values that FP16 rounded.
        """
        self._fp32_modules.remove()
        self._statistics.drop()
        if self._masters:
            self._masters.restore()
            self._masters = None

    def __enter__(self) -> MixedPrecision:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _identity(self) -> dict[str, Any]:
        names, held = self._names(), self.parameters()
        labels = [names.get(id(p), UNNAMED) for p in held]
        return identity(self.recipe, self._optimizer, labels, [p.shape for p in held])

    def _make_masters(self, kept: list[nn.Module], seed: int) -> MasterWeights | None:
        if self.recipe.weights_dtype == "float32":
            return None
        updates = weight_updates(self.recipe, device_of(self._model), seed)
        return MasterWeights(self._model, self._optimizer, with_submodules(kept), updates)

    def _make_scaling(self, run_length: int | None) -> GradientScaling:
        scaling = self.recipe.loss_scaling
        if self.recipe.scaler == "torch":
            return TorchScaling(self._optimizer, self._names(), scaling, self._device_type)
        if self.recipe.scaler == "precscope":
            return CheckedScaling(self._optimizer, self._names(), LossScaler(scaling, run_length))
        return NoScaling(self._optimizer)

    def _sums_in_float32(self) -> bool:
        # DDP reduces what it finds on the weights when the last micro-batch is done: all of it
        # has to be there.
        return self.recipe.accumulation == "fp32" and not is_distributed()

    def _names(self) -> dict[int, str]:
        names = {id(p): name for name, p in self._model.named_parameters()}
        masters = self._masters.pairs if self._masters else []
        return names | {id(pair.master): pair.name for pair in masters}

    def _weight_gradient_versions(self) -> dict[str, int]:
        pairs = self._masters.pairs if self._masters else []
        grads = ((pair.name, pair.weight.grad) for pair in pairs)
        return {name: grad._version for name, grad in grads if grad is not None}

    def _clear_gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        if self._masters:
            self._masters.clear_gradients()

    def _finish_step(self) -> None:
        self._clear_gradients()
        self._statistics.drop()
        self._backwards = 0
        self._unscaled_versions = None
        # Inside an autocast region of the user's own, casts of the old weights are still cached.
        torch.clear_autocast_cache()
