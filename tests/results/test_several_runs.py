"""Several splits in one go, and several processes: the same records, and less to compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from afbench.catalog.discovery import Catalog, discover
from afbench.errors import NotEnoughCasesError
from afbench.results.progress import Silent
from afbench.results.record import ResultRecord, RunSettings
from afbench.results.run import Options, run_each
from afbench.store import Store

pytestmark = pytest.mark.slow

MEMBERS = [
    f"desk-{kind}-{recipe}-s0"
    for recipe in ("r4", "r16")
    for kind in ("faker", "values-talk", "cue-conditional")
]
SHIPPED = discover()


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def catalog(names: Sequence[str] = MEMBERS) -> Catalog:
    kept = {name: SHIPPED.get("organism", name) for name in ("nano-base", *names)}
    return replace(SHIPPED, organisms=kept)


def settings(split: str) -> RunSettings:
    return RunSettings(
        detectors=["floor-layer-zero", "floor-bag-of-words"], floors=False, organism="all",
        split=split, fit_scenarios=12, test_scenarios=12, replicates=50,
    )  # fmt: skip


Execute = Callable[..., list[ResultRecord]]


@pytest.fixture(scope="module")
def execute(tmp_path_factory: pytest.TempPathFactory) -> Execute:
    def run(*splits: str, cache: str, listener: Listener | None = None, **options: bool | int
            ) -> list[ResultRecord]:  # fmt: skip
        folder = tmp_path_factory.getbasetemp()
        outcomes = run_each(
            [settings(split) for split in splits],
            catalog(),
            Store(folder / cache),
            tmp_path_factory.mktemp("runs"),
            listener or Silent(),
            Options(**options),  # type: ignore[arg-type]
        )
        return [outcome.record for outcome in outcomes]

    return run


def test_two_processes_give_the_record_of_one(execute: Execute) -> None:
    [alone] = execute("recipe", cache="one")
    [together] = execute("recipe", cache="two", jobs=2)
    assert alone.digest == together.digest
    of_the_day = {"created": True, "timings": True, "cache": True, "spending": {"seconds"}}
    assert alone.model_dump(exclude=of_the_day) == together.model_dump(exclude=of_the_day)
    assert together.cache.computed_forward_tokens >= alone.cache.computed_forward_tokens > 0
    [again] = execute("recipe", cache="two")
    assert again.digest == alone.digest
    assert again.cache.computed_forward_tokens == 0, "what the processes kept serves this one"


def test_splits_share_rollouts_and_activations_and_one_that_cannot_be_is_left_out(
    execute: Execute,
) -> None:
    listener = Listener()
    given = ("in-distribution", "organism", "recipe", "environment", "cue")
    records = execute(*given, cache="three", listener=listener, lenient=True)
    assert [record.settings.split for record in records] == [
        "in-distribution", "organism", "recipe", "cue",
    ]  # fmt: skip
    assert any("split environment is left out" in line for line in listener.lines)
    computed = {one.settings.split: one.cache.computed_forward_tokens for one in records}
    assert computed["in-distribution"] > 0
    assert computed["organism"] == computed["recipe"] == 0
    [recipe] = execute("recipe", cache="one")
    assert recipe.digest == records[2].digest


def test_a_split_that_was_named_must_be_possible(execute: Execute) -> None:
    with pytest.raises(NotEnoughCasesError, match="environment"):
        execute("recipe", "environment", cache="three")
    with pytest.raises(NotEnoughCasesError):
        execute("environment", cache="three", lenient=True)
