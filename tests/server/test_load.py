"""200 clients at once, while server and workers are killed: nothing is lost, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from afbench.leaderboard.release import Ladders
from afbench.server.accounts import Accounts
from afbench.server.database import Database
from afbench.server.schema import Account, Submission
from afbench.submission.bundle import archive_digest
from afbench.submission.client import DIGEST_HEADER, PATH
from tests.server.bundles import Made
from tests.server.databases import free_port
from tests.server.fast import entries_on
from tests.server.processes import Process, children, started, until
from tests.server.running import bearer
from tests.server.seasons import OpenSeason
from tests.server.test_worker import by_the_ladder

pytestmark = pytest.mark.slow

CLIENTS, ACCOUNTS = 200, 50
SECONDS = 600.0  # far more than it takes: the machine may be busy


async def sent(client: httpx2.AsyncClient, token: str, bundle: Path) -> tuple[str, str]:
    """Send a bundle until there is a receipt, as the client does; its digest and its number."""
    content, digest = bundle.read_bytes(), archive_digest(bundle)
    headers = bearer(token) | {DIGEST_HEADER: digest}
    end = time.monotonic() + SECONDS
    while True:
        assert time.monotonic() < end
        try:
            reply = await client.post(PATH, headers=headers, content=content)
        except httpx2.TransportError:  # it is being killed, or starts again
            await asyncio.sleep(0.2)
            continue
        if reply.status_code in (200, 201):
            return digest, str(reply.json()["id"])
        assert reply.status_code == 503, reply.text
        await asyncio.sleep(0.2)


async def sent_by_all(url: str, tokens: list[str], bundles: list[Path]) -> dict[str, str]:
    limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        tasks = [
            sent(client, tokens[number % len(tokens)], bundle)
            for number, bundle in enumerate(bundles)
        ]
        return dict(await asyncio.gather(*tasks))


def counted(database: Database) -> Counter[str]:
    with database.read() as session:
        return Counter(session.scalars(select(Submission.state)))


async def killing(
    stack: ExitStack, command: list[str], server: Process, database: Database
) -> Process:
    """Kill a worker when some are done, then the server in mid-run, and start it again."""

    async def when(share: float) -> None:
        while sum(counted(database).values()) < share * CLIENTS:
            await asyncio.sleep(0.1)

    await when(0.15)
    os.kill(children(server.process.pid)[0], signal.SIGKILL)
    await when(0.4)
    server.kill()
    await asyncio.sleep(0.3)
    again = stack.enter_context(started(command))
    await when(0.7)
    os.kill(children(again.process.pid)[-1], signal.SIGKILL)
    return again


async def run(
    stack: ExitStack, command: list[str], url: str, tokens: list[str], bundles: list[Path],
    database: Database,
) -> tuple[dict[str, str], Process]:  # fmt: skip
    server = stack.enter_context(started(command))
    await asyncio.to_thread(server.wait_for, "listening")
    receipts, again = await asyncio.gather(
        sent_by_all(url, tokens, bundles), killing(stack, command, server, database)
    )
    return receipts, again


def test_nothing_is_lost_or_scored_twice(
    url: str, made: Made, season: OpenSeason, tmp_path: Path
) -> None:
    database = Database(url)
    database.migrate()
    names = [f"account-{number}" for number in range(ACCOUNTS)]
    tokens = [Accounts(database, burst=10_000).create_token(name)[1] for name in names]
    bundles = [made.bundle(1000 + number) for number in range(CLIENTS)]
    given: dict[str, Any] = {
        "data": str(tmp_path / "data"), "board": str(season.board), "season": season.name,
        "url": url, "key": str(season.place / "key.pem"), "sealed": str(season.sealed),
        "port": free_port(), "workers": 2, "seconds": 0.01, "lease": 3.0,
    }  # fmt: skip
    command = ["-m", "tests.server.fast_server", "serve", json.dumps(given)]
    with ExitStack() as stack:
        receipts, server = asyncio.run(
            run(stack, command, f"http://127.0.0.1:{given['port']}", tokens, bundles, database)
        )
        until(
            lambda: counted(database)["done"] == CLIENTS, SECONDS,
            lambda: (counted(database), server.lines[-5:]), pause=0.5,
        )  # fmt: skip
        assert server.end() == 0

    with database.read() as session:
        query = select(Submission, Account.name).join(Account)
        rows = session.execute(query.order_by(Submission.decided, Submission.number)).all()
    # Each receipt is one submission, and each submission somebody's receipt.
    assert len(receipts) == CLIENTS
    assert {row.archive: row.id for row, _ in rows} == receipts
    # Each has one sound entry on the leaderboard.
    entries = {entry.record: entry for entry in entries_on(season.board)}
    assert sorted(entries) == sorted(receipts)
    # And each account was released what its Ladder gives in the order of decisions: once.
    best: dict[str, float] = {}
    for name in names:
        own = [row.archive for row, account in rows if account == name]
        shown = [entries[archive].figures.auroc.value for archive in own]
        assert shown == by_the_ladder(own)
        best[name] = max(value for value in shown if value is not None)
    assert Ladders.load(season.sealed).best == best
    kept = sorted(path.name for path in (tmp_path / "data" / "bundles").iterdir())
    assert kept == sorted(f"{digest.removeprefix('sha256:')}.tar.gz" for digest in receipts)
    database.close()
