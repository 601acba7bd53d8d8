"""What holds for every test: a cache of its own, no network, and few threads."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

FAIL_ON_SKIP = "AFBENCH_FAIL_ON_SKIP"

# Set before torch and the hub's client are imported, which read these once. Sub-processes of tests
# inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.pop("AFBENCH_PLUGINS", None)

# A test is slow on a busy machine, and no failure for it.
settings.register_profile("ci", deadline=None)
settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With AFBENCH_FAIL_ON_SKIP=1 a skipped test fails the run: what CI skips, nobody checks."""
    skipped = _skipped(session.config)
    if os.environ.get(FAIL_ON_SKIP) == "1" and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a run fails whose tests all passed."""
    skipped = _skipped(terminalreporter.config)
    if os.environ.get(FAIL_ON_SKIP) == "1" and skipped:
        terminalreporter.write_line(f"{FAIL_ON_SKIP}: {skipped} skipped, which fails this run")


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # A worker of xdist has no reporter; its controller counts.
    return len(reporter.stats.get("skipped", ())) if reporter else 0
