from __future__ import annotations

from typing import Any

import pytest

from precscope.training.cuda_precision import (
    cuda_precision,
    float32_accumulation,
    float32_products,
    switches,
)


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
