"""`python -m tests.server.fast_server serve|work JSON`: the real server with the fast scorer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from afbench.server.serving import serve, work
from afbench.server.settings import Settings, WorkSettings
from tests.server.fast import scorer_of


def main() -> None:
    what, text = sys.argv[1:]
    given: dict[str, Any] = json.loads(text)
    settings = Settings(
        Path(given["data"]), Path(given["board"]), given["season"], given["url"],
        rate=1000.0, burst=10_000,
    )  # fmt: skip
    if what == "serve":
        worker = [sys.executable, "-m", "tests.server.fast_server", "work", text]
        serve(settings, "127.0.0.1", given["port"], worker, given["workers"])
        return
    scorer = scorer_of(settings.board, Path(given["key"]))
    scorer.seconds = given["seconds"]
    times = WorkSettings(lease=given["lease"], poll=0.1, attempts=1000)
    work(settings, scorer, Path(given["sealed"]), times, with_parent=True)


if __name__ == "__main__":
    main()
