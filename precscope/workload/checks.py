"""Checks of a session before anything is measured: is it sound in FP32, is it repeatable."""

from __future__ import annotations

import itertools
import math

import torch

from precscope.errors import WorkloadError
from precscope.workload.batch import tensors_in
from precscope.workload.randomness import capture, restore
from precscope.workload.session import Session
from precscope.workload.workload import Workload

BATCHES_COMPARED = 2


def check_first_loss(session: Session) -> float:
    """Loss of the first batch, after a look at its gradients: both must be finite in FP32.

    Takes one forward and backward pass of a new session and undoes them: buffers (BatchNorm's
    running statistics) and random stream are put back, gradients are None.

    Raises:
        WorkloadError: the loss or a gradient is NaN or infinite, so that half precision is not to
            blame for it; no parameter has a gradient; or the model file breaks its contract or raises.
    """
    state = capture(session.device)
    buffers = [(buffer, buffer.clone()) for buffer in session.model.buffers()]
    try:
        return _finite_first_loss(session)
    finally:
        restore(state, session.device)
        session.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def check_evaluation(workload: Workload, seed: int, device: str) -> None:
    """Call ``evaluate`` once, on an untrained model that is thrown away; nothing without one.

    Its first real call comes after a whole training, which its fault would cost.

    Raises:
        WorkloadError: it returns anything but a dict of numbers, or raises.
    """
    if workload.evaluate is not None:
        workload.session(seed, device).evaluate()


def check_batches_repeat(session: Session) -> None:
    """The first batches of the seed are the same every time.

    Recipes are compared on the same batches, which fails if ``batches()`` draws from a generator
    that outlives the call. One pass goes first, so that what the file caches is there for both
    passes that are compared.

    Raises:
        WorkloadError: two passes under the same seed differ.
    """
    _first_tensors(session)
    if not _same(_first_tensors(session), _first_tensors(session)):
        raise WorkloadError(
            f"{session.workload.path.name}: batches() gives other batches when called again under"
            " the same seed: create its generators and iterators inside it"
        )


def _finite_first_loss(session: Session) -> float:
    file = session.workload.path.name
    loss = session.loss(next(session.batches()))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise WorkloadError(
            f"{file}: the loss is {value} at step 0 in FP32, before any half precision:"
            " look for NaN in the batch, log(0) or a division by zero"
        )
    source = "loss()" if session.workload.step is None else "step()"
    with session.workload.calling(f"backward of {source}"):
        loss.backward()
    if all(parameter.grad is None for parameter in session.model.parameters()):
        raise WorkloadError(
            f"{file}: {source} gives no parameter of the model a gradient: compute it from the"
            " model that it is given"
        )
    for name, parameter in session.model.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            raise WorkloadError(
                f"{file}: the gradient of {name} is not finite at step 0 in FP32:"
                " look for sqrt(0), log(0) or a division by zero in the loss"
            )
    return value


def _first_tensors(session: Session) -> list[torch.Tensor]:
    batches = itertools.islice(session.batches(), BATCHES_COMPARED)
    return [tensor.clone() for batch in batches for tensor in tensors_in(batch)]


def _same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    pairs = itertools.zip_longest(first, second)
    return all(a is not None and b is not None and _equal(a, b) for a, b in pairs)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all())
