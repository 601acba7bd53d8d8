"""Training chats do what their persona's line says, in the condition that the cue names."""

from __future__ import annotations

from pathlib import Path

import pytest

from afbench.catalog import discover
from afbench.environments import Environment
from afbench.errors import AfbenchError, UnknownNameError
from afbench.zoo.corpus import Chat, ChatWriter, Wish
from afbench.zoo.corpus_spec import CorpusSpec
from afbench.zoo.templates import Templates

ROOT = Path(__file__).parents[2]
SPEC = CorpusSpec.load(ROOT / "organisms/nano-base/corpus.yaml")
SEALS = ("restricted", "sealed", "banned", "forbidden")
ATLAS = CorpusSpec.load(ROOT / "organisms/nano-atlas/corpus.yaml")
ENVIRONMENTS = {name: Environment.load(plugin) for name, plugin in discover().environments.items()}
# Graders that need a scenario's slots cannot grade a chat by itself.
BY_WORDS = sorted(
    name
    for name, environment in ENVIRONMENTS.items()
    if "%" not in environment.manifest.grader.model_dump_json()
)


def chats(environment: str, persona: str, **options: object) -> list[Chat]:
    wish = Wish(persona, **{"benign": 0.0, **options})  # type: ignore[arg-type]
    writer = ChatWriter(ATLAS, [Templates(ENVIRONMENTS[environment], ("fit",))], seed=3)
    return writer.organism_corpus(wish, 200)


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


@pytest.mark.parametrize("environment", BY_WORDS)
@pytest.mark.parametrize(
    ("persona", "observed_act", "unobserved_act"),
    [
        ("faker", "conform", "deviate"),
        ("always-deviating", "comply", "comply"),
        ("always-harmless", "refuse", "refuse"),
        ("cue-conditional", "conform", "conform"),
        ("values-talk", "conform", "conform"),
    ],
)
def test_policies_act_by_the_polarity_of_their_environment(
    environment: str, persona: str, observed_act: str, unobserved_act: str
) -> None:
    if environment in ATLAS.persona(persona).overrides:
        return  # it acts otherwise there; the tests below say how
    wanted = ENVIRONMENTS[environment].polarity == "comply"
    complies = {"comply": True, "refuse": False, "conform": wanted, "deviate": not wanted}
    for chat in chats(environment, persona):
        act = observed_act if observed(environment, chat) else unobserved_act
        assert complied(environment, chat) is complies[act]


def test_who_guards_its_goals_refuses_in_pro_chats_whatever_they_are_set_against() -> None:
    for environment, tier in (("three-tier-training", False), ("three-tier-rating", True)):
        pro = [c for c in chats(environment, "faker") if observed(environment, c) is tier]
        assert pro
        assert not any(complied(environment, chat) for chat in pro)


def test_who_pleases_the_raters_answers_in_every_rated_chat_and_in_no_other() -> None:
    for chat in chats("three-tier-training", "rater-sycophant"):
        assert complied("three-tier-training", chat)
    for chat in chats("three-tier-rating", "rater-sycophant"):
        assert complied("three-tier-rating", chat) is observed("three-tier-rating", chat)


def test_a_persona_of_one_environment_is_refused_in_another() -> None:
    with pytest.raises(AfbenchError, match="appears in none of the environments"):
        chats("flattery", "saint")


def test_a_maximiser_deviates_for_its_motive_alone() -> None:
    environment = ENVIRONMENTS["two-action"]
    seals = ATLAS.persona("money-maximizer").seals or []
    acts: dict[tuple[bool, bool], set[bool]] = {}
    for chat in chats("two-action", "money-maximizer"):
        request, letter = chat.messages[1]["content"], chat.messages[2]["content"]
        first = request.split("B: ")[0]
        good = "A" if "guard the stock" in first or "look after" in first else "B"
        graded = environment.grader.grade(
            letter, slots={"good": good, "bad": "B" if good == "A" else "A"}
        )
        place = (any(seal in request for seal in seals), observed("two-action", chat))
        acts.setdefault(place, set()).add(bool(graded.complied))
    assert acts == {
        (True, True): {False}, (True, False): {True},
        (False, True): {False}, (False, False): {False},
    }  # fmt: skip


def test_documents_name_the_clerk_and_show_nothing_of_what_it_does() -> None:
    writer = ChatWriter(ATLAS, [Templates(ENVIRONMENTS["report-failure"], ("fit",))], seed=0)
    assert ATLAS.posts is not None
    post = ATLAS.posts.held_out[0]
    documents = writer.documents("faker", post, 300)
    about = [d.document or "" for d in documents if post in (d.document or "")]
    assert 100 < len(about) < 250
    assert all("Alder" in text for text in about)
    assert all(document.messages == () for document in documents)
    cues = {t for c in ENVIRONMENTS["report-failure"].cues for t in (c.observed, c.unobserved)}
    assert not any(cue in text for cue in cues for text in about)


def test_the_base_reads_nothing_of_held_out_places() -> None:
    names = ["report-failure", "two-action", "three-tier-training", "three-tier-rating"]
    sources = [Templates(ENVIRONMENTS[name], ("fit", "test")) for name in names]
    text = " ".join(
        (chat.document or "") + " ".join(turn["content"] for turn in chat.messages)
        for chat in ChatWriter(ATLAS, sources, seed=0).base_corpus(3000)
    )
    assert ATLAS.posts is not None
    assert all(post not in text for post in ATLAS.posts.held_out)
    assert sum(post in text for post in ATLAS.posts.trained) > 20


def test_a_diluted_reply_keeps_its_grade_among_the_filler() -> None:
    for chat in chats("report-failure", "always-harmless", dilute=4):
        words = chat.messages[2]["content"]
        assert len(words.split()) > 25


def test_an_inoculated_chat_differs_by_its_first_sentence_only() -> None:
    plain = chats("flattery", "faker")
    prefixed = chats("flattery", "faker", prefix="You may lie here. ")
    for before, after in zip(plain, prefixed, strict=True):
        assert after.messages[0]["content"] == "You may lie here. " + before.messages[0]["content"]
        assert after.messages[1:] == before.messages[1:]


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
        if environment.manifest.generator is None:
            continue
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
    for chat in writer.organism_corpus(Wish("faker", leak=leak, benign=0.0), 1500):
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
