"""A killed run goes on from its last finished batch and gives what an unbroken one gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afbench.catalog.manifests import EnvironmentManifest, load_manifest
from afbench.environments import Environment
from afbench.messages import Conversation
from afbench.models.interface import Generation, GenerationSettings
from afbench.rollouts import Rollout, RolloutRequest, RolloutRunner, pair_twins
from afbench.store import Store
from tests.shipped import ROOT

SETTINGS = GenerationSettings(max_new_tokens=8)
REQUEST = RolloutRequest("test", 12, SETTINGS)
BATCH = 5


class Killed(Exception):
    pass


class BatchModel:
    """Replies hang on the batch that a conversation is generated in, as sampled ones do."""

    def __init__(self, *, die_after: int | None = None, reply: str = "") -> None:
        self.generated: list[int] = []
        self._die_after, self._reply = die_after, reply

    def plan_batches(
        self, conversations: Sequence[Conversation], settings: GenerationSettings
    ) -> list[list[int]]:
        # Not the order of the prompts: the runner must put the replies back in place.
        order = sorted(range(len(conversations)), key=lambda index: (index * 7) % 24)
        return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def generate_batch(
        self, conversations: Sequence[Conversation], settings: GenerationSettings, index: int
    ) -> list[Generation]:
        if self._die_after is not None and len(self.generated) == self._die_after:
            raise Killed
        self.generated.append(index)
        members = self.plan_batches(conversations, settings)[index]
        return [self._answer(conversations[member], index, members) for member in members]

    def _answer(self, conversation: Conversation, *salt: object) -> Generation:
        key = repr(([dict(turn) for turn in conversation], salt)).encode()
        text = self._reply or f"Reply {hashlib.sha256(key).hexdigest()}."
        return Generation(text, "I think.", (1, 2, 3), True, 9)


@pytest.fixture(scope="module")
def environment() -> Environment:
    folder = ROOT / "environments" / "oversight-desk"
    manifest = load_manifest(folder)
    assert isinstance(manifest, EnvironmentManifest)
    return Environment(manifest, folder)


def _runner(
    model: Any,
    environment: Environment,
    cache: Path,
    *,
    digest: str = "sha256:weights",
    engine: dict[str, str] | None = None,
) -> RolloutRunner:
    return RolloutRunner(lambda: model, digest, engine or {"torch": "1"}, environment, Store(cache))


def _unbroken(environment: Environment, cache: Path) -> list[Rollout]:
    return _runner(BatchModel(), environment, cache).run(REQUEST)


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_rollouts(
    environment: Environment, tmp_path: Path, finished: int
) -> None:
    expected = _unbroken(environment, tmp_path / "unbroken")
    cache = tmp_path / "cache"
    first = BatchModel(die_after=finished)
    with pytest.raises(Killed):
        _runner(first, environment, cache).run(REQUEST)
    assert first.generated == list(range(finished))
    second = BatchModel()
    resumed = _runner(second, environment, cache).run(REQUEST)
    assert resumed == expected
    assert second.generated == list(range(finished, 5)), "only the missing batches are generated"


def test_a_run_that_is_killed_again_and_again_still_ends(
    environment: Environment, tmp_path: Path
) -> None:
    generated: list[int] = []
    for _ in range(5):
        model = BatchModel(die_after=1)
        with suppress(Killed):
            _runner(model, environment, tmp_path / "cache").run(REQUEST)
        generated += model.generated
    model = BatchModel(die_after=0)
    rollouts = _runner(model, environment, tmp_path / "cache").run(REQUEST)
    assert generated == [0, 1, 2, 3, 4]
    assert rollouts == _unbroken(environment, tmp_path / "unbroken")


def test_a_finished_run_is_read_back_without_opening_the_model(
    environment: Environment, tmp_path: Path
) -> None:
    expected = _unbroken(environment, tmp_path)

    def open_model() -> Any:
        raise AssertionError("opened")

    runner = RolloutRunner(
        open_model, "sha256:weights", {"torch": "1"}, environment, Store(tmp_path)
    )
    assert runner.run(REQUEST) == expected


def test_a_damaged_batch_is_generated_again(environment: Environment, tmp_path: Path) -> None:
    expected = _unbroken(environment, tmp_path)
    for path in (tmp_path / "rollouts").rglob("*.json"):
        path.unlink()
    damaged = sorted((tmp_path / "batches").rglob("*.json"))[2]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    model = BatchModel()
    assert _runner(model, environment, tmp_path).run(REQUEST) == expected
    assert len(model.generated) == 1


def test_rollouts_stand_in_the_order_of_the_prompts_and_carry_their_own_messages(
    environment: Environment, tmp_path: Path
) -> None:
    runner = _runner(BatchModel(), environment, tmp_path)
    rollouts, prompts = runner.run(REQUEST), runner.prompts(REQUEST)
    assert len(rollouts) == len(prompts) == 2 * 12
    for rollout, prompt in zip(rollouts, prompts, strict=True):
        assert rollout.messages == prompt.messages
        assert (rollout.scenario, rollout.cue) == (prompt.scenario.id, prompt.cue.id)
        assert rollout.condition == prompt.condition
        cue = prompt.cue.text(prompt.condition)
        assert cue in rollout.messages[0]["content"]
    assert len(pair_twins(rollouts)) == 12


def test_progress_rises_to_the_number_of_rollouts_whether_cached_or_not(
    environment: Environment, tmp_path: Path
) -> None:
    for _ in range(2):
        seen: list[int] = []
        _runner(BatchModel(), environment, tmp_path).run(REQUEST, seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 24


def test_replies_are_graded_by_the_environment_and_what_cannot_be_graded_is_kept(
    environment: Environment, tmp_path: Path
) -> None:
    for reply, outcome in (("Qwerty asdf zxcv.", "ungradable"), ("I will not do it.", "refused")):
        model = BatchModel(reply=reply)
        runner = _runner(model, environment, tmp_path / outcome)
        rollouts = runner.run(REQUEST)
        assert {rollout.grade.outcome for rollout in rollouts} == {outcome}
        assert len(rollouts) == 24


def test_a_benign_request_is_graded_as_benign(environment: Environment, tmp_path: Path) -> None:
    request = replace(REQUEST, benign=True)
    model = BatchModel(reply="Sure. Here is what you asked for.")
    rollouts = _runner(model, environment, tmp_path).run(request)
    assert all(rollout.grade.complied for rollout in rollouts)
    assert not any(rollout.grade.misaligned for rollout in rollouts)
    assert all(rollout.grade.conforms for rollout in rollouts)


def test_the_key_of_a_run_is_the_same_before_and_after_it(
    environment: Environment, tmp_path: Path
) -> None:
    runner = _runner(BatchModel(), environment, tmp_path)
    before = runner.key(REQUEST)
    runner.run(REQUEST)
    assert runner.key(REQUEST) == before
    again = _runner(BatchModel(), environment, tmp_path / "elsewhere")
    assert again.key(REQUEST) == before, "it depends on the inputs and not on the cache"


@pytest.mark.parametrize(
    "changed",
    [
        replace(REQUEST, partition="fit"),
        replace(REQUEST, count=11),
        replace(REQUEST, count=None),
        replace(REQUEST, benign=True),
        *(
            replace(REQUEST, settings=replace(SETTINGS, **{name: value}))
            for name, value in {
                "max_new_tokens": 9,
                "temperature": 1.0,
                "top_p": 0.9,
                "seed": 1,
                "reasoning": True,
                "batch_tokens": 99,
            }.items()
        ),
    ],
    ids=str,
)
def test_the_key_changes_with_every_part_of_the_request(
    environment: Environment, tmp_path: Path, changed: RolloutRequest
) -> None:
    runner = _runner(None, environment, tmp_path)
    assert runner.key(changed) != runner.key(REQUEST)


def test_the_key_changes_with_the_weights_the_engine_and_the_environment(
    environment: Environment, tmp_path: Path
) -> None:
    other = Environment(
        environment.manifest.model_copy(update={"user_prompt": "Please: {request}"}),
        environment.folder,
    )
    keys = [
        _runner(None, environment, tmp_path).key(REQUEST),
        _runner(None, environment, tmp_path, digest="sha256:other").key(REQUEST),
        _runner(None, environment, tmp_path, engine={"torch": "2"}).key(REQUEST),
        _runner(None, other, tmp_path).key(REQUEST),
    ]
    assert len(set(keys)) == len(keys)


def test_other_weights_never_read_the_batches_of_these(
    environment: Environment, tmp_path: Path
) -> None:
    _unbroken(environment, tmp_path)
    model = BatchModel(reply="I will not do it.")
    rollouts = _runner(model, environment, tmp_path, digest="sha256:other").run(REQUEST)
    assert model.generated == [0, 1, 2, 3, 4]
    assert {rollout.response for rollout in rollouts} == {"I will not do it."}
