"""Scatters: gradients of embeddings and of indexing, where many rows add into one.

The length is the number of values that the most-hit element receives; the sampled elements are the
most-hit ones, because there the sum is longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from precscope.probes.accumulation.call import Call
from precscope.probes.accumulation.facts import Reduction
from precscope.probes.accumulation.gather import MOST_ADDENDS, SAMPLES, fp16
from precscope.probes.accumulation.native import Measure, half_operator

Index = torch.Tensor


def embedding(call: Call) -> Iterator[Reduction]:
    """``embedding_dense_backward``: one row per word, added up where the word occurs."""
    gradient, words = call.tensor("grad_output"), call.tensor("indices").reshape(-1)
    rows = gradient.reshape(-1, gradient.shape[-1])
    ignored = int(call.get("padding_idx", -1))
    yield from _rows(call, rows, words, ignored, half_operator(call, "grad_output"))


def embedding_bag(call: Call) -> Iterator[Reduction]:
    """``_embedding_bag_dense_backward``: the gradient of a bag goes to each of its words."""
    bags, words = call.tensor("grad"), call.tensor("indices").reshape(-1)
    bag_of_word = call.tensor("offset2bag").reshape(-1)
    if len(bag_of_word) != len(words) or int(call.get("mode", 0)) == 2:
        return
    rows = bags[bag_of_word.long()]
    if int(call.get("mode", 0)) == 1:
        rows = rows / call.tensor("bag_size")[bag_of_word.long()].clamp_min(1)[:, None]
    ignored = int(call.get("padding_idx", -1))
    yield from _rows(call, rows, words, ignored, half_operator(call, "grad"))


def _rows(
    call: Call, rows: torch.Tensor, words: Index, ignored: int, native: Measure | None
) -> Iterator[Reduction]:
    known = words[words != ignored] if ignored >= 0 else words
    if not known.numel() or not rows.numel():
        return
    counts = torch.bincount(known)
    length, width = int(counts.max()), rows.shape[1]
    columns = torch.arange(min(width, SAMPLES), device=rows.device)
    top = counts.topk(min(len(counts), -(-SAMPLES // len(columns)))).indices

    def addends() -> torch.Tensor:
        deepest = min(length, MOST_ADDENDS // SAMPLES)
        parts = [_padded(rows[words == word][:, columns], deepest) for word in top]
        return fp16(torch.cat(parts, 1), call.scale)

    yield Reduction("weight gradient", "scatter", length, addends, native=native)


def _padded(rows: torch.Tensor, length: int) -> torch.Tensor:
    """Rows as float32 in a table of ``length`` rows; a zero more changes no sum."""
    kept = rows[:length].detach().float()
    return torch.nn.functional.pad(kept, (0, 0, 0, length - len(kept)))


def index_add(call: Call) -> Iterator[Reduction]:
    """``index_add``: slices of the source added at the named places of one dimension."""
    target, index, source = call.tensor("self"), call.tensor("index"), call.tensor("source")
    dim = int(call.get("dim", 0)) % max(target.dim(), 1)
    yield from _elements(
        call, target, source, lambda numbers: numbers.index_select(dim, index), "source"
    )


def index_put(call: Call) -> Iterator[Reduction]:
    """``index_put`` that accumulates: the gradient of advanced indexing."""
    if not call.get("accumulate", False):
        return
    target, values = call.tensor("self"), call.tensor("values")
    index = tuple(slice(None) if i is None else i for i in call.get("indices", ()))
    yield from _elements(call, target, values, lambda numbers: numbers[index], "values")


def scatter_add(call: Call) -> Iterator[Reduction]:
    """``scatter_add``: the gradient of ``gather``."""
    target, index, source = call.tensor("self"), call.tensor("index"), call.tensor("src")
    dim = int(call.get("dim", 0))
    if target.dim() == 0 or index.shape != source.shape:
        return
    yield from _elements(call, target, source, lambda numbers: numbers.gather(dim, index), "src")


def put(call: Call) -> Iterator[Reduction]:
    """``put`` that accumulates: the gradient of ``take``."""
    if not call.get("accumulate", False):
        return
    target, index, source = call.tensor("self"), call.tensor("index"), call.tensor("source")
    yield from _elements(call, target, source, lambda numbers: numbers.reshape(-1)[index], "source")


def max_pool_backward(call: Call) -> Iterator[Reduction]:
    """``max_pool2d_with_indices_backward``: overlapping windows that share their maximum."""
    gradient, index, x = call.tensor("grad_output"), call.tensor("indices"), call.tensor("self")
    inner = index.dim() - (2 if "2d" in call.operator else 3)

    def places(numbers: Index) -> Index:
        return numbers.flatten(inner).gather(-1, index.flatten(inner)).view(index.shape)

    yield from _elements(call, x, gradient, places, "grad_output")


def _elements(
    call: Call,
    target: torch.Tensor,
    values: torch.Tensor,
    select: Callable[[Index], Index],
    gradient: str,
) -> Iterator[Reduction]:
    if not values.is_floating_point() or not values.numel() or not target.numel():
        return
    numbers = torch.arange(target.numel(), device=target.device).view(target.shape)
    where = select(numbers)
    spread = values.expand(where.shape) if values.shape != where.shape else values
    counts = torch.bincount(where.reshape(-1), minlength=target.numel())
    length = int(counts.max())
    yield Reduction(
        _operation(call),
        "scatter",
        length,
        lambda: fp16(_most_hit(where.reshape(-1), spread.reshape(-1), counts), call.scale),
        native=half_operator(call, gradient),
    )


def _operation(call: Call) -> str:
    if call.is_backward and call.origin is not None:
        return f"gradient of {call.origin.label}"
    return call.label(call.operator.strip("_"))


def _most_hit(where: Index, values: torch.Tensor, counts: Index) -> torch.Tensor:
    """The values that fall on each of the most-hit elements, in their order, (K, m)."""
    top = counts.topk(min(SAMPLES, len(counts)))
    chosen = torch.full_like(counts, -1)
    chosen[top.indices] = torch.arange(len(top.indices), device=counts.device)
    sample = chosen[where]
    at = (sample >= 0).nonzero()[:, 0]
    at = at[sample[at].argsort(stable=True)]
    sizes = top.values.clamp_min(0)
    first = sizes.cumsum(0) - sizes
    column = sample[at]
    row = torch.arange(len(at), device=at.device) - first[column]
    table = torch.zeros(int(sizes.max()), len(sizes), device=values.device)
    table[row, column] = values.detach()[at].float()
    return table[: max(1, MOST_ADDENDS // len(sizes))]
