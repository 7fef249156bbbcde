"""A small convolutional network with batch normalisation on scikit-learn's 8x8 digits.

What half precision does to it: almost nothing. At a normal learning rate the gradients lie well
inside FP16's range, and label smoothing keeps them there once the network is sure of itself. So it
trains like FP32 without loss scaling, as the classification networks of the mixed precision paper
do. The gradients of a ReLU network still differ from FP32's by a per cent or two at every loss
scale, where rounding moves a value across zero; that is the floor, and it does no harm.

Train it plainly with ``python examples/digits_cnn.py``, or ask first with
``precscope analyze examples/digits_cnn.py``.
"""

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

BATCH = 64
TEST_DIGITS = 360


@cache
def digits():
    """Images (N, 1, 8, 8) from 0 to 1 and labels, shuffled once: first the test, then the rest."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit("the digits come with scikit-learn: pip install scikit-learn") from None
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    return images[order], torch.tensor(data.target)[order]


def model():
    def block(inputs, outputs, stride):
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

    return nn.Sequential(
        block(1, 16, stride=1),
        block(16, 32, stride=2),
        block(32, 64, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def batches():
    """One shuffled epoch."""
    images, labels = (part[TEST_DIGITS:] for part in digits())
    for rows in torch.randperm(len(labels)).split(BATCH):
        yield images[rows], labels[rows]


def loss(model, batch):
    images, labels = batch
    return F.cross_entropy(model(images), labels, label_smoothing=0.1)


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def evaluate(model):
    device = next(model.parameters()).device
    images, labels = (part[:TEST_DIGITS].to(device) for part in digits())
    return {"accuracy": (model(images).argmax(1) == labels).float().mean().item()}


def main():
    torch.manual_seed(0)
    net = model()
    steps = optimizer(net)
    for epoch in range(10):
        net.train()
        for batch in batches():
            value = loss(net, batch)
            steps.zero_grad()
            value.backward()
            steps.step()
        net.eval()
        with torch.no_grad():
            print(f"epoch {epoch}  loss {value.item():.4f}  {evaluate(net)}")


if __name__ == "__main__":
    main()
