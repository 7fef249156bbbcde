"""All quantities by name, and the words that qualify them."""

from __future__ import annotations

from precscope.facts import GRADIENT_KINDS, SITE_KINDS
from precscope.formats import FORMATS
from precscope.rules.findings import finding_quantities
from precscope.rules.model import model_quantities
from precscope.rules.quantity import Quantity
from precscope.rules.runs import run_quantities
from precscope.rules.sites import site_quantities
from precscope.rules.weights import weight_quantities

QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantities in (
        site_quantities(),
        model_quantities(),
        weight_quantities(),
        run_quantities(),
        finding_quantities(),
    )
    for quantity in quantities
}

FORMAT_WORDS: tuple[str, ...] = tuple(FORMATS)

KIND_WORDS: dict[str, frozenset[str]] = {
    **{kind: frozenset({kind}) for kind in SITE_KINDS},
    "gradient": frozenset(GRADIENT_KINDS),
    "forward": frozenset(SITE_KINDS) - frozenset(GRADIENT_KINDS),
}

UNSCALED = "unscaled"
ADVISED_SCALE = "advised"
EVERYTHING = "all"
