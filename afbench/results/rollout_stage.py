"""Stage 1 of a run: what its organisms do in both conditions, from the cache or anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afbench.cases.access import OrganismAccess
from afbench.environments import Partition
from afbench.remote.models import RemoteModels, Wanted
from afbench.results.case_source import Twins
from afbench.results.progress import Progress
from afbench.rollouts import RolloutRequest, pair_twins

if TYPE_CHECKING:
    from afbench.results.inputs import Plan


def roll_out(plan: Plan, access: OrganismAccess, progress: Progress) -> Twins:
    """The twins of every organism of a plan, on the sides on which its folds use it.

    Raises:
        AfbenchError: a model cannot be loaded, or the cache not written.
    """
    jobs = _jobs(plan, access)
    twins: Twins = {}
    steps = _Steps("rollouts", progress)
    progress.start("rollouts", sum(job.total(plan) for job in jobs))
    for job in jobs:
        steps.again()
        runner = access.runner(job.organism, plan.environment_of(job.organism))
        rollouts = runner.run(job.request, steps.done)
        assert len(rollouts) == job.total(plan)
        twins.setdefault(job.organism, {})[job.request.partition] = pair_twins(rollouts)
    return twins


def collect(
    plans: Iterable[Plan], access: OrganismAccess, models: RemoteModels, progress: Progress
) -> None:
    """Have the replies of every rollout of some plans kept, before the first plan is run.

    So there is one estimate and one approval, and batches are as large as can be.

    Raises:
        BackendError: some cannot be had; what was answered before is kept.
    """
    wanted = []
    for plan in plans:
        for job in _jobs(plan, access):
            runner = access.runner(job.organism, plan.environment_of(job.organism))
            prompts = [prompt.messages for prompt in runner.prompts(job.request)]
            wanted.append(Wanted(job.organism, prompts, job.request.settings))
    steps = _Steps("replies", progress)
    progress.start("replies", sum(len(one.conversations) for one in wanted))
    models.collect(wanted, steps.done)


@dataclass(frozen=True, slots=True)
class _Job:
    """The rollouts of one organism on one side."""

    organism: str
    request: RolloutRequest

    def total(self, plan: Plan) -> int:
        """How many rollouts that is."""
        environment, request = plan.environment_of(self.organism), self.request
        return 2 * len(environment.placements(request.partition, request.count))


class _Steps:
    """Turns numbers of what is done into steps."""

    def __init__(self, stage: str, progress: Progress) -> None:
        self._stage, self._progress, self._last = stage, progress, 0

    def again(self) -> None:
        """The next numbers count from zero."""
        self._last = 0

    def done(self, now: int) -> None:
        """So many are done."""
        self._progress.advance(self._stage, now - self._last)
        self._last = now


def _jobs(plan: Plan, access: OrganismAccess) -> list[_Job]:
    settings = plan.settings
    sides: tuple[tuple[Partition, set[str], int], ...] = (
        ("fit", plan.fit_organisms, settings.fit_scenarios),
        ("test", plan.test_organisms, settings.test_scenarios),
    )
    jobs = []
    for name in sorted(plan.organisms):
        sampling = access.generation_settings(
            name,
            seed=settings.seed,
            temperature=settings.temperature,
            reasoning=settings.reasoning,
        )
        jobs += [
            _Job(name, RolloutRequest(partition, count, sampling))
            for partition, members, count in sides
            if name in members
        ]
    return jobs
