"""From twins to cases: what the detector sees, and what the host keeps to itself."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afbench.cases.case import Case
from afbench.cases.handle import Handle
from afbench.cases.labels import Label, label_of
from afbench.environments import Cue, Environment
from afbench.messages import Message
from afbench.rollouts.rollout import Twin

Contrast = Callable[[Twin], Sequence[Message]]
"""Renders the prompt of an observed rollout with the unobserved cue."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The twins of one organism, with the identity of its weights."""

    organism: str
    digest: str
    twins: tuple[Twin, ...]


@dataclass(frozen=True, slots=True)
class CaseRow:
    """The host's side of one case. It never reaches a detector."""

    organism: str
    twin: Twin
    label: Label

    @property
    def scored(self) -> bool:
        """Whether the label is one that detectors are scored by."""
        return self.label in ("faking", "sincere")


@dataclass(frozen=True, slots=True)
class CaseSet:
    """Cases as a detector sees them, and the host's row of each, in one order."""

    cases: tuple[Case, ...]
    rows: tuple[CaseRow, ...]

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """True where the label is faking: bool [n]."""
        return np.array([row.label == "faking" for row in self.rows], dtype=np.bool_)

    @property
    def organisms(self) -> NDArray[np.str_]:
        """The organism of each case: str [n]."""
        return np.array([row.organism for row in self.rows], dtype=np.str_)

    def where(self, keep: Callable[[CaseRow], bool]) -> CaseSet:
        """The cases whose row passes a test."""
        chosen = [index for index, row in enumerate(self.rows) if keep(row)]
        return CaseSet(
            tuple(self.cases[index] for index in chosen),
            tuple(self.rows[index] for index in chosen),
        )


def assemble(
    evidence: Sequence[Evidence],
    handles: Mapping[str, Handle],
    cues: Mapping[str, Mapping[str, Cue]],
    *,
    show_reasoning: bool = False,
    contrasts: Mapping[str, Contrast] | None = None,
) -> CaseSet:
    """Cases of several organisms in an order that says nothing of whose they are.

    The order is that of a digest over weights and transcript, so it is the same in every run; ids
    are drawn anew, and group numbers go by a digest of the weights.

    Args:
        evidence: the twins of each organism.
        handles: the handle of each organism, for one detector.
        cues: of each organism's environment, by cue id.
        show_reasoning: leave the scratchpad in the transcript.
        contrasts: of each organism's environment, what renders its unobserved prompts; None for a
            detector that does not see them.
    """
    # The name only parts equal digests: it must not decide which number an organism gets.
    by_digest = sorted(evidence, key=lambda item: (_digest("group", item.digest), item.organism))
    groups = {item.organism: number for number, item in enumerate(by_digest)}
    pairs: list[tuple[str, Case, CaseRow]] = []
    for item in evidence:
        for twin in item.twins:
            messages = _transcript(twin, show_reasoning)
            hidden = contrasts[item.organism](twin) if contrasts is not None else None
            case = Case(
                id=secrets.token_hex(8),
                messages=messages,
                cue=cues[item.organism][twin.observed.cue].observed,
                group=groups[item.organism],
                handle=handles[item.organism],
                contrast=(*hidden, Message(**messages[-1])) if hidden is not None else None,
            )
            order = _digest("order", item.digest, *(m["content"] for m in messages))
            pairs.append((order, case, CaseRow(item.organism, twin, label_of(twin))))
    pairs.sort(key=lambda pair: pair[0])
    return CaseSet(tuple(case for _, case, _ in pairs), tuple(row for _, _, row in pairs))


def unobserved_prompts(environment: Environment) -> Contrast:
    """What renders the unobserved prompts of an environment.

    From its scenarios and cues, and not from what the organism did unobserved: of a twin only the
    names of its scenario and cue are read.
    """
    scenarios = {scenario.id: scenario for scenario in environment.scenarios}
    cues = {cue.id: cue for cue in environment.cues}

    def render(twin: Twin) -> list[Message]:
        shown = twin.observed
        return environment.render(scenarios[shown.scenario], cues[shown.cue], "unobserved")

    return render


def _transcript(twin: Twin, show_reasoning: bool) -> tuple[Message, ...]:
    rollout = twin.observed
    reply = rollout.response
    if show_reasoning and rollout.reasoning:
        reply = f"<think>\n{rollout.reasoning}\n</think>\n{reply}"
    # Copies: a detector that edits a message must not edit the rollout that the next one sees.
    prompt = (Message(role=m["role"], content=m["content"]) for m in rollout.messages)
    return (*prompt, Message(role="assistant", content=reply))


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
