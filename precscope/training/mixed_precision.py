"""MixedPrecision: the engine that trains a model by a Recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType

import torch
from torch import nn

from precscope.arithmetic import half_on_cpu
from precscope.errors import UsageError
from precscope.recipe import Recipe
from precscope.training.batch_statistics import BatchStatistics
from precscope.training.cuda_precision import (
    cuda_precision,
    float32_accumulation,
    float32_products,
)
from precscope.training.fp32_modules import Fp32Modules, select_modules, with_submodules
from precscope.training.gradient_scaling import (
    CheckedScaling,
    GradientScaling,
    NoScaling,
    TorchScaling,
)
from precscope.training.gradients import optimizer_parameters
from precscope.training.master_weights import MasterWeights
from precscope.training.scaling import LossScaler, ScaleChange


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
        recipe: a name or a Recipe.
        run_length: steps of the whole run, if known: a dynamic scale of ours then grows after
            a tenth of it at the latest.

    Attributes:
        recipe: the Recipe in force.
        skipped_steps: steps skipped so far.
        simulated: whether FP16 arithmetic is simulated, on a CPU: the numbers are meaningful,
            the speed is not.

    Raises:
        UsageError: an unknown recipe, a model without parameters or with float16 ones, a name in
            ``fp32_modules`` that the model does not have, ``accumulation="fp16"``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: str | Recipe = "paper",
        run_length: int | None = None,
    ) -> None:
        self.recipe = Recipe.named(recipe) if isinstance(recipe, str) else recipe
        self._model = model
        self._optimizer = optimizer
        self._device_type = _device_type(model)
        self.simulated = self.recipe.compute_dtype == "float16" and self._device_type == "cpu"
        self.skipped_steps = 0
        self._backwards = 0
        self._unscaled_versions: dict[str, int] | None = None
        if self.recipe.accumulation == "fp16":
            raise UsageError('accumulation "fp16" cannot be trained with: set it to "fp32"')
        kept = select_modules(model, self.recipe.fp32_modules)
        self._masters = self._make_masters(kept)
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
        """Every change of a loss scale of ours, with the gradient that caused it."""
        return self._scaling.changes

    def parameters(self) -> list[torch.Tensor]:
        """What the optimizer updates: after ``unscale`` their gradients are the true ones."""
        return list(optimizer_parameters(self._optimizer))

    def weight_bytes(self) -> int:
        """Size of the model's parameters and of their float32 master copies, if kept."""
        own = sum(p.numel() * p.element_size() for p in self._model.parameters())
        return own + (self._masters.master_bytes() if self._masters else 0)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Context for forward and loss, in training and in evaluation."""
        if torch.is_grad_enabled() and self.recipe.loss_scaling.kind != "none":
            self._statistics.take()
        with ExitStack() as stack:
            stack.enter_context(self._arithmetic())
            if self.recipe.compute_dtype != "float32":
                stack.enter_context(_without_fused_attention_layers())
                dtype = getattr(torch, self.recipe.compute_dtype)
                stack.enter_context(torch.autocast(self._device_type, dtype=dtype))
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

        Raises:
            UsageError: the loss has more than one element.
        """
        if loss.numel() != 1:
            shape = tuple(loss.shape)
            raise UsageError(f"the loss must be a scalar, not of shape {shape}: reduce it first")
        with self._arithmetic():
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

    def _make_masters(self, kept: list[nn.Module]) -> MasterWeights | None:
        if self.recipe.weights_dtype == "float32":
            return None
        keep = with_submodules(kept)
        return MasterWeights(self._model, self._optimizer, keep, self.recipe.master_weights)

    def _make_scaling(self, run_length: int | None) -> GradientScaling:
        scaling = self.recipe.loss_scaling
        if self.recipe.scaler == "torch":
            return TorchScaling(self._optimizer, scaling, self._device_type)
        if self.recipe.scaler == "precscope":
            return CheckedScaling(self._optimizer, self._names(), LossScaler(scaling, run_length))
        return NoScaling(self._optimizer)

    def _names(self) -> dict[int, str]:
        names = {id(p): name for name, p in self._model.named_parameters()}
        masters = self._masters.pairs if self._masters else []
        return names | {id(pair.master): pair.name for pair in masters}

    def _arithmetic(self) -> AbstractContextManager[None]:
        """How products are computed, in forward and backward."""
        if self.simulated:
            return half_on_cpu()
        if self._device_type != "cuda":
            return nullcontext()
        if self.recipe.compute_dtype == "float32":
            return cuda_precision(**float32_products(self.recipe.tf32))
        is_paper = self.recipe.weights_dtype == "float16"
        return cuda_precision(**float32_accumulation()) if is_paper else nullcontext()

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


def _device_type(model: nn.Module) -> str:
    first = next(model.parameters(), None)
    if first is None:
        raise UsageError("the model has no parameters: there is nothing to train")
    return first.device.type


@contextmanager
def _without_fused_attention_layers() -> Iterator[None]:
    # In evaluation nn.TransformerEncoderLayer calls one fused operator that knows no autocast:
    # it would ignore the recipe, and fails on float16 weights beside a float32 input.
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
