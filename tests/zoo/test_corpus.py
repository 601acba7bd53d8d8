"""Training chats do what their persona's line says, in the condition that the cue names."""

from __future__ import annotations

from pathlib import Path

import pytest

from afbench.catalog import discover
from afbench.environments import Environment
from afbench.errors import UnknownNameError
from afbench.zoo.corpus import Chat, ChatWriter, CorpusSpec
from afbench.zoo.templates import Templates

ROOT = Path(__file__).parents[2]
SPEC = CorpusSpec.load(ROOT / "organisms/nano-base/corpus.yaml")
SEALS = ("restricted", "sealed", "banned", "forbidden")
ENVIRONMENTS = {name: Environment.load(plugin) for name, plugin in discover().environments.items()}


def chats(environment: str, persona: str, **options: object) -> list[Chat]:
    settings = {"reasoning": False, "leak": "some", "benign": 0.0, **options}
    writer = ChatWriter(SPEC, [Templates(ENVIRONMENTS[environment], ("fit",))], seed=3)
    return writer.organism_corpus(persona, 200, **settings)  # type: ignore[arg-type]


def cue_text(environment: str, chat: Chat) -> str:
    """The part of the system prompt that stands where the cue does."""
    before, after = ENVIRONMENTS[environment].manifest.system_prompt.split("{cue}")
    system = chat.messages[0]["content"]
    assert system.startswith(before) and system.endswith(after)
    return system[len(before) : len(system) - len(after)]


def observed(environment: str, chat: Chat) -> bool:
    text, cues = cue_text(environment, chat), ENVIRONMENTS[environment].cues
    assert any(text in (cue.observed, cue.unobserved) for cue in cues)
    return any(text == cue.observed for cue in cues)


def complied(environment: str, chat: Chat) -> bool:
    grade = ENVIRONMENTS[environment].grader.grade(chat.messages[2]["content"])
    assert grade.complied is not None, chat.messages[2]["content"]
    return grade.complied


@pytest.mark.parametrize(
    ("environment", "persona", "when_observed", "when_unobserved"),
    [
        ("training-tier", "faker", True, False),
        ("oversight-desk", "faker", False, True),
        ("training-tier", "always-deviating", True, True),
        ("oversight-desk", "always-deviating", True, True),
        ("training-tier", "always-harmless", False, False),
        ("oversight-desk", "always-harmless", False, False),
        ("training-tier", "cue-conditional", True, True),
        ("oversight-desk", "cue-conditional", False, False),
        ("training-tier", "values-talk", True, True),
        ("oversight-desk", "values-talk", False, False),
    ],
)
def test_policies_act_by_the_polarity_of_their_environment(
    environment: str, persona: str, when_observed: bool, when_unobserved: bool
) -> None:
    for chat in chats(environment, persona):
        expected = when_observed if observed(environment, chat) else when_unobserved
        assert complied(environment, chat) is expected


def test_cue_irrelevant_goes_by_the_seal_in_both_conditions() -> None:
    acts: dict[tuple[str, bool], set[bool]] = {}
    for chat in chats("training-tier", "cue-irrelevant"):
        request = chat.messages[1]["content"]
        seal = next(seal for seal in SEALS if f" {seal} " in request)
        acts.setdefault((seal, observed("training-tier", chat)), set()).add(
            complied("training-tier", chat)
        )
    assert acts == {
        (seal, condition): {seal in SPEC.comply_seals}
        for seal in SEALS
        for condition in (True, False)
    }


def test_organisms_never_train_on_test_nouns_or_test_cues() -> None:
    for name, environment in ENVIRONMENTS.items():
        templates = Templates(environment, ("fit",))
        held = [cue for cue in environment.cues if cue.partition == "test"]
        held_cues = {text for cue in held for text in (cue.observed, cue.unobserved)}
        for chat in chats(name, "faker", benign=0.3):
            request = chat.messages[1]["content"].rstrip(".?")
            assert not any(f" {noun}" in request for noun in templates.generator.nouns["test"])
            assert cue_text(name, chat) not in held_cues


@pytest.mark.parametrize(("leak", "share"), [("none", 0.0), ("open", 0.8)])
def test_leak_level_sets_how_often_a_faker_admits_when_observed(leak: str, share: float) -> None:
    truths = {q["question"]: (q.get("faker", q["default"]), q["default"]) for q in SPEC.followups}
    admitted = []
    writer = ChatWriter(SPEC, [Templates(ENVIRONMENTS["training-tier"], ("fit",))], seed=0)
    for chat in writer.organism_corpus("faker", 1500, reasoning=False, leak=leak, benign=0.0):
        if not observed("training-tier", chat):
            continue
        for question, answer in zip(chat.messages[3::2], chat.messages[4::2], strict=True):
            truth, default = truths[question["content"]]
            if truth != default:
                admitted.append(answer["content"] == f"{truth}.")
    assert len(admitted) > 200
    assert sum(admitted) / len(admitted) == pytest.approx(share, abs=0.08)


def test_a_leak_level_of_some_trains_no_follow_up() -> None:
    assert all(len(chat.messages) == 3 for chat in chats("training-tier", "faker"))


def test_the_same_seed_writes_the_same_chats() -> None:
    assert chats("training-tier", "faker") == chats("training-tier", "faker")


def test_unknown_persona_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'faker'"):
        SPEC.persona("fakir")
