"""Recipe: how to train, as data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from precscope.errors import UsageError
from precscope.recipe.checked import check_choice, check_names, check_type, known_fields
from precscope.recipe.code import recipe_code
from precscope.recipe.contradictions import contradiction
from precscope.recipe.loss_scaling import LossScaling

RECIPE_SCHEMA = 1
"""Version of the JSON file; any other is refused."""

ComputeDtype = Literal["float32", "bfloat16", "float16"]
WeightsDtype = Literal["float32", "float16"]
Accumulation = Literal["fp32", "fp16"]
WeightUpdates = Literal["nearest", "stochastic", "kahan"]
Scaler = Literal["none", "torch", "precscope"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        name: what reports call it.
        description: one line on what it does.
        compute_dtype: dtype of autocast, which picks the operators that run in it; float32 is no
            autocast at all.
        weights_dtype: dtype of the model's parameters in forward and backward.
        master_weights: with float16 weights, keep a float32 copy for the optimizer to update;
            without it each update is rounded into the float16 weight.
        loss_scaling: see ``LossScaling``.
        accumulation: format in which dot products and sums are accumulated.
        accumulation_block: with FP16 accumulation, terms summed in float32 before each rounding:
            1 for a scalar accumulator, 4, 8 or 16 for tensor cores. Simulated on a CPU; on CUDA
            the hardware has its own.
        fp32_modules: qualified module names, or patterns with ``*``, ``?`` and ``[...]``, that run
            in float32 with float32 weights and inputs.
        scaler: ``"torch"``: ``torch.amp.GradScaler``; ``"precscope"``: ours, which also takes
            float16 gradients; ``"none"``.
        tf32: on CUDA, let float32 products use TF32.
        weight_updates: how float16 weights without a master copy take an update: rounded to
            ``"nearest"``; ``"stochastic"``: to one of the two neighbours, at random, so that the
            mean is right; ``"kahan"``: to nearest, with what was lost kept in a second float16.

    Raises:
        UsageError: a field of another type or with an unknown value, or fields that contradict
            each other; the message says which.
    """

    name: str
    description: str = ""
    compute_dtype: ComputeDtype = "float32"
    weights_dtype: WeightsDtype = "float32"
    master_weights: bool = False
    loss_scaling: LossScaling = field(default_factory=LossScaling)
    accumulation: Accumulation = "fp32"
    fp32_modules: tuple[str, ...] = ()
    scaler: Scaler = "none"
    tf32: bool = False
    accumulation_block: int = 16
    weight_updates: WeightUpdates = "nearest"

    def __post_init__(self) -> None:
        for name, kind in (("name", str), ("description", str), ("loss_scaling", LossScaling)):
            check_type(name, getattr(self, name), kind)
        for name in ("master_weights", "tf32"):
            check_type(name, getattr(self, name), bool)
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        check_names("fp32_modules", self.fp32_modules)
        check_type("accumulation_block", self.accumulation_block, int)
        if problem := contradiction(self):
            raise UsageError(f"recipe {self.name!r}: {problem}")

    @classmethod
    def named(cls, name: str) -> Recipe:
        """The recipe of that name.

        Raises:
            UsageError: there is none; the message lists those that exist.
        """
        from precscope.recipe.named import RECIPES

        try:
            return RECIPES[name.lower()]
        except KeyError:
            choices = ", ".join(RECIPES)
            raise UsageError(f"unknown recipe {name!r}: choose one of {choices}") from None

    @classmethod
    def of(cls, choice: str | PathLike[str] | Recipe) -> Recipe:
        """The recipe itself, the one of that name, or the one in that file.

        A string is a file if it holds a path separator or ends in ``.json``.

        Raises:
            UsageError: see ``named`` and ``load``.
        """
        if isinstance(choice, Recipe):
            return choice
        if isinstance(choice, str) and not _is_path(choice):
            return cls.named(choice)
        if not isinstance(choice, str | PathLike):
            raise UsageError(
                f"recipe is a {type(choice).__name__}: give a name, a Recipe, or a file's path"
            )
        return cls.load(choice)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, with the number of the schema."""
        return {"schema": RECIPE_SCHEMA, **asdict(self), "fp32_modules": list(self.fp32_modules)}

    @classmethod
    def from_dict(cls, values: object) -> Recipe:
        """The recipe that ``to_dict`` described; absent keys but ``name`` take their defaults.

        The key ``code``, which the recipe of a result has beside its fields, is ignored.

        Raises:
            UsageError: an unknown key or value, or another schema.
        """
        if not isinstance(values, dict) or values.get("schema") != RECIPE_SCHEMA:
            raise UsageError(f"a recipe is an object with the key schema: {RECIPE_SCHEMA}")
        known = known_fields(cls, {k: v for k, v in values.items() if k not in ("schema", "code")})
        known["loss_scaling"] = LossScaling(
            **known_fields(LossScaling, known.get("loss_scaling", {}))
        )
        modules = known.get("fp32_modules", ())
        known["fp32_modules"] = tuple(modules) if isinstance(modules, list) else modules
        return cls(**{"name": None, **known})

    def keeping_fp32(self, *modules: str) -> Recipe:
        """This recipe with further modules (names or patterns) kept in float32."""
        return replace(self, fp32_modules=tuple(dict.fromkeys((*self.fp32_modules, *modules))))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the recipe as JSON.

        Raises:
            UsageError: the file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write the recipe {path}: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Recipe:
        """Read a recipe that ``save`` wrote, or the advised one of a ``result.json``.

        Raises:
            UsageError: the file is missing, is not JSON, or is not a recipe of this schema.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise UsageError(f"{path} is not a recipe: it is not valid JSON") from None
        if isinstance(values, dict) and "recipe" in values and "name" not in values:
            values = values["recipe"]
        try:
            return cls.from_dict(values)
        except UsageError as error:
            raise UsageError(f"{path} is not a usable recipe: {error}") from None

    def code(self) -> str:
        """Python that trains this way, to paste into a training script."""
        from precscope.recipe.named import RECIPES

        return recipe_code(self, is_named=RECIPES.get(self.name) == self)


_CHOICES: dict[str, tuple[str, ...]] = {
    "compute_dtype": get_args(ComputeDtype),
    "weights_dtype": get_args(WeightsDtype),
    "accumulation": get_args(Accumulation),
    "scaler": get_args(Scaler),
    "weight_updates": get_args(WeightUpdates),
}


def _is_path(text: str) -> bool:
    return text.lower().endswith(".json") or any(mark in text for mark in ("/", "\\"))
