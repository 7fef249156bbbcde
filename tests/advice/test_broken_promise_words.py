"""After a broken promise nothing that is said proposes the recipe that broke it."""

from __future__ import annotations

from precscope.advice.outcome import training_findings, training_verdict
from precscope.advice.promise import prove
from precscope.advice.promise_findings import promise_findings
from tests.support.runs import run, runs


def test_the_verdict_does_not_load_the_recipe_that_failed() -> None:
    assert training_verdict([run("fp32", 1.0), run("advised", 1.5)]).code == ""
    assert "recipe.json" in training_verdict([run("fp32", 1.0), run("advised", 1.0)]).code


def test_another_recipe_that_fell_behind_is_not_sent_to_it() -> None:
    for advised, remedy in (
        (1.5, "stay with FP32 for now"),
        (1.0, "train with the advised recipe"),
    ):
        stored = [run("fp32", 1.0), run("advised", advised), run("paper", 2.0)]
        assert [f.remedy for f in training_findings(stored)] == [remedy]


def test_a_metric_behind_does_not_ask_to_train_longer_with_it() -> None:
    stored = runs(fp32=[1.0, 1.1, 1.2], advised=[2.0, 2.1, 2.2])
    for one in stored:
        one["metrics"] = {"accuracy": (0.9 if one["recipe"] == "fp32" else 0.1) + one["seed"] / 100}
    found = promise_findings(prove(stored))
    assert [f.rule for f in found] == ["promise_broken", "metric_behind"]
    assert not any("longer" in f.remedy for f in found)


def test_runs_without_fp32_are_not_said_to_be_no_runs() -> None:
    told = training_verdict([run("advised", 1.0)]).sentence
    assert "Trained advised; FP32 was not among them" in told
