"""A Recording into TensorBoard: ``write_recording(recording, SummaryWriter(folder))``."""

from __future__ import annotations

from typing import Any

from precscope.integrations.series import Exponents, exponents, scalars
from precscope.recording import Recording


def write_recording(recording: Recording, writer: Any) -> None:
    """Write scalars per step, and per window the histogram of binary exponents.

    Args:
        recording: what ``precscope.watch`` wrote.
        writer: a ``torch.utils.tensorboard.SummaryWriter``; it is left open.
    """
    for scalar in scalars(recording):
        writer.add_scalar(scalar.tag, scalar.value, scalar.step)
    for found in exponents(recording):
        _write(found, writer)


def _write(found: Exponents, writer: Any) -> None:
    # The raw form takes counts as they are; the other one would bin anew. A value stands for
    # its exponent, so the sums are those of the octaves' lower edges.
    lower = found.edges[:-1]
    writer.add_histogram_raw(
        found.tag,
        min=found.edges[0],
        max=found.edges[-1],
        num=sum(found.counts),
        sum=sum(e * n for e, n in zip(lower, found.counts, strict=True)),
        sum_squares=sum(e * e * n for e, n in zip(lower, found.counts, strict=True)),
        bucket_limits=[float(edge) for edge in found.edges[1:]],
        bucket_counts=list(found.counts),
        global_step=found.step,
    )
