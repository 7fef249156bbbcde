from __future__ import annotations

from typing import Any

import pytest
import torch

from precscope.recipe import Recipe
from precscope.training.cuda_precision import (
    SPLIT,
    cuda_precision,
    float32_accumulation,
    float32_products,
    half_accumulation,
    has_named_precisions,
    switches,
)
from precscope.training.products import products_of


def current() -> dict[str, Any]:
    return {name: getattr(owner, key) for name, (owner, key) in switches().items()}


def fail_inside(wanted: dict[str, Any]) -> None:
    with cuda_precision(**wanted):
        raise ValueError("mine")


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_set_and_put_back(tf32: bool) -> None:
    before = current()
    with cuda_precision(**float32_products(tf32)):
        inside = current()
    with cuda_precision(**float32_products(not tf32)):
        other = current()
    assert all(inside[name] != other[name] for name in float32_products(tf32))
    assert current() == before


def test_reduced_accumulation_is_switched_off_and_put_back_after_an_exception() -> None:
    before = current()
    with cuda_precision(**float32_accumulation()):
        assert current()["fp16_reduced_reduction"] is False
        assert current().get("fp16_accumulation", False) is False
    with pytest.raises(ValueError, match="mine"):
        fail_inside(float32_accumulation())
    assert current() == before


def older() -> tuple[Any, ...]:
    matmul: Any = torch.backends.cuda.matmul
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        matmul.allow_tf32,
    )


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_older_switches_agree_inside_and_are_what_they_were_outside(
    precision: str, tf32: bool
) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        expected, found = older(), current()
        with cuda_precision(**float32_products(tf32)):
            assert older() == ("high" if tf32 else "highest", tf32, tf32)
        assert (older(), current()) == (expected, found)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not has_named_precisions(), reason="this torch has the older switches only")
def test_a_program_that_mixes_old_and_new_keeps_its_mixture() -> None:
    before = current()
    with cuda_precision(matmul="tf32"), cuda_precision(**float32_accumulation()):
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        mixed = current()
        with cuda_precision(**float32_products(tf32=True)):
            assert current()["matmul"] == "tf32"
        assert current() == mixed
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert current() == before


def test_recurrent_layers_may_take_the_name_of_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "rnn", object(), raising=False)
    before = current()
    with cuda_precision(**float32_products(tf32=False)):
        assert current()["matmul"] == "ieee"
    assert current() == before


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, SPLIT), reason="this torch has one switch of it"
)
def test_both_halves_of_the_reduction_switch_are_restored() -> None:
    matmul: Any = torch.backends.cuda.matmul
    matmul.allow_fp16_reduced_precision_reduction = (False, False)
    try:
        with cuda_precision(**float32_accumulation()):
            assert matmul.allow_fp16_reduced_precision_reduction is False
        assert (matmul.allow_fp16_reduced_precision_reduction, getattr(matmul, SPLIT)) == (
            False,
            False,
        )
    finally:
        matmul.allow_fp16_reduced_precision_reduction = (True, True)


@pytest.mark.parametrize("name", ["fp16", "paper", "paper-no-master", "paper-no-scaling"])
def test_every_recipe_of_float32_sums_has_them_on_cuda(name: str) -> None:
    with cuda_precision(**half_accumulation()):
        with products_of(Recipe.named(name), "cuda"):
            assert {key: current()[key] for key in float32_accumulation()} == float32_accumulation()
        assert current()["fp16_accumulation"] is True
