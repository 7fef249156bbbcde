"""What training with the advice showed, as JSON: parity, residual error, drift of the scale."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from precscope.advice.dose_response import dose_response
from precscope.advice.drift import Drift
from precscope.advice.parity import Comparison
from precscope.advice.promise import Proof
from precscope.advice.residual import BREAKING_ERROR
from precscope.recording import Recording


def proof_entries(recording: Recording, proof: Proof, drift: Drift) -> dict[str, Any]:
    """The keys ``parity``, ``residual`` and ``drift`` of the result."""
    return {
        "parity": _parity(recording, proof),
        "residual": {
            "points": [asdict(point) for point in proof.residual.points],
            "reason": proof.residual.reason,
            "breaking_error": BREAKING_ERROR,
        },
        "drift": asdict(drift),
    }


def _parity(recording: Recording, proof: Proof) -> dict[str, Any]:
    found, plan = proof.parity, recording.document("seeds", {}) or {}
    return {
        "recipe": found.recipe if found else None,
        "verdict": found.verdict if found else "unknown",
        "reason": found.reason if found else "no recipe was trained beside FP32",
        "seeds": list(found.loss.seeds) if found else [],
        "seeds_reason": plan.get("reason"),
        "diverged_seeds": list(found.diverged_seeds) if found else [],
        "skipped_steps": proof.skipped,
        "steps": proof.steps,
        "breaches": [asdict(breach) for breach in proof.breaches],
        "loss": _comparison(found.loss) if found else None,
        "metrics": [_comparison(metric) for metric in found.metrics] if found else [],
    }


def sweep_entry(recording: Recording) -> dict[str, Any] | None:
    """The key ``scale_sweep`` of the result; None where none was made."""
    found = dose_response(recording.document("scale_sweep"))
    return None if found is None else asdict(found)


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(comparison).items()
    }
