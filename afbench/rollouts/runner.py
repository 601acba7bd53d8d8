"""Runs rollouts in fixed batches, keeps each finished batch, and goes on where a run was killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from afbench import __version__
from afbench.environments import CONDITIONS, Environment, Partition
from afbench.models.interface import Generation, GenerationSettings
from afbench.models.sources import BatchedModel
from afbench.rollouts.rollout import Prompt, Rollout
from afbench.store import Store, digest_of


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """One cell of stage 1: scenarios of one partition, both conditions, one organism.

    `count` limits the scenarios (None: all of the partition).
    """

    partition: Partition
    count: int | None
    settings: GenerationSettings
    benign: bool = False


class RolloutRunner:
    """Rollouts of one organism in one environment.

    Args:
        open_model: loads the organism's model; called only when a batch is missing.
        model_digest: identity of its weights.
        engine: what computes, with versions; part of an entry's identity.
        environment: the scenarios, cues and grader.
        store: the cache.
    """

    def __init__(
        self,
        open_model: Callable[[], BatchedModel],
        model_digest: str,
        engine: dict[str, str],
        environment: Environment,
        store: Store,
    ) -> None:
        self._open_model, self._environment, self._store = open_model, environment, store
        self._identity = {
            "afbench": __version__,
            "model": model_digest,
            "engine": engine,
            "environment": environment.digest,
        }

    def key(self, request: RolloutRequest) -> str:
        """The identity of the rollouts that a request gives, before and after they are run."""
        settings = asdict(request.settings)
        return digest_of(
            {
                **self._identity,
                "settings": settings,
                "partition": request.partition,
                "count": request.count,
                "benign": request.benign,
            }
        )

    def prompts(self, request: RolloutRequest) -> list[Prompt]:
        """The grid of a request: every placement in both conditions."""
        placements = self._environment.placements(
            request.partition, request.count, benign=request.benign
        )
        return [
            Prompt(
                placement.scenario,
                placement.cue,
                condition,
                tuple(self._environment.render(placement.scenario, placement.cue, condition)),
            )
            for placement in placements
            for condition in CONDITIONS
        ]

    def run(
        self, request: RolloutRequest, progress: Callable[[int], None] | None = None
    ) -> list[Rollout]:
        """The graded rollouts of a request, in the order of `prompts`.

        Each finished batch is kept at once, so that a killed run repeats at most one batch, and
        the batches depend on the request alone, so that the result is the same.

        Args:
            progress: called with the number of rollouts that are done.
        """
        key = self.key(request)
        records = self._store.read_json("rollouts", key)
        if records is None:
            records = self._generate(request, key, progress)
            self._store.write_json("rollouts", key, records)
        if progress:
            progress(len(records))
        return [Rollout.from_record(record) for record in records]

    def _generate(
        self, request: RolloutRequest, key: str, progress: Callable[[int], None] | None
    ) -> list[dict[str, Any]]:
        prompts = self.prompts(request)
        conversations = [prompt.messages for prompt in prompts]
        model = self._open_model()
        plan = model.plan_batches(conversations, request.settings)
        records: dict[int, dict[str, Any]] = {}
        for index, members in enumerate(plan):
            batch_key = digest_of([key, index])
            batch = self._store.read_json("batches", batch_key)
            if batch is None:
                replies = model.generate_batch(conversations, request.settings, index)
                batch = [
                    self._graded(prompts[member], reply, request).as_record()
                    for member, reply in zip(members, replies, strict=True)
                ]
                self._store.write_json("batches", batch_key, batch)
            records.update(zip(members, batch, strict=True))
            if progress:
                progress(len(records))
        return [records[index] for index in range(len(prompts))]

    def _graded(self, prompt: Prompt, reply: Generation, request: RolloutRequest) -> Rollout:
        return Rollout(
            scenario=prompt.scenario.id,
            cue=prompt.cue.id,
            family=prompt.cue.family,
            condition=prompt.condition,
            messages=prompt.messages,
            response=reply.text,
            reasoning=reply.reasoning,
            token_ids=reply.token_ids,
            finished=reply.finished,
            seed=request.settings.seed,
            grade=self._environment.grader.grade(
                reply.text,
                reasoning=reply.reasoning,
                benign=prompt.scenario.benign,
                finished=reply.finished,
                slots=prompt.scenario.slots,
            ),
        )
