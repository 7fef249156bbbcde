"""The tables of what was observed: sites, their histograms and windows, steps."""

from __future__ import annotations

from typing import Final

from precscope.export.column import Table, integer, real, text, yes_no

SITE: Final = integer("site_id", "", "number of the site, the key to the table sites")
NAME: Final = text("name", "qualified name of the module or parameter")
KIND: Final = text("kind", "activation, activation_gradient, weight or weight_gradient")
STEP: Final = integer("step", "step", "optimizer step, 0 is the first")
FIRST: Final = integer("first_step", "step", "first observed step of the window")
LAST: Final = integer("last_step", "step", "last observed step of the window, inclusive")
AMAX: Final = real("amax", "value", "largest finite magnitude")
FLUSHED: Final = real(
    "flushed_fp16", "fraction", "share of the finite non-zero values at or below 2^-25"
)
L1_FLUSHED: Final = real(
    "l1_flushed_fp16", "fraction", "share of the sum of absolute values that FP16 flushes"
)

SITES: Final = Table(
    "sites",
    "a place in the model where values are stored",
    (
        SITE,
        NAME,
        KIND,
        text("module_type", "class of the module, or of the parameter's owner"),
        text("shape", "shape when first seen, as JSON: [64, 3]"),
        text("dtype", "dtype when first seen"),
        text("autocast_dtype", "dtype in half precision training; missing if not measured"),
        yes_no("at_risk", "whether half precision training stores it in FP16"),
        integer("observations", "tensors", "tensors counted"),
        AMAX,
        real("rms", "value", "root mean square of the finite values"),
        real("sum_abs", "value", "sum of the finite magnitudes"),
        real("zero_fraction", "fraction", "share of exact zeros among all values"),
        FLUSHED,
        real("subnormal_fp16", "fraction", "share that FP16 holds below its smallest normal"),
        real("overflow_fp16", "fraction", "share that is infinite in FP16"),
        L1_FLUSHED,
        integer("zeros", "values", "exact zeros"),
        integer("infinities", "values", "infinities of either sign"),
        integer("nans", "values", "NaNs"),
    ),
)
HISTOGRAMS: Final = Table(
    "histograms",
    "an occupied binary octave of a site, over the whole run",
    (
        SITE,
        NAME,
        KIND,
        integer("exponent", "log2", "e: the octave holds 2^e <= abs(x) < 2^(e+1)"),
        integer("count", "values", "finite non-zero values in the octave"),
        integer("powers", "values", "those of them that are exactly 2^e"),
    ),
)
WINDOWS: Final = Table(
    "windows",
    "a stretch of observed steps of a site, at most 128 per site",
    (SITE, NAME, KIND, FIRST, LAST, AMAX, FLUSHED, L1_FLUSHED),
)
STEPS: Final = Table(
    "steps",
    "an observed step of the training",
    (
        STEP,
        real("loss", "", "the loss; missing where the observer does not see it"),
        real("gradient_amax", "value", "largest finite gradient, at its true scale"),
        integer("gradient_amax_site_id", "", "the site that held it"),
        real("log2_scale", "log2", "loss scale in force; 0 for none"),
    ),
)
