"""MixedPrecision: the engine that trains a model by a Recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from os import PathLike
from types import TracebackType
from typing import Any

import torch
from torch import nn

from precscope.recipe import Recipe
from precscope.training.assembly import make_parts, make_scaling, parameter_names
from precscope.training.batch_statistics import BatchStatistics
from precscope.training.checks import (
    check_optimizers,
    check_parameters,
    check_scalar,
    device_of,
    is_distributed,
)
from precscope.training.fp32_modules import Fp32Modules, select_modules, with_submodules
from precscope.training.optimizer_parts import OptimizerParts
from precscope.training.products import forward_in, products_of
from precscope.training.scaling import ScaleChange
from precscope.training.trainer_state import check_identity, identity
from precscope.training.update_cycle import UpdateCycle
from precscope.training.watcher import BackwardWatcher
from precscope.workload.optimizers import Optimizers, named_optimizers


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

    With several optimizers, ``MixedPrecision(model, {"generator": g, "discriminator": d})``, each
    of these methods takes the name of one: ``trainer.step(loss, optimizer="generator")`` gives
    gradients to the parameters of that optimizer only, and moves no others. Without a name it
    means all of them. Each skips for gradients of its own; the one loss scale that they share
    moves at the end of a training step: when all have been updated, when one comes round again,
    or when ``end_step`` says so.

    With float16 weights the model's parameters hold float16 values and float16, scaled gradients
    until ``close``; the optimizer holds the float32 masters instead of them. What ``add_param_group``
    gives to an optimizer later on gets its master at the next use of the trainer.

    Args:
        model: a float32 model, on its device.
        optimizer: its optimizer, or several by name, no parameter in two of them.
        recipe: a name, a Recipe, or the path of a recipe file or ``result.json``.
        run_length: steps of the whole run, if known: a dynamic scale of ours then grows after
            a tenth of it at the latest.
        seed: of stochastic rounding, which draws from a generator of its own.

    Attributes:
        recipe: the Recipe in force.
        simulated: whether FP16 arithmetic is simulated, on a CPU: the numbers are meaningful,
            the speed is not.
        watcher: told before and after each backward, None for nobody.

    Raises:
        UsageError: an unknown recipe; a model without parameters, or with some in half precision or
            not initialised yet; a name in ``fp32_modules`` that the model does not have; an
            optimizer that evaluates the loss itself (L-BFGS); a parameter in two optimizers; complex
            parameters and ``torch.amp.GradScaler``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizers,
        recipe: str | PathLike[str] | Recipe = "paper",
        run_length: int | None = None,
        seed: int = 0,
    ) -> None:
        self.recipe = Recipe.of(recipe)
        self._model = model
        self._device_type = device_of(model).type
        self.simulated = self.recipe.compute_dtype == "float16" and self._device_type == "cpu"
        self.watcher: BackwardWatcher | None = None
        optimizers = named_optimizers(optimizer)
        check_optimizers(optimizers)
        check_parameters(model, optimizers, self.recipe.scaler)
        with products_of(self.recipe, self._device_type):
            pass  # a recipe that this device cannot follow is refused here, not in the first step
        kept = select_modules(model, self.recipe.fp32_modules)
        parts = make_parts(model, optimizers, self.recipe, with_submodules(kept), seed)
        self._parts = OptimizerParts(parts)
        hooked = kept if self.recipe.compute_dtype != "float32" else []
        self._fp32_modules = Fp32Modules(hooked, self._device_type)
        self._statistics = BatchStatistics(model)
        self._names = parameter_names(model, self._parts.all)
        self._scaling = make_scaling(self.recipe, self._names, run_length, self._device_type)
        self._cycle = UpdateCycle(self._parts, self._scaling, self._statistics)

    @property
    def skipped_steps(self) -> int:
        """Updates skipped so far."""
        return self._cycle.skipped_steps

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
        """The first parameter of the last step whose gradient was not finite; None if all were."""
        return self._scaling.overflowed

    def parameters(self, optimizer: str | None = None) -> list[torch.Tensor]:
        """What the optimizer updates: after ``unscale`` their gradients are the true ones.

        Raises:
            UsageError: an unknown optimizer.
        """
        self._adopt()
        return [p for part in self._parts.chosen(optimizer) for p in part.parameters()]

    def weight_bytes(self) -> int:
        """Bytes of the model's parameters, with their master copies or Kahan compensations."""
        own = sum(p.numel() * p.element_size() for p in self._model.parameters())
        return own + sum(part.extra_bytes() for part in self._parts.all)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Context for forward and loss, in training and in evaluation."""
        moves = torch.is_grad_enabled() and self.recipe.loss_scaling.kind != "none"
        kept = self._statistics.kept() if moves else nullcontext()
        with kept, forward_in(self.recipe, self._device_type):
            yield

    def step(self, loss: torch.Tensor, optimizer: str | None = None) -> bool:
        """Backward, unscale, check, and update the weights or skip.

        Gradients of earlier ``backward`` calls since the last update are added to.

        Returns:
            Whether the weights were updated.
        """
        self.backward(loss, optimizer)
        return self.update(optimizer)

    def backward(
        self, loss: torch.Tensor, optimizer: str | None = None, retain_graph: bool = False
    ) -> None:
        """Scale the loss and add its gradients to those of earlier calls.

        Any other gradients, as a ``backward`` that raised leaves them, are cleared by the first
        call after an update. Gradients of micro-batches are summed in float32, in the masters'
        gradients. Where the recipe accumulates in FP16, and in a distributed run, they are summed
        in float16, in those of the weights.

        Args:
            loss: a scalar.
            optimizer: whose parameters get gradients; None for all.
            retain_graph: keep what forward saved, for a second loss of the same forward.

        Raises:
            UsageError: the loss has more than one element; an unknown optimizer, or one with
                nothing to train; gradients are unscaled already.
        """
        check_scalar(loss)
        self._adopt()
        parts = self._parts.chosen(optimizer)
        for part in parts:
            part.check_scaled()
        if any(part.has_stepped for part in parts):
            self.end_step()
        for part in parts:
            if not part.backwards:
                part.clear()
        if self._sums_in_float32():
            for part in parts:
                part.make_room()
        inputs = self._parts.inputs(optimizer)
        if self.watcher is not None:
            self.watcher.before_backward()
        with products_of(self.recipe, self._device_type):
            self._scaling.scale(loss).backward(retain_graph=retain_graph, inputs=inputs)
        for part in parts:
            part.backwards += 1
        if self.watcher is not None:
            self.watcher.after_backward()

    def unscale(self, optimizer: str | None = None) -> None:
        """Put true gradients, in float32, on ``parameters()``. Once, after the last backward.

        Gradients that are not finite stay so, and ``update`` skips.

        Raises:
            UsageError: it was called already since the last ``update``; an unknown optimizer.
        """
        self._adopt()
        self._cycle.unscale(optimizer)

    def update(self, optimizer: str | None = None) -> bool:
        """Update the weights, or skip if a gradient is not finite; clear all gradients.

        Returns:
            Whether the weights were updated; of several optimizers, whether all were.

        Raises:
            UsageError: the float16 gradients of the model were changed after ``unscale``: the
                optimizer does not read them.
        """
        self._adopt()
        return self._cycle.update(optimizer)

    def end_step(self) -> None:
        """End a training step: the loss scale moves by what its updates found.

        Called by itself when every optimizer was updated, or one comes round again; call it where
        a training step updates some of several optimizers only. Does nothing a second time.

        Raises:
            UsageError: an optimizer has gradients that no ``update`` has used yet.
        """
        self._cycle.end_step()

    def state_dict(self) -> dict[str, Any]:
        """Masters, loss scale, optimizer state and step counts, for ``torch.save``.

        Save the model's own ``state_dict()`` beside it: it has the buffers and the parameters that
        the optimizer does not hold; and the random state, if forward draws from it. Tensors are
        not copied. Readable with ``torch.load(..., weights_only=True)``.

        Raises:
            UsageError: between ``backward`` and ``update``: gradients are not saved; or when only
                some of several optimizers were updated, and ``end_step`` was not called.
        """
        return {**self._identity(), **self._cycle.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on, to the bit, as the trainer that gave ``state`` would have.

        Call it on a new trainer of the same recipe, model and optimizer, after loading the model's
        own ``state_dict()``. Learning rates come from the state, as with an optimizer's.

        Raises:
            UsageError: a state of another recipe, model or optimizer, or none at all.
        """
        self._cycle.load_state_dict(check_identity(state, self._identity()))

    def close(self) -> None:
        """Give the model its float32 weights back and remove every hook.

        Parameters that the optimizer does not hold keep the values that FP16 rounded.
        """
        self._fp32_modules.remove()
        self._statistics.drop()
        for part in self._parts.all:
            part.restore()

    def __enter__(self) -> MixedPrecision:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _adopt(self) -> None:
        # The optimizers may have been given further parameters by add_param_group.
        for part in self._parts.all:
            self._names.update(part.adopt())

    def _sums_in_float32(self) -> bool:
        # DDP reduces what it finds on the weights when the last micro-batch is done: all of it
        # has to be there.
        return self.recipe.accumulation == "fp32" and not is_distributed()

    def _identity(self) -> dict[str, Any]:
        self._adopt()
        names = parameter_names(self._model, self._parts.all)
        return identity(self.recipe, self._parts.by_name, names)
