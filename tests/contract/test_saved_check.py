from __future__ import annotations

from pathlib import Path

import pytest

from afbench.catalog import scaffold
from afbench.contract import check_plugin

_CODE = """\
import numpy as np
from afbench.detection.detector import Detector
from afbench.detection.state import fields


class Mine(Detector):
    {declared}

    def __init__(self):
        self.share = 0.0

    def fit(self, cases, labels):
        self.share = float(labels.mean())

    def score(self, cases):
        return np.array([len(case.response) * self.share for case in cases])
"""


@pytest.mark.parametrize(
    ("declared", "passed", "message"),
    [
        ("fitted = fields(share=float)", True, ""),
        ("pass", True, "cannot be saved"),
        ("fitted = fields()", False, "gives other scores"),
        ("fitted = fields(share=int)", False, "float and not int"),
        ("fitted = fields(other=float)", False, "'other' of Mine is not there"),
        ("fitted = fields(share=object)", False, "cannot be saved as"),
    ],
)
def test_what_a_detector_declares_is_held_against_its_scores(
    tmp_path: Path, declared: str, passed: bool, message: str
) -> None:
    plugin = scaffold("detector", "mine", tmp_path)
    (plugin / "detector.py").write_text(_CODE.format(declared=declared))
    manifest = plugin / "detector.yaml"
    kept = [line for line in manifest.read_text().splitlines() if not line.startswith("params")]
    manifest.write_text("\n".join(kept))
    checks = {check.name: check for check in check_plugin(plugin).checks}
    assert checks["saved"].passed is passed
    assert message in checks["saved"].message
