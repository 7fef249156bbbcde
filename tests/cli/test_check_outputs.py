"""Annotations and JUnit XML: right for every reader, whatever the names hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precscope.rules import Outcome, judge_all, parse_rule, parse_waiver, waive
from precscope_cli.check_github import (
    SHOWN,
    annotation,
    defused,
    escape_data,
    escape_property,
    github_annotations,
)
from precscope_cli.check_junit import junit_xml
from tests.rules.sample_run import sample, site

HOSTILE = [
    "</failure><script>alert(1)</script>",
    "\"'&<>",
    "\x00\x01\x0b\x1f\x7f",
    "\ud800",
    "\ufffe\uffff",
    "a\nb\rc\td",
    "]]>",
    "<!--",
    "&#0;",
    "::set-output name=x::y",
    "##[stop-commands]z",
    "%0A::error::",
    "😀" * 80,
    "\u202e\u2066",
]


def outcome(name: str = "a", rules: tuple[str, ...] = ("amax > 0",), *waivers: str) -> Outcome:
    result = {**sample(), "sites": [site(name, "activation", 1.0)], "title": name}
    judgements = judge_all([parse_rule(rule) for rule in rules], result)
    return waive(judgements, [parse_waiver(text) for text in waivers])


def parsed(found: Outcome, title: str = "t") -> ET.Element:
    document = junit_xml(found, {"title": title})
    return ET.fromstring(document.encode("utf-8"))[0]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_with_hostile_names_can_be_read(name: str) -> None:
    suite = parsed(outcome(name), name)
    (failure,) = suite.findall("testcase/failure")
    shown = name.encode("unicode_escape", "surrogatepass").decode()
    plain = failure.text or ""
    assert plain.startswith("amax > 0: ")
    assert name in plain or any(part in plain for part in (shown, "a\nb", "\\x00"))
    assert not suite.findall(".//script")


@given(st.text())
def test_any_name_makes_a_document(name: str) -> None:
    assert parsed(outcome(name), name).attrib["failures"] == "1"


def test_a_rule_is_a_case_that_passes_fails_errs_or_is_skipped() -> None:
    rules = ("amax > 0", "amax > 9", "flushed @ nope > 0.5", "amax > 0.5")
    suite = parsed(outcome("a", rules))
    cases = {case.attrib["name"]: [child.tag for child in case] for case in suite}
    assert cases == {
        "amax > 0": ["failure"],
        "amax > 9": [],
        "flushed @ nope > 0.5": ["error"],
        "amax > 0.5": ["failure"],
    }
    totals = [suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")]
    assert totals == ["4", "2", "1", "0"]
    waived = parsed(outcome("a", ("amax > 0",), "amax: on purpose"))
    assert [child.attrib["message"] for child in waived[0]] == ["waived: on purpose"]
    assert waived.attrib["skipped"] == "1"


def test_a_failure_lists_every_place() -> None:
    judgements = judge_all([parse_rule("amax > 0")], sample())
    (failure,) = parsed(waive(judgements, ())).findall("testcase/failure")
    assert len((failure.text or "").splitlines()) == 3
    assert failure.attrib["message"].startswith("hit in 3 places, worst enc.0 (activation): 1")


def test_the_escapes_of_workflow_commands() -> None:
    assert escape_data("100% a\r\nb:,") == "100%25 a%0D%0Ab:,"
    assert escape_property("100% a\r\nb:,") == "100%25 a%0D%0Ab%3A%2C"
    assert escape_data("%0A") == "%250A"
    assert defused("x ##[add-mask]y") == "x ## [add-mask]y"


@pytest.mark.parametrize("name", HOSTILE)
def test_an_annotation_is_one_command_on_one_line(name: str) -> None:
    for line in github_annotations(outcome(name), Path("a,b:c.py")):
        assert len(line.splitlines()) == 1
        assert line.startswith("::error file=a%2Cb%3Ac.py,title=amax > 0::")
        assert "##[" not in line
        assert "\x00" not in line


@given(st.text(), st.text())
def test_any_text_stays_in_its_place(title: str, message: str) -> None:
    line = annotation("warning", title, message)
    assert "\n" not in line
    assert "\r" not in line
    properties, _, data = line.removeprefix("::warning title=").partition("::")
    assert ":" not in properties
    assert "," not in properties
    assert len(data.splitlines()) <= 1


def test_the_file_is_named_from_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert "file=pkg/model.py," in annotation("error", "t", "m", tmp_path / "pkg/model.py")
    monkeypatch.chdir(tmp_path)
    assert "file=model.py," in annotation("error", "t", "m", Path("model.py"))
    monkeypatch.delenv("GITHUB_WORKSPACE")
    assert "file=model.py," in annotation("error", "t", "m", Path("model.py"))


def test_what_github_would_drop_is_counted() -> None:
    result: dict[str, Any] = sample()
    result["sites"] = [site(f"s{i}", "activation", 1.0) for i in range(25)]
    found = waive(judge_all([parse_rule("amax > 0")], result), [parse_waiver("flushed: no")])
    lines = github_annotations(found, None)
    assert len(lines) == SHOWN + 1
    assert lines[SHOWN - 1].endswith("::and 16 more, see the log of this step")
    assert lines[-1].startswith("::warning title=precscope check::unused waiver: flushed")


def test_a_rule_that_was_not_judged_is_an_error() -> None:
    (line,) = github_annotations(outcome("a", ("step_ms[x] > 1",)), None)
    assert line.startswith("::error title=step_ms[x] > 1::not judged: recipe x was not trained")
