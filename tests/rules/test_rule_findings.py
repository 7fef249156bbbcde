"""Rules about findings: the names known are those that advice gives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from precscope.advice.findings import SEVERITIES as ADVICE_SEVERITIES
from precscope.rules.findings import FINDINGS, SEVERITIES
from tests.rules.sample_run import is_hit, judged, sample

ADVICE = Path(__file__).parents[2] / "precscope" / "advice"


def names_in_advice() -> set[str]:
    """The first argument, or ``rule=``, of every call of ``Finding``; helpers pass theirs on."""
    found: set[str] = set()
    for path in ADVICE.glob("*.py"):
        tree = ast.parse(path.read_text())
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id in ("Finding", "_emulated"):
                given = [*call.args, *(k.value for k in call.keywords if k.arg == "rule")]
                found |= {text for node in given[:2] for text in _texts(node)}
    return {text for text in found if text and " " not in text}


def _texts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    return []


def test_every_finding_that_advice_gives_is_known() -> None:
    given = names_in_advice() - {"critical", "warning", "advice", "ok"}
    assert len(given) > 12
    assert given - set(FINDINGS) == set()
    assert set(FINDINGS) - given == {
        "loss_scale_static",
        "loss_scale_dynamic",
        "loss_scale_impossible",
    }


def test_severities_are_those_of_advice() -> None:
    assert tuple(reversed(SEVERITIES)) == ADVICE_SEVERITIES


def test_a_finding_hits_by_name_by_pattern_and_by_place() -> None:
    assert is_hit("finding overflow")
    assert is_hit("finding over*, underflow")
    assert is_hit("finding overflow @ head")
    assert not is_hit("finding overflow @ enc.*")
    assert not is_hit("finding underflow")
    assert [h.finding for h in judged("finding *").hits] == ["overflow", "scale_drift"]


def test_a_severity_hits_from_its_limit_on() -> None:
    assert len(judged("severity >= warning").hits) == 2
    assert [hit.finding for hit in judged("severity > warning").hits] == ["overflow"]
    assert [hit.finding for hit in judged("severity warning").hits] == ["scale_drift"]
    assert not is_hit("severity >= warning @ enc.*")
    result = sample()
    result["findings"] = []
    assert not is_hit("severity >= ok", result)


def test_a_finding_is_told_with_its_place_and_severity() -> None:
    (hit,) = judged("finding overflow").hits
    assert str(hit) == "finding overflow: head: critical overflow: head is bad"
    (hit,) = judged("finding scale_drift").hits
    assert hit.message.startswith("the model: warning scale_drift: ")


def test_a_finding_of_several_origins_is_judged_if_one_is_there() -> None:
    result = sample()
    result["runs"] = []
    assert not judged("finding overflow, promise_broken", result).problem
    assert judged("finding promise_broken", result).problem == "nothing was trained"


@pytest.mark.parametrize(
    ("seeds", "breaches", "problem"),
    [
        ([0], [], ""),
        ([], [], "it was not put to the test, no seed on which both runs finished"),
        ([], [{"kind": "diverged", "what": "diverged at step 7"}], ""),
    ],
    ids=["kept", "FP32 diverged on every seed", "only the advised run diverged"],
)
def test_a_promise_that_could_not_be_tested_is_not_kept(
    seeds: list[int], breaches: list[dict[str, str]], problem: str
) -> None:
    result = sample()
    result["parity"].update(
        breaches=breaches, loss={"seeds": seeds}, reason="no seed on which both runs finished"
    )
    found = judged("promise broken", result)
    assert found.problem == problem
    assert bool(found.hits) == bool(breaches)
