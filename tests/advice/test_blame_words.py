"""What is said of a break agrees with what the observer could see."""

from __future__ import annotations

from precscope.advice import advise
from precscope.advice.blame import Break, blame_findings
from precscope.facts import StepRecord
from precscope.recording import Recording

FIRST = Break(
    0, 0.0, False, "backward", "head", "activation_gradient", 64, "head.weight", "head", ()
)  # fmt: skip


def test_a_loss_that_was_not_seen_is_not_called_finite() -> None:
    (unseen,) = blame_findings([FIRST], 0, 1, saw_loss=False)
    assert "loss were finite" not in unseen.message
    assert "the loss was not observed" in unseen.message
    assert unseen.remedy.startswith("Look at the loss of that step first.")
    (seen,) = blame_findings([FIRST], 0, 1)
    assert "forward pass and loss were finite" in seen.message
    assert "Look at the loss" not in seen.remedy


def test_a_recording_without_losses_says_so() -> None:
    place = {"name": "head", "kind": "activation_gradient", "count": 64}
    mark = {
        "step": 0, "log2_scale": 0.0, "skipped": False, "loss_finite": True, "input": 0,
        "sites": [place], "parameter": None, "before": [],
    }  # fmt: skip
    told = {}
    for loss in (None, 1.0):
        made = Recording.from_facts(
            meta={"title": "by hand"},
            steps=[StepRecord(0, loss, 0.0, None, 0.0)],
            documents={"non_finite": {"count": 1, "skipped": 0, "steps": [mark]}},
        )
        told[loss] = advise(made).findings[0].message
    assert "the loss was not observed" in told[None]
    assert "loss were finite" in told[1.0]
