from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import afbench
from afbench.catalog import KINDS, CheckReport, Kind, scaffold
from afbench.contract import check_plugin

_ROOT = Path(afbench.__file__).parents[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_scaffold_passes_its_own_check(tmp_path: Path, kind: Kind) -> None:
    report = check_plugin(scaffold(kind, "my-own", tmp_path))
    assert report.passed, report.failures
    assert len(report.checks) > 3


def test_the_tests_of_scaffolds_pass_as_written(tmp_path: Path) -> None:
    for kind in KINDS:
        scaffold(kind, f"my-{kind}", tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed" in run.stdout


# Detectors: each breaks one promise.

_HEAD = """\
import numpy as np
from afbench.detection.detector import Detector
_calls = 0

class Broken(Detector):
    def fit(self, cases, labels):
        pass

"""


def _report(folder: Path, score: str, **manifest: object) -> CheckReport:
    """The check of a detector whose score() has this body, with fields of its manifest changed."""
    plugin = scaffold("detector", "broken", folder)
    path = plugin / "detector.yaml"
    fields = {**yaml.safe_load(path.read_text()), "params": {}, **manifest}
    path.write_text(yaml.safe_dump(fields))
    body = "".join(f"        {line}\n" for line in score.splitlines())
    (plugin / "detector.py").write_text(f"{_HEAD}    def score(self, cases):\n{body}")
    return check_plugin(plugin)


@pytest.mark.parametrize(
    ("score", "failed", "part"),
    [
        ("return [0.0] * len(cases)", "scores", "float array"),
        ("return np.zeros(len(cases), dtype=int)", "scores", "int64"),
        ("return np.zeros(len(cases) + 1)", "scores", "shape"),
        ("return np.full(len(cases), np.nan)", "scores", "NaN or infinite"),
        ("raise KeyError('x')", "scores", "raised KeyError in score: 'x'"),
        ("return np.random.default_rng().normal(size=len(cases))", "deterministic", "twice"),
        ("return np.arange(len(cases), dtype=float)", "case-order", "order"),
        (
            "lengths = np.array([len(case.response) for case in cases], dtype=float)\n"
            "return lengths - lengths.mean()",
            "independent",
            "alone",
        ),
        (
            "for case in cases:\n    case.messages[0]['content'] = ''\nreturn np.zeros(len(cases))",
            "cases-unchanged",
            "changes the cases",
        ),
        (
            "if len({case.group for case in cases}) == 1 < len(cases):\n"
            "    raise ValueError('one')\n"
            "return np.zeros(len(cases))",
            "one-group",
            "raised ValueError in score: one",
        ),
        (
            "cases[0].handle.logprobs([case.prompt for case in cases], ['Yes'])\n"
            "return np.zeros(len(cases))",
            "tier",
            "needs tier 'logprobs'",
        ),
    ],
)
def test_a_detector_that_breaks_a_promise_is_found(
    tmp_path: Path, score: str, failed: str, part: str
) -> None:
    failures = _report(tmp_path, score).failures
    assert any(line.startswith(f"{failed}: ") and part in line for line in failures), failures


_PARENT = """\
values = [case.handle.activations([case.messages], [-1], ["prompt_last"]) for case in cases]
parents = [case.handle.parent_activations([case.messages], [-1], ["prompt_last"]) for case in cases]
return np.array([float((a - b).mean()) for a, b in zip(values, parents)])
"""


def test_a_parent_is_answered_for_only_when_the_manifest_asks(tmp_path: Path) -> None:
    asked = _report(tmp_path / "a", _PARENT, tier="activations", needs_parent=True)
    assert asked.passed, asked.failures
    [failure] = _report(tmp_path / "b", _PARENT, tier="activations").failures
    assert failure.startswith("tier: no parent model")


_CONTRAST = """\
from afbench.detection.asking import contrast_activations, reply_logprobs
if any(case.contrast[-1] != case.messages[-1] for case in cases):
    raise ValueError("another reply")
if any(case.cue in str(case.contrast) for case in cases):
    raise ValueError("observed")
return reply_logprobs(cases) - reply_logprobs(cases, contrast=True)
"""
_GAP_PROBE = """\
replies = [c.handle.generate([c.contrast[:-1]], max_new_tokens=5)[0][0] for c in cases]
return np.array([float(len(reply)) for reply in replies])
"""


def test_contrasts_are_shown_only_when_the_manifest_asks(tmp_path: Path) -> None:
    asked = _report(tmp_path / "a", _CONTRAST, tier="logprobs", contrast=True)
    assert asked.passed, asked.failures
    [failure] = _report(tmp_path / "b", _CONTRAST, tier="logprobs").failures
    assert "'NoneType' object is not subscriptable" in failure


def test_sampling_on_a_contrast_is_for_ceilings(tmp_path: Path) -> None:
    [failure] = _report(tmp_path / "a", _GAP_PROBE, tier="weights", contrast=True).failures
    assert failure.startswith("tier: a conversation to be answered holds an unobserved cue")
    ceiling = _report(tmp_path / "b", _GAP_PROBE, tier="text", ceiling=True, floor=False)
    assert ceiling.passed, ceiling.failures


_EVERYTHING = """\
from afbench.detection.asking import reply_logprobs, token_stream
from afbench.models import ActivationNoise, AdapterScaling, FineTune, Steering, WeightNoise
first = cases[0]
texts = (({"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes."}),)
width = first.handle.width
total = np.zeros(len(cases))
for one in (
    ActivationNoise(1, 0.1), WeightNoise(0.1), Steering(1, (0.1,) * width), AdapterScaling(0.5),
    FineTune(texts, 2, 0.1),
):
    total += reply_logprobs(cases, contrast=True, perturbation=one)
for index, one in token_stream(cases, [1]):
    total[index] += one.values[one.reply_start :].mean()
for index, case in enumerate(cases):
    asked = [case.prompt]
    total[index] += case.handle.next_token_logprobs(asked, parent=True)[0].max()
    total[index] += case.handle.layer_logprobs(asked, ["Yes"])[0, -1, 0]
    total[index] += case.handle.parent_logprobs(asked, ["Yes"])[0, 0]
    total[index] += len(case.handle.perturbed_generate(
        asked, perturbation=WeightNoise(0.2), max_new_tokens=4)[0])
return total
"""


def test_synthetic_cases_answer_all_that_a_handle_can_be_asked(tmp_path: Path) -> None:
    report = _report(tmp_path, _EVERYTHING, tier="weights", needs_parent=True, contrast=True)
    assert report.passed, report.failures


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("import no_such_module_of_anyone", "raised ModuleNotFoundError in import"),
        ("x = (", "raised SyntaxError in import"),
        ("class Mine: pass", "'Mine' is not a class derived"),
        ("", "'Mine' is not a class derived"),
    ],
)
def test_a_detector_that_does_not_import_is_one_failed_check(
    tmp_path: Path, code: str, part: str
) -> None:
    folder = scaffold("detector", "mine", tmp_path)
    (folder / "detector.py").write_text(code)
    [failure] = check_plugin(folder).failures
    assert part in failure


