from __future__ import annotations

import torch
from torch import nn

from precscope.training.memory import (
    gradient_bytes,
    optimizer_bytes,
    saved_tensors,
    tensor_bytes,
)


def test_saved_tensors_count_each_storage_once_and_no_parameters() -> None:
    model = nn.Linear(8, 4)
    x = torch.randn(16, 8, requires_grad=True)
    with saved_tensors(model) as saved:
        hidden = model(x)  # saves x and the weight
        (hidden * hidden).sum()  # saves hidden twice
    assert saved.bytes == 4 * (16 * 8 + 16 * 4)


def test_a_view_counts_as_its_whole_storage() -> None:
    model = nn.Linear(1, 1)
    x = torch.randn(10, requires_grad=True)
    with saved_tensors(model) as saved:
        x[:2].square().sum()
    assert saved.bytes == 40


def test_counting_does_not_change_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    x = torch.randn(3, 4)
    model(x).sum().backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    with saved_tensors(model):
        loss = model(x).sum()
    loss.backward()
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert grad is not None
        assert torch.equal(parameter.grad, grad)


def test_gradients_and_optimizer_state() -> None:
    model = nn.Linear(3, 2).half()
    assert gradient_bytes(model) == 0
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert gradient_bytes(model) == 2 * 8
    single = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(single.parameters())
    single(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert optimizer_bytes(optimizer) == 4 * (2 * 8 + 2)


def test_one_tensor_given_twice_counts_once_and_a_sparse_one_with_its_indices() -> None:
    x = torch.zeros(5)
    assert tensor_bytes([x, x]) == 20
    sparse = torch.tensor([1.0, 0.0, 2.0, 0.0]).to_sparse()
    assert tensor_bytes([sparse]) == 2 * 4 + 2 * 8
