"""Runs with detectors in the sandbox: the record is that of a run in process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.catalog.discovery import Catalog, Plugin, discover
from afbench.cli.app import main
from afbench.cli.run import with_folders
from afbench.detection.harness import FoldScores
from afbench.detection.loading import detector_factory
from afbench.errors import DetectorError, DuplicateNameError
from afbench.results.fold_runner import FoldRunner
from afbench.results.progress import Silent
from afbench.results.scoring import Scorer, Scoring
from afbench.sandbox.choose import Isolation
from afbench.sandbox.host import DetectorFactory, SandboxFactory, factory_of, making
from tests.results.fake_run import FOLD, FakeRun
from tests.sandbox.conftest import plugin_of

PROBE = discover().get("detector", "probe")


def run_of(
    folder: Path, plugins: list[Plugin[Any]], factory: DetectorFactory, *, cached: bool = False
) -> Scoring:
    run = FakeRun(folder, plugins, cached=cached)
    return Scorer(run.source, Silent(), run.cache, factory=factory).run([FOLD], {})


def test_a_fold_is_scored_as_in_process(box: SandboxFactory, tmp_path: Path) -> None:
    outcomes = []
    for name, factory in (("here", detector_factory), ("there", box)):
        [outcome] = run_of(tmp_path / name, [PROBE], factory).outcomes["probe"]
        assert isinstance(outcome, FoldScores)
        outcomes.append(outcome)
    here, there = outcomes
    np.testing.assert_array_equal(here.scores, there.scores)
    np.testing.assert_array_equal(here.held_out_scores, there.held_out_scores)
    assert (here.chosen, here.fits, here.inputs) == (there.chosen, there.fits, there.inputs)
    for field in ("queries", "forward_tokens", "generated_tokens"):
        assert getattr(here.spent, field) == getattr(there.spent, field)


def test_a_hostile_detector_is_void_and_the_others_are_not(
    box: SandboxFactory, tmp_path: Path
) -> None:
    hostile = plugin_of(tmp_path, "os.write(1, bytes(1 << 20))", "hostile")
    scoring = run_of(tmp_path, [hostile, PROBE], box)
    error = scoring.outcomes["hostile"]
    assert isinstance(error, DetectorError)
    assert str(error) == (
        "detector 'hostile' failed in fit: it printed more than 65536 bytes; print less, or nothing"
    )
    assert isinstance(scoring.outcomes["probe"], list)


def test_a_score_from_outside_never_stands_for_one_from_inside(
    box: SandboxFactory, tmp_path: Path
) -> None:
    """A detector that sees whether it is isolated scores so; both are kept under other keys."""
    code = "pass\ndef score(self, cases):\n    return np.full(len(cases), float(os.getpid() == 1))"
    plugin = plugin_of(tmp_path, "pass")
    (plugin.folder / "detector.py").write_text(
        "import os\nimport numpy as np\nfrom afbench.detection import Detector\n"
        "class It(Detector):\n    def fit(self, cases, labels):\n        "
        + code.replace("\n", "\n    ")
    )
    for _ in range(2):
        for inside, factory in ((0.0, detector_factory), (1.0, box)):
            scoring = run_of(tmp_path / "cache", [plugin], factory, cached=True)
            [outcome] = scoring.outcomes["it"]
            assert isinstance(outcome, FoldScores)
            assert set(outcome.scores) == {inside}


def test_no_code_of_a_detector_runs_here(box: SandboxFactory, tmp_path: Path) -> None:
    plugin = plugin_of(tmp_path, "pass")
    path = plugin.folder / "detector.py"
    mark = tmp_path / "mark"
    lines = (
        f"from pathlib import Path\ntry:\n    Path({str(mark)!r}).touch()\nexcept OSError: pass\n"
    )
    path.write_text(lines + path.read_text())
    run = FakeRun(tmp_path / "cache", [plugin])
    said = FoldRunner(run.source, run.cache, factory=box).run(plugin, [FOLD])
    assert isinstance(said.outcome, FoldScores)
    assert not mark.exists()


def test_without_isolation_detectors_are_made_here(tmp_path: Path) -> None:
    assert factory_of(None, Catalog(), tmp_path) is detector_factory
    with making(None, Catalog(), tmp_path) as factory:
        assert factory is detector_factory


def test_organisms_environments_and_the_cache_are_secret(tmp_path: Path) -> None:
    import sklearn

    from afbench.errors import SandboxError

    site = Path(sklearn.__file__).parents[1]
    with pytest.raises(SandboxError, match="holds organisms or the cache"):
        factory_of(Isolation("bubblewrap"), discover(), site)
    organism: Any = Plugin("x", "organism", site, None)  # type: ignore[arg-type]
    with pytest.raises(SandboxError, match="holds organisms or the cache"):
        factory_of(Isolation("bubblewrap"), Catalog(organisms={"x": organism}), tmp_path)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--sandbox", "--explain"], "what explains a detector runs its code here (--explain)"),
        (["--sandbox=docker"], "unknown sandbox 'docker'; known: auto, bubblewrap, container"),
        (["--trust"], "there is nothing to trust (--trust); add --sandbox"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    given: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "-d", "probe", *given])
    assert end.value.code == 2
    assert line in capsys.readouterr().err


def test_the_folder_of_a_detector_may_stand_for_its_name(tmp_path: Path) -> None:
    plugin_of(tmp_path, "pass", "my-own")
    manifest = {"schema": 1, "kind": "detector", "name": "my-own", "summary": "x", "tier": "text"}
    text = "".join(f"{name}: {value}\n" for name, value in manifest.items())
    (tmp_path / "my-own" / "detector.yaml").write_text(f'{text}entry: "detector.py:It"\n')
    folder = str(tmp_path / "my-own")
    catalog, names = with_folders((), ["probe", folder, f"{folder}/"])
    assert names == ["probe", "my-own", "my-own"]
    assert catalog.detectors["my-own"].folder == Path(folder)
    assert with_folders((), ["probe", "nobody"])[1] == ["probe", "nobody"]
    (tmp_path / "my-own").rename(tmp_path / "probe")
    path = tmp_path / "probe" / "detector.yaml"
    path.write_text(path.read_text().replace("my-own", "probe"))
    with pytest.raises(DuplicateNameError, match="two detectors are named 'probe'"):
        with_folders((), [str(tmp_path / "probe")])
