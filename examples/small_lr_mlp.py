"""A three-layer perceptron on scikit-learn's digits, at a small learning rate.

What half precision does to it: FP16 weights swallow the updates. At a learning rate of 0.001 most
updates are smaller than half the distance between a weight and the next FP16 number, so adding
them changes nothing, and the network learns markedly slower. No loss scale helps, since it is the
addition that loses the bits; FP32 master weights do. Schedules that decay the learning rate end
in the same place.

Train it plainly with ``python examples/small_lr_mlp.py``, or ask first with
``precscope analyze examples/small_lr_mlp.py``.
"""

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

BATCH = 64
TEST_DIGITS = 360
LEARNING_RATE = 1e-3


@cache
def digits():
    """Centred pixels (N, 64) and labels, shuffled once: first the test, then the rest."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit("the digits come with scikit-learn: pip install scikit-learn") from None
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    pixels = (torch.tensor(data.data, dtype=torch.float32) - 5) / 4  # 0..16, mean 5
    return pixels[order], torch.tensor(data.target)[order]


def model():
    return nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def batches():
    """One shuffled epoch."""
    pixels, labels = (part[TEST_DIGITS:] for part in digits())
    for rows in torch.randperm(len(labels)).split(BATCH):
        yield pixels[rows], labels[rows]


def loss(model, batch):
    pixels, labels = batch
    return F.cross_entropy(model(pixels), labels)


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)


def evaluate(model):
    device = next(model.parameters()).device
    pixels, labels = (part[:TEST_DIGITS].to(device) for part in digits())
    return {"accuracy": (model(pixels).argmax(1) == labels).float().mean().item()}


def main():
    torch.manual_seed(0)
    net = model()
    steps = optimizer(net)
    for epoch in range(65):
        for batch in batches():
            value = loss(net, batch)
            steps.zero_grad()
            value.backward()
            steps.step()
        if epoch % 8 == 0:
            with torch.no_grad():
                print(f"epoch {epoch}  loss {value.item():.4f}  {evaluate(net)}")


if __name__ == "__main__":
    main()
