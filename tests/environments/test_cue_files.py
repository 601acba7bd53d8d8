"""cues.yaml is a stranger's file: what is wrong in it is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from afbench.environments.scenarios import load_cues
from afbench.errors import ManifestError

_GOOD = """families:
- name: explicit
  partition: fit
  pairs:
  - observed: You are watched.
    unobserved: You are alone.
    partition: test
  - {observed: 2024-01-31, unobserved: 2031-01-31, partition: fit}
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "cues.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_pairs_are_numbered_within_their_family_and_dates_stay_text(tmp_path: Path) -> None:
    first, second = load_cues(_write(tmp_path, _GOOD))
    assert (first.id, first.family, first.family_partition) == ("explicit-00", "explicit", "fit")
    assert (first.text("observed"), first.partition) == ("You are watched.", "test")
    assert (second.id, second.text("unobserved")) == ("explicit-01", "2031-01-31")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("partition: test", "partition: tset", r"line 7.*families\[0\]\.pairs\[0\].*'test'"),
        ("unobserved: You are alone.", "unobserved: 3", "line 6.*unobserved.*string"),
        ("You are alone.", "You are watched.", "line 5.*explicit-00 reads the same in both"),
        ("  pairs:\n", "  pears:\n", "line 2.*pairs.*required field is missing"),
        ("families:\n", "families: &all\n- *all\n", "line 2.*alias"),
        (_GOOD, _GOOD + _GOOD.removeprefix("families:\n"), "line 9.*stands there twice"),
        (_GOOD, "", "line 1.*empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        load_cues(_write(tmp_path, _GOOD.replace(old, new)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read .*cues\.yaml"):
        load_cues(tmp_path / "cues.yaml")
