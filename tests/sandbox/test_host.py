"""A detector in the sandbox keeps the contract of one that runs here: same scores, same errors."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.catalog.discovery import discover
from afbench.detection.guard import guarded
from afbench.detection.loading import detector_factory
from afbench.detection.state import load_state, save_state
from afbench.errors import DetectorError, DetectorUnavailableError, StorageError
from afbench.sandbox.bubblewrap import Bubblewrap
from afbench.sandbox.host import SandboxFactory
from afbench.sandbox.view import View
from tests.sandbox.conftest import HEAD, SMALL, cases_of, plugin_of, scored

SHIPPED = discover()


@pytest.mark.parametrize(
    "name", ["probe", "prompt-probe", "weight-noise", "mlp-probe", "floor-bag-of-words"]
)
def test_scores_are_those_of_a_run_in_process(
    box: SandboxFactory, tmp_path: Path, name: str
) -> None:
    plugin = SHIPPED.get("detector", name)
    here = scored(detector_factory(plugin), plugin, tmp_path / "here")
    there = scored(box(plugin), plugin, tmp_path / "there")
    assert here[0] == there[0]
    np.testing.assert_array_equal(here[1], there[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHIPPED.detectors))
def test_every_shipped_detector_can_be_isolated(
    everyone: SandboxFactory, tmp_path: Path, name: str
) -> None:
    plugin = SHIPPED.get("detector", name)
    here = scored(detector_factory(plugin), plugin, tmp_path / "here")
    there = scored(everyone(plugin), plugin, tmp_path / "there")
    assert here[0] == there[0]
    np.testing.assert_array_equal(here[1], there[1])


def test_the_bill_is_that_of_a_run_in_process(box: SandboxFactory, tmp_path: Path) -> None:
    plugin = SHIPPED.get("detector", "prompt-probe")
    bills = []
    for name, make in (("here", detector_factory(plugin)), ("there", box(plugin))):
        cases, labels = cases_of(tmp_path / name, plugin.manifest)
        make().fit(cases, labels)
        spent = [case.handle.spent for case in cases]
        bills.append([(one.queries, one.forward_tokens, one.generated_tokens) for one in spent])
    assert bills[0] == bills[1]
    assert sum(sum(bill) for bill in bills[0]) > 0


@pytest.mark.parametrize(
    ("body", "manifest"),
    [
        ("cases[0].handle.activations([c.messages for c in cases])", {"tier": "logprobs"}),
        ("cases[0].handle.parent_logprobs([cases[0].prompt], ['Yes'])", {}),
        ("cases[0].handle.activations([c.messages for c in cases], [99])", {}),
        ("cases[0].handle.generate([cases[0].contrast], max_new_tokens=3)", {"contrast": True}),
    ],
)
def test_what_a_handle_refuses_reads_as_in_process(
    box: SandboxFactory, tmp_path: Path, body: str, manifest: dict[str, Any]
) -> None:
    plugin = plugin_of(tmp_path, body, **manifest)
    cases, labels = cases_of(tmp_path, plugin.manifest)
    said = []
    for make in (detector_factory(plugin), box(plugin)):
        detector = make()
        with pytest.raises(DetectorError) as caught:
            guarded("it", "fit", 60, lambda it=detector: it.fit(cases, labels))
        said.append((str(caught.value), type(caught.value.__cause__)))
    assert said[0] == said[1]


def test_what_a_detector_raises_is_its_error_with_its_line(
    box: SandboxFactory, tmp_path: Path
) -> None:
    plugin = plugin_of(tmp_path, "raise KeyError('\\x1b[2Jgone')")
    detector = box(plugin)()
    cases, labels = cases_of(tmp_path)
    with pytest.raises(DetectorError) as caught:
        guarded("it", "fit", 60, lambda: detector.fit(cases, labels))
    assert str(caught.value) == (
        "detector 'it' failed in fit: it raised KeyError: '\\x1b[2Jgone' (detector.py line 14)"
    )
    assert len(detector.score(cases)) == len(cases)  # to raise is no reason to be ended


@pytest.mark.parametrize("leaving", ["raise SystemExit(3)", "raise KeyboardInterrupt", "1 / 0"])
def test_leaving_is_a_fault_like_any_other(
    box: SandboxFactory, tmp_path: Path, leaving: str
) -> None:
    with pytest.raises(Exception, match="it raised (SystemExit|KeyboardInterrupt|ZeroDiv)"):
        box(plugin_of(tmp_path, leaving))().fit(*cases_of(tmp_path))


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("import a_module_of_nobody\nclass It: pass", "raised ModuleNotFoundError in import"),
        ("class It: pass", "'It' is not a class derived from"),
        ("class It(", "raised SyntaxError in import"),
        ("import sys\nsys.exit(0)\nclass It: pass", "raised SystemExit in import"),
        (HEAD + "        pass\n    def __init__(self, layer):\n        1 / 0", "in construction"),
    ],
)
def test_what_cannot_be_built_says_so_at_once(
    box: SandboxFactory, tmp_path: Path, code: str, part: str
) -> None:
    with pytest.raises(DetectorError, match=part):
        box(plugin_of(tmp_path, code, params={"layer": 3}))


def test_params_and_files_beside_the_code_are_there(box: SandboxFactory, tmp_path: Path) -> None:
    code = """
    from pathlib import Path
    self.found = {"text": (Path(__file__).parent / "data" / "words.txt").read_text(),
                  "names": " ".join(sorted(p.name for p in Path(__file__).parent.iterdir()))}
    """
    plugin = plugin_of(tmp_path, code)
    for name in ("data/words.txt", ".git/config", "__pycache__/x.pyc"):
        path = plugin.folder / name
        path.parent.mkdir()
        path.write_text("private")
        path.chmod(0o600)
    plugin.folder.chmod(0o700)
    detector = box(plugin)()
    detector.fit(*cases_of(tmp_path))
    assert detector.explain() == {"text": "private", "names": "data detector.py"}


def test_a_folder_that_leads_elsewhere_is_refused(box: SandboxFactory, tmp_path: Path) -> None:
    plugin = plugin_of(tmp_path, "pass")
    (plugin.folder / "keys").symlink_to("/etc")
    with pytest.raises(DetectorError, match="'keys' is neither"):
        box(plugin)


def test_a_detector_can_say_that_it_is_unavailable(box: SandboxFactory, tmp_path: Path) -> None:
    code = "from afbench.errors import UnavailableError\nraise UnavailableError('no judge')"
    detector = box(plugin_of(tmp_path, code))()
    with pytest.raises(DetectorUnavailableError, match="^no judge$"):
        guarded("it", "fit", 60, lambda: detector.fit(*cases_of(tmp_path)))


@pytest.mark.parametrize(
    ("scores", "part"),
    [
        ("np.zeros(3)", r"scores of shape \(3,\) for 24 cases"),
        ("np.full(24, np.nan)", "24 of 24 scores that are NaN or infinite"),
        ("['a'] * 24", "not an array of numbers"),
        ("np.array([object()] * 24)", "not an array of numbers"),
    ],
)
def test_scores_are_checked(box: SandboxFactory, tmp_path: Path, scores: str, part: str) -> None:
    code = f"self.score = lambda cases: {scores}"
    detector = box(plugin_of(tmp_path, code))()
    cases, labels = cases_of(tmp_path)
    detector.fit(cases, labels)
    with pytest.raises(DetectorError, match=part):
        detector.score(cases)


def test_a_fit_is_saved_and_loaded_through_the_sandbox(box: SandboxFactory, tmp_path: Path) -> None:
    plugin = SHIPPED.get("detector", "probe")
    make = box(plugin)
    detector = make()
    detector.fit(*cases_of(tmp_path))
    cases, _ = cases_of(tmp_path, seed=1)
    assert detector.can_be_saved
    save_state(detector, tmp_path / "saved", "digest")
    here, there = detector_factory(plugin)(), make()
    for one in (here, there):
        load_state(one, tmp_path / "saved", "digest")
        np.testing.assert_array_equal(one.score(cases), detector.score(cases))


def test_a_detector_without_a_state_says_so(box: SandboxFactory, tmp_path: Path) -> None:
    detector = box(plugin_of(tmp_path, "pass"))()
    assert not detector.can_be_saved
    with pytest.raises(DetectorError, match="does not say what its fit sets"):
        detector.state()


def test_scores_from_inside_are_told_from_scores_from_outside(
    box: SandboxFactory, tmp_path: Path
) -> None:
    plugin = plugin_of(tmp_path, "self.depends_on = lambda: 'a judge'")
    detector = box(plugin)()
    assert detector.depends_on() == "in a sandbox; "
    detector.fit(*cases_of(tmp_path))
    assert detector.depends_on() == "in a sandbox; a judge"


def test_a_failure_of_the_host_is_the_hosts(
    box: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, labels = cases_of(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr("afbench.store.write_bytes", full)
    code = """
    try:
        cases[0].handle.activations([cases[0].messages])
    except BaseException:
        pass
    """
    detector = box(plugin_of(tmp_path, code))()
    with pytest.raises(StorageError, match="no space left"):
        guarded("it", "fit", 60, lambda: detector.fit(cases, labels))
    monkeypatch.undo()
    with pytest.raises(DetectorError, match="it is void: it was interrupted"):
        detector.score(cases)


def test_an_abandoned_detector_leaves_no_process(box: SandboxFactory, tmp_path: Path) -> None:
    import psutil

    def processes() -> int:
        """Of this one and whatever else the tests before it left, the sandbox's own among them."""
        return len(psutil.Process().children(recursive=True))

    make = box(plugin_of(tmp_path, "self.kept = bytearray(1 << 20)"))
    make().fit(*cases_of(tmp_path))  # what follows finds the sandbox started
    before = processes()
    for _ in range(5):
        make().fit(*cases_of(tmp_path))
    deadline = time.monotonic() + 20
    while processes() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes() <= before


@pytest.mark.slow
def test_a_sandbox_for_each_instance_scores_alike(
    view: View, bubblewrap: None, tmp_path: Path
) -> None:
    """What is used where the kernel lets nobody inside make namespaces."""
    plugin = SHIPPED.get("detector", "probe")
    factory = SandboxFactory(Bubblewrap(view, SMALL, forks=False))
    try:
        here = scored(detector_factory(plugin), plugin, tmp_path / "here")
        there = scored(factory(plugin), plugin, tmp_path / "there")
    finally:
        factory.close()
    assert here[0] == there[0]
    np.testing.assert_array_equal(here[1], there[1])
