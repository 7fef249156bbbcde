"""Which sites half precision would touch."""

from __future__ import annotations

from precscope.facts import Site

HALF_DTYPES = ("float16", "bfloat16")
"""Dtypes of a run that is no FP32 run, as it was observed."""


def at_risk(site: Site) -> bool:
    """Whether FP16 autocast stores this site in half; assumed so where it was not measured."""
    return site.autocast_dtype in (None, "float16")


def module_of(site: Site) -> str:
    """Qualified name of the module that a site belongs to: the parameter's owner, or itself."""
    if site.kind in ("weight", "weight_gradient"):
        return site.name.rpartition(".")[0] or "(root)"
    return site.name.partition("[")[0]
