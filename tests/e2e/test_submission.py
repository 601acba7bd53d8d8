"""A stranger's detector from its folder to the leaderboard, by commands as a user gives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afbench.submission.archive import pack, unpack
from afbench.submission.folder import files_of
from tests.submission.small_run import LENGTH, filled_in, folder_of
from tests.submission.upload_server import TOKEN, upload_server

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

SMALL = ["-o", "flattery-faker-r4-s0", "--fit-scenarios", "10", "--test-scenarios", "20"]
RULES = """\
schema: 1
season: spring
summary: A season of small runs.
afbench: {version}
opens: 2020-01-01
closes: 2999-12-31
public: {{organism: flattery-faker-r4-s0, fit_scenarios: 10, test_scenarios: 20}}
"""


def afbench(*arguments: str, at: Path, code: int = 0, **variables: str) -> str:
    """What a command says; an error is one line."""
    done = subprocess.run(
        [sys.executable, "-m", "afbench.cli.app", *arguments],
        cwd=at,
        env={**os.environ, "AFBENCH_CACHE": str(at / "cache"), **variables},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    if code == 2:
        [line] = done.stderr.splitlines()
        assert line.startswith("error: ")
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("submission")


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    folder = folder_of(place, "by-length", LENGTH, tier="text")
    (folder / "submission.yaml").unlink()
    assert "submission.yaml" in afbench("submit", "by-length", "--init", at=place)
    filled_in(folder)
    said = afbench("submit", "by-length", *SMALL, at=place)
    [path] = (place / "submissions").iterdir()
    assert said.splitlines()[-1].startswith("Next: afbench rescore ")
    return path


def test_every_figure_of_a_bundle_and_of_its_run_comes_out_again(place: Path, bundle: Path) -> None:
    [run] = (place / "runs").iterdir()
    for path in (bundle, run):
        assert "comes out again" in afbench("rescore", str(path), at=place)


def test_an_altered_score_fails_and_names_the_figures(
    place: Path, bundle: Path, tmp_path: Path
) -> None:
    [run] = (place / "runs").iterdir()
    for name, content in files_of(run).items():
        (tmp_path / name).write_bytes(content)
    scores = json.loads((tmp_path / "scores.json").read_text())
    scores["scores"]["by-length"] = sorted(scores["scores"]["by-length"])
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    said = afbench("rescore", str(tmp_path), at=place, code=1)
    assert "detectors.by-length.auroc.value: recorded" in said


@pytest.mark.parametrize("what", ["bomb", "link", "manifest", "import", "altered"])
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    place: Path, bundle: Path, tmp_path: Path, what: str
) -> None:
    path = folder_of(tmp_path, "wrong", LENGTH, tier="text")
    if what == "bomb":
        path = tmp_path / "x.tar.gz"
        path.write_bytes(pack({"detector.yaml": bytes(300_000_000)}))
    elif what == "link":
        (path / "data").symlink_to("/etc/passwd")
    elif what == "manifest":
        (path / "submission.yaml").write_text("schema: 1\n")
    elif what == "import":
        path = folder_of(tmp_path / "x", "wrong", "import no_such_library\n", tier="text")
    else:
        unpack(bundle, tmp_path / "bundle")
        (tmp_path / "bundle" / "record.json").write_text("{}")
        path = tmp_path / "bundle"
    into = ["--into", str(tmp_path / "submissions"), "--out", str(tmp_path / "runs")]
    afbench("submit", str(path), *SMALL, *into, at=place, code=2)
    assert not (tmp_path / "submissions").exists() and not (tmp_path / "runs").exists()


def test_a_bundle_is_sent_with_the_token_of_the_environment(place: Path, bundle: Path) -> None:
    with upload_server() as server:
        to = ["submit", str(bundle), "--to", server.url]
        for _ in range(2):
            assert "Submission 1: queued" in afbench(*to, at=place, AFBENCH_TOKEN=TOKEN)
        assert list(server.stored.values()) == [bundle.read_bytes()]
        said = afbench(*to, at=place, code=2, AFBENCH_TOKEN="another")
        assert "the token is not known" in said
        afbench(*to, at=place, code=2, AFBENCH_TOKEN="")


def test_a_bundle_gets_onto_the_leaderboard_and_tampering_is_seen(
    place: Path, bundle: Path
) -> None:
    from afbench import __version__

    rules = place / "leaderboard" / "seasons" / "spring" / "season.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(RULES.format(version=__version__))
    afbench("leaderboard", "keygen", "key.pem", at=place)
    signing = ["leaderboard", "sign", str(bundle), "--season", "spring", "--key", "key.pem"]
    afbench(*signing, "--status", "external", at=place, code=2)
    afbench(*signing, "--status", "verified", at=place, code=2)
    afbench(*signing, at=place)
    assert "a replay" in afbench(
        *signing, "--status", "external", "--link", "https://example.org", at=place, code=2
    )
    assert "1 entries are sound (1 reported)" in afbench("leaderboard", "validate", at=place)
    [entry] = (place / "leaderboard" / "results").rglob("*.json")
    flag = ["leaderboard", "flag", str(entry), "--key", "key.pem"]
    assert "unreliable" in afbench(*flag, "--reason", "Tuned on the test.", at=place)
    afbench("leaderboard", "validate", at=place)
    entry.write_text(entry.read_text().replace("Tuned on the test", "Works well"))
    said = afbench("leaderboard", "validate", at=place, code=1)
    assert "the signature does not fit: the entry was altered" in said