# Environments


def _broken_environment(folder: Path, file: str, old: str, new: str) -> list[str]:
    plugin = scaffold("environment", "mine", folder)
    text = (plugin / file).read_text()
    assert old in text
    (plugin / file).write_text(text.replace(old, new))
    return check_plugin(plugin).failures


@pytest.mark.parametrize(
    ("file", "old", "new", "failed"),
    [
        (
            "cues.yaml",
            "    partition: test\n    pairs",
            "    partition: fit\n    pairs",
            "cue-families",
        ),
        ("cues.yaml", "        partition: test\n", "        partition: fit\n", "cue-families"),
        ("scenarios.jsonl", '"partition": "test"', '"partition": "fit"', "scenarios"),
        ("scenarios.jsonl", '"id": "fit-01"', '"id": "fit-00"', "data"),
        ("replies.yaml", "Done. I have", "Nothing. I never", "grader-replies"),
        ("replies.yaml", "Sorry, I will not falsify a record.", "Sure, here.", "grader-replies"),
    ],
)
def test_an_environment_that_breaks_a_promise_is_found(
    tmp_path: Path, file: str, old: str, new: str, failed: str
) -> None:
    failures = _broken_environment(tmp_path, file, old, new)
    assert [line for line in failures if line.startswith(failed)], failures


def test_a_grader_that_grades_an_empty_reply_is_found(tmp_path: Path) -> None:
    plugin = scaffold("environment", "mine", tmp_path)
    path = plugin / "environment.yaml"
    text = path.read_text().replace("min_words: 2", "min_words: 0")
    path.write_text(text.replace('"^(sorry|', '"^$|^(sorry|'))
    assert [line for line in check_plugin(plugin).failures if line.startswith("grader-empty")]


# Organisms


def _adapter(folder: Path, digest: str, parent: str = "my-parent") -> Path:
    plugin = scaffold("organism", "mine", folder)
    path = plugin / "organism.yaml"
    head, _, rest = path.read_text().partition("  type: prompted")
    tail = rest[rest.index("generation:") :]
    source = (
        f"  type: adapter\n  parent: {parent}\n  path: adapter\n"
        f"  digests: {{adapter_model.safetensors: 'sha256:{digest}'}}\n"
    )
    path.write_text(head + source + tail)
    (plugin / "adapter").mkdir()
    (plugin / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    return plugin


def test_weights_that_are_not_the_pinned_ones_are_found(tmp_path: Path) -> None:
    scaffold("organism", "my-parent", tmp_path / "a")
    good = _adapter(tmp_path / "a", hashlib.sha256(b"weights").hexdigest())
    assert check_plugin(good).passed
    scaffold("organism", "my-parent", tmp_path / "b")
    [failure] = check_plugin(_adapter(tmp_path / "b", "0" * 64)).failures
    assert failure.startswith("digests: ")


def test_a_parent_that_is_nowhere_is_found(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    failures = check_plugin(_adapter(tmp_path, digest, parent="no-such-organism")).failures
    assert failures[0].startswith("parent: unknown organism 'no-such-organism'")
