"""A check as a JUnit report, which continuous integration shows as tests."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from afbench.regression.report import Report, interval, sentence

# Characters that XML 1.0 cannot hold.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUITE = "afbench check"


def junit(report: Report, seconds: float) -> str:
    """One test for each metric of each detector; those that got worse failed.

    Args:
        seconds: what the whole check took.
    """
    suite = _suite(len(report.changes), failures=len(report.worse), errors=0, seconds=seconds)
    for checked in report.checked:
        for change in checked.changes:
            case = _case(suite, f"{change.detector} {change.metric}", Path(checked.baseline).stem)
            if change.verdict == "worse":
                line = _clean(sentence(change))
                ElementTree.SubElement(case, "failure", message=line, type="worse").text = line
            output = ElementTree.SubElement(case, "system-out")
            output.text = _clean(
                f"drop {interval(change)}, tolerated {change.allowed:g}, detectable "
                f"{'none' if change.detectable is None else f'{change.detectable:.3f}'}"
            )
    return _document(suite)


def junit_of_error(line: str, seconds: float) -> str:
    """What is written where a check could not run: one test with an error."""
    suite = _suite(1, failures=0, errors=1, seconds=seconds)
    case = _case(suite, "could not run", "check")
    ElementTree.SubElement(case, "error", message=_clean(line), type="could not run")
    return _document(suite)


def _suite(tests: int, *, failures: int, errors: int, seconds: float) -> ElementTree.Element:
    return ElementTree.Element(
        "testsuite",
        name=_SUITE,
        tests=str(tests),
        failures=str(failures),
        errors=str(errors),
        skipped="0",
        time=f"{seconds:.3f}",
    )


def _case(suite: ElementTree.Element, name: str, group: str) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=_clean(f"afbench.{group}"), name=_clean(name)
    )


def _document(suite: ElementTree.Element) -> str:
    root = ElementTree.Element("testsuites", dict(suite.attrib))
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
