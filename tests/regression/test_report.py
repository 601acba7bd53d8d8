from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from afbench.regression.comparison import Change, OrganismChange
from afbench.regression.junit import junit, junit_of_error
from afbench.regression.markdown import markdown, markdown_of_error
from afbench.regression.report import Checked, Report, sentence, text


def change(metric: str = "auroc", **fields: object) -> Change:
    given = {
        "detector": "probe", "rival": "probe", "metric": metric, "before": 0.99, "now": 0.57,
        "drop": 0.42, "low": 0.3, "high": 0.5, "confidence": 0.95, "allowed": 0.02,
        "verdict": "worse", "detectable": 0.08, "cases": 550, "organisms": 7,
        "by_organism": [
            OrganismChange(organism="faker-a", before=1.0, now=0.4, drop=0.6),
            OrganismChange(organism="faker-b", before=0.98, now=0.98, drop=0.0),
        ],
    } | fields  # fmt: skip
    return Change.model_validate(given)


def same(metric: str = "brier") -> Change:
    return change(
        metric, now=0.99, drop=0.0, low=-0.01, high=0.01, verdict="not worse", detectable=None,
        undetectable="the baseline is at chance", by_organism=[], note="of few cases",
    )  # fmt: skip


def report(*changes: Change, notes: tuple[str, ...] = ()) -> Report:
    checked = Checked(
        baseline="baselines/probe.json", digest="sha256:0", record="sha256:1",
        created="2026-01-02T03:04:05+00:00", versions={"afbench": "0.2.0"}, organism="helpful-only",
        split="recipe", cases=700, organisms=7, changes=list(changes), notes=list(notes),
    )  # fmt: skip
    return Report(versions={"afbench": "0.2.0"}, checked=[checked])


def test_a_sentence_says_which_metric_which_organism_and_by_how_much() -> None:
    assert sentence(change()) == (
        "probe: auroc went from 0.990 to 0.570, worse by 0.420 [0.300, 0.500] where 0.02 is "
        "tolerated; most on faker-a (1.000 to 0.400)"
    )
    assert "most on" not in sentence(change(by_organism=[]))


def test_the_text_has_a_row_for_each_change_and_ends_with_the_verdict() -> None:
    shown = text(report(change(), same(), notes=("its code is that of the baseline",)))
    assert shown.endswith("Verdict: worse.")
    rows = [line for line in shown.splitlines() if line.startswith("  probe  ")]
    assert rows[0].split()[1:] == [
        "auroc", "0.990", "0.570", "0.420", "[0.300,", "0.500]", "0.02", "0.080", "worse",
    ]  # fmt: skip
    assert rows[1].split()[-3:] == ["none", "not", "worse"]
    for line in ("its code is that of the baseline", "the baseline is at chance", "of few cases"):
        assert line in shown
    assert text(report(same())).endswith("Verdict: not worse.")


def test_another_detector_than_the_baselines_is_named_with_it() -> None:
    shown = text(report(change(detector="mine")))
    assert "mine (baseline: probe)" in shown


def test_a_small_negative_drop_is_shown_without_a_minus_before_zero() -> None:
    assert "-0.000" not in text(report(change(drop=-1e-9, low=-1e-9, high=0.0)))


def test_markdown_leads_with_what_got_worse_and_opens_its_organisms() -> None:
    shown = markdown(report(change(), same()))
    assert shown.startswith("### afbench check: worse\n\n- probe: auroc went from")
    assert "| probe | auroc | 0.990 | 0.570 |" in shown
    assert "<details open><summary>probe, auroc" in shown
    assert "| faker-a | 1.000 | 0.400 | 0.600 |" in shown
    fine = markdown(report(same()))
    assert fine.startswith("### afbench check: not worse\n\nhelpful-only")


def test_markdown_lets_no_name_start_a_cell_or_a_tag() -> None:
    shown = markdown(report(change(detector="a|b<script>\nc", rival="a|b<script>\nc")))
    assert "a\\|b&lt;script> c" in shown and "<script>" not in shown
    assert "<b>" not in markdown_of_error("a <b> & c") and "\n\na &lt;b> &amp; c" in (
        markdown_of_error("a <b> & c")
    )


def test_junit_fails_the_test_of_the_metric_that_got_worse() -> None:
    root = ElementTree.fromstring(junit(report(change(), same()), 1.5))
    [suite] = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    first, second = suite
    assert (first.get("classname"), first.get("name")) == ("afbench.probe", "probe auroc")
    failure = first.find("failure")
    assert failure is not None and "worse by 0.420" in (failure.get("message") or "")
    assert second.find("failure") is None


@pytest.mark.parametrize("line", ["plain", "<&\"'>", "control \x00 \x1b[31m \ud800", "ünïcode ☃"])
def test_junit_of_an_error_is_xml_whatever_the_message(line: str) -> None:
    root = ElementTree.fromstring(junit_of_error(line, 0.1).encode())
    error = root.find("testsuite/testcase/error")
    assert error is not None and error.get("message")
    assert root.find("testsuite") is not None and root[0].get("errors") == "1"


def test_the_report_is_json_with_all_of_it() -> None:
    content = json.loads(report(change(), same()).model_dump_json())
    assert content["kind"] == "afbench-check"
    assert Report.model_validate(content) == report(change(), same())
