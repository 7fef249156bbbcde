"""A recipe as Python to paste into a training script."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precscope.recipe.recipe import Recipe

_PLAIN_LOOP = """\
for batch in batches:
    loss = loss_fn(model, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

_AUTOCAST_LOOP = """\
for batch in batches:
    with torch.autocast(device, dtype=torch.{dtype}):
        loss = loss_fn(model, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

_SCALED_LOOP = """\
scaler = torch.amp.GradScaler(device, {arguments})
for batch in batches:
    with torch.autocast(device, dtype=torch.{dtype}):
        loss = loss_fn(model, batch)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)  # gradient clipping, if any, goes after this line
    scaler.step(optimizer)
    scaler.update()
"""

_FP32_MODULES = """\
def in_float32(x):
    return x.float() if torch.is_tensor(x) and x.is_floating_point() else x

def run_in_float32(module):
    forward = module.forward
    def wrapped(*args, **kwargs):
        with torch.autocast(device, enabled=False):
            return forward(*map(in_float32, args), **{{k: in_float32(v) for k, v in kwargs.items()}})
    module.forward = wrapped

for name, module in list(model.named_modules()):
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in {patterns}):
        run_in_float32(module)
"""

_TRAINER_LOOP = """\
trainer = MixedPrecision(model, optimizer, recipe={recipe})
for batch in batches:
    with trainer.autocast():
        loss = loss_fn(model, batch)
    trainer.step(loss)
"""

NEVER_GROWS = 2**31 - 1
"""A growth interval for ``GradScaler`` that no run reaches: the scale then only falls."""


def recipe_code(recipe: Recipe, is_named: bool) -> str:
    """A training loop that follows ``recipe``; plain PyTorch where PyTorch can do it.

    The script's own ``model``, ``optimizer``, ``batches``, ``loss_fn(model, batch)`` and ``device``
    ("cpu" or "cuda") are used by these names.
    """
    if recipe.weights_dtype == "float16" or recipe.accumulation == "fp16":
        return _trainer_code(recipe, is_named)
    if recipe.compute_dtype == "float32":
        return _plain_code(recipe)
    loop = _AUTOCAST_LOOP if recipe.loss_scaling.kind == "none" else _SCALED_LOOP
    loop = loop.format(dtype=recipe.compute_dtype, arguments=_scaler_arguments(recipe))
    if not recipe.fp32_modules:
        return f"import torch\n\n{loop}"
    patterns = _FP32_MODULES.format(patterns=list(recipe.fp32_modules))
    return f"import fnmatch\n\nimport torch\n\n{patterns}\n{loop}"


def _plain_code(recipe: Recipe) -> str:
    precision = "high" if recipe.tf32 else "highest"
    return (
        "import torch\n\n"
        f'torch.set_float32_matmul_precision("{precision}")\n'
        f"torch.backends.cudnn.allow_tf32 = {recipe.tf32}\n{_PLAIN_LOOP}"
    )


def _scaler_arguments(recipe: Recipe) -> str:
    scaling = recipe.loss_scaling
    interval = scaling.growth_interval if scaling.kind == "dynamic" else NEVER_GROWS
    return f"init_scale=2.0**{scaling.log2_initial}, growth_interval={interval}"


def _trainer_code(recipe: Recipe, is_named: bool) -> str:
    if is_named:
        loop = _TRAINER_LOOP.format(recipe=f'"{recipe.name}"')
        return f"from precscope.training import MixedPrecision\n\n{loop}"
    written = _constructor(recipe, lines=True)
    names = "LossScaling, " if "LossScaling(" in written else ""
    loop = f"recipe = {written}\n{_TRAINER_LOOP.format(recipe='recipe')}"
    return f"from precscope.training import {names}MixedPrecision, Recipe\n\n{loop}"


def _constructor(value: Any, lines: bool = False) -> str:
    """``Recipe(...)`` or ``LossScaling(...)`` with the fields that differ from their defaults.

    Args:
        value: the recipe or its scaling.
        lines: whether each field has a line of its own.
    """
    default = type(value)("") if type(value).__name__ == "Recipe" else type(value)()
    arguments = []
    for field in fields(value):
        item = getattr(value, field.name)
        if item != getattr(default, field.name):
            is_fact = hasattr(item, "__dataclass_fields__")
            arguments.append(f"{field.name}={_constructor(item) if is_fact else repr(item)}")
    inside = "".join(f"\n    {a}," for a in arguments) + "\n" if lines else ", ".join(arguments)
    return f"{type(value).__name__}({inside})"
