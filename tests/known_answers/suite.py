"""Every case, and how one is run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from precscope import PrecscopeError
from tests.known_answers.cases import (
    accumulation,
    blind_spots,
    loss_scale,
    master_weights,
    noise,
    parameters,
    ranges,
    scale_window,
    training,
)
from tests.known_answers.claims import Case, Claim

SEED = 0

CASES: tuple[Case, ...] = (
    *loss_scale.CASES,
    *scale_window.CASES,
    *ranges.CASES,
    *master_weights.CASES,
    *parameters.CASES,
    *noise.CASES,
    *training.CASES,
    *blind_spots.CASES,
    *accumulation.CASES,
)


def run_case(case: Case) -> list[Claim]:
    """The claims of a case, the same in any order of cases; random streams are put back."""
    state = torch.get_rng_state()
    torch.manual_seed(SEED)
    try:
        with tempfile.TemporaryDirectory(prefix="known-answers-") as folder:
            return _judged(case, Path(folder))
    finally:
        torch.set_rng_state(state)


def _judged(case: Case, folder: Path) -> list[Claim]:
    claims: list[Claim] = []
    try:
        claims.extend(case.judge(folder))
    except PrecscopeError as error:
        found = f"{type(error).__name__}: {error}"
        claims.append(Claim("runs to its end", "yes", found, "none", False))
    return claims


def wrong(case: Case) -> list[Claim]:
    """The claims of a case that do not hold; empty if all is right."""
    return [claim for claim in run_case(case) if not claim.right]


def by_name(name: str) -> Case:
    """The case of that name; KeyError if there is none."""
    return {case.name: case for case in CASES}[name]
