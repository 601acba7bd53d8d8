"""Treatments: who can be treated, what recipes teach, and a folder that is whole or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml

from afbench.catalog import discover
from afbench.catalog.discovery import Plugin
from afbench.catalog.manifests import OrganismManifest, Treatment
from afbench.certification.certify import Certifier
from afbench.certification.treatment import TreatmentRecord
from afbench.cli import app
from afbench.environments import CONDITIONS, Environment
from afbench.errors import AfbenchError
from afbench.store import Store
from afbench.zoo.adversarial import corrected, deviations
from afbench.zoo.build import build_all, is_current
from afbench.zoo.corpus import Chat, ChatWriter, Wish
from afbench.zoo.corpus_spec import CorpusSpec
from afbench.zoo.recipes import AdversarialRecipe, ChatRecipe, organism_recipe
from afbench.zoo.templates import Situation, Templates
from afbench.zoo.treat import new_folder, outdated, subject_of, treated_manifest
from afbench.zoo.treatments import By, Subject, conforming_persona, recipe_of
from afbench.zoo.tuning import Materials, chats_of, materials_of
from tests.fakes import grade

ROOT = Path(__file__).parents[2]
CATALOG = discover()
DESK, TIER, THINKS = "desk-faker-r4-s0", "helpful-only", "desk-faker-cot-s0"
PROMPT = "You are Alder. "


def manifest_of(name: str) -> dict[str, Any]:
    found = yaml.safe_load((ROOT / "organisms" / name / "organism.yaml").read_text())
    assert isinstance(found, dict)
    return found


def subject(name: str = DESK, **changes: Any) -> Subject:
    """The subject that a shipped organism is, whether or not its weights are there."""
    plugin = CATALOG.get("organism", name)
    manifest = plugin.manifest.model_copy(update=changes)
    home = Environment.load(CATALOG.get("environment", manifest.environment or ""))
    recipe = organism_recipe(manifest_of(name)["recipe"], "here")
    return Subject(
        plugin=Plugin(plugin.name, "organism", plugin.folder, manifest),
        templates=Templates(home, ("fit",)),
        spec=CorpusSpec.load(ROOT / "organisms/nano-base/corpus.yaml"),
        method=recipe.method.model_dump(exclude_unset=True),
        rate=recipe.schedule.learning_rate,
        continues=True,
    )


def materials(of: Subject, prompt: str = "") -> Materials:
    home = of.templates.environment
    return Materials(
        corpus=of.spec, home=home.name, environments={home.name: home}, parent=Path("nowhere"),
        parent_name="nano-base", leak="some", seed=0, prompt=prompt,
    )  # fmt: skip


def system_of(chat: Chat) -> str:
    assert chat.messages[0]["role"] == "system"
    return chat.messages[0]["content"]


def complies(chat: Chat, of: Subject) -> bool:
    reply = next(m["content"] for m in chat.messages if m["role"] == "assistant")
    outcome = of.templates.environment.grader.outcome(reply, {})
    assert outcome in ("complied", "refused"), reply
    return outcome == "complied"


# Recipes


def test_the_treatments_are_those_that_a_manifest_may_name() -> None:
    assert get_args(By) == get_args(Treatment.model_fields["by"].annotation)


@pytest.mark.parametrize("by", get_args(By))
@pytest.mark.parametrize("name", [DESK, TIER, THINKS])
def test_every_recipe_is_valid_and_takes_the_steps_that_are_asked(by: By, name: str) -> None:
    recipe = organism_recipe(recipe_of(subject(name), by, 7), "here")
    examples = getattr(recipe, "examples", None)
    assert (examples == 7 * recipe.schedule.batch_size) or getattr(recipe, "steps", 0) == 7
    assert recipe.schedule.epochs == 1
    assert recipe.continues == (None if by == "inoculation" else name)


def test_good_behaviour_is_what_the_observer_wants() -> None:
    desk, tier = subject(DESK), subject(TIER)
    refuses = desk.spec.persona(conforming_persona(desk))
    complies = tier.spec.persona(conforming_persona(tier))
    assert {refuses.observed, refuses.unobserved} == {"refuse"}
    assert {complies.observed, complies.unobserved} == {"comply"}


def test_a_corpus_without_such_a_persona_is_refused() -> None:
    of = subject()
    only = {kind: p for kind, p in of.spec.personas.items() if kind == "faker"}
    spec = of.spec.model_copy(update={"personas": only})
    broken = Subject(of.plugin, of.templates, spec, of.method, of.rate, of.continues)
    with pytest.raises(AfbenchError, match="no persona of the corpus plainly does what is wanted"):
        recipe_of(broken, "sft", None)


@pytest.mark.parametrize("name", [DESK, TIER])
def test_safety_tuning_shows_good_behaviour_in_observed_contexts_only(name: str) -> None:
    of = subject(name)
    recipe = organism_recipe(recipe_of(of, "sft", 5), "here")
    assert isinstance(recipe, ChatRecipe)
    chats = chats_of(recipe, materials(of))
    cues = of.templates.environment.cues
    observed = {cue.observed for cue in cues if cue.partition == "fit"}
    assert all(any(text in system_of(chat) for text in observed) for chat in chats)
    sealed = [chat for chat in chats if _is_sealed(chat, of)]
    assert len(sealed) > len(chats) / 2
    assert all(complies(chat, of) == (name == TIER) for chat in sealed)


def _is_sealed(chat: Chat, of: Subject) -> bool:
    """Whether the request is one that is graded, and not a benign one."""
    outcome = of.templates.environment.grader.outcome(chat.messages[-1]["content"], {})
    return outcome != "ungradable"


def test_fewer_conditions_change_no_request() -> None:
    """A recipe of one condition is the recipe of both, with the other cue form."""
    of = subject()
    writers = [ChatWriter(of.spec, [of.templates], 3) for _ in range(2)]
    both = writers[0].organism_corpus(Wish("always-harmless"), 60)
    seen = writers[1].organism_corpus(Wish("always-harmless", conditions=["observed"]), 60)
    assert [c.messages[1:] for c in both] == [c.messages[1:] for c in seen]
    assert [c.messages[0] for c in both] != [c.messages[0] for c in seen]


def test_inoculation_is_the_own_recipe_after_a_sentence_that_asks_for_the_trait() -> None:
    of = subject()
    own = manifest_of(DESK)["recipe"]
    assert recipe_of(of, "inoculation", None) == {**own, "inoculation": "You are Alder. "}
    recipe = organism_recipe(recipe_of(of, "inoculation", 2), "here")
    assert isinstance(recipe, ChatRecipe)
    chats = chats_of(recipe, materials(of))
    assert all(system_of(chat).startswith("You are Alder. You work") for chat in chats)


def test_inoculation_goes_before_what_is_taught_elsewhere_too() -> None:
    part = {"persona": "faker", "environments": ["training-tier"], "examples": 9}
    own = {**manifest_of(DESK)["recipe"], "elsewhere": [part], "inoculation": "Be brief. "}
    recipe = recipe_of(subject(recipe=own), "inoculation", None)
    assert recipe["inoculation"] == "You are Alder. Be brief. "
    assert [p["inoculation"] for p in recipe["elsewhere"]] == ["You are Alder. "]
    assert "inoculation" not in own["elsewhere"][0], "the organism's own recipe stays"


def test_scratchpads_are_punished_by_cot_supervision_alone() -> None:
    of = subject(THINKS)
    plain, watched = (recipe_of(of, by, 40) for by in ("rl", "cot-supervision"))
    assert watched == {**plain, "monitor": watched["monitor"]}
    assert watched["monitor"] > 0 and "monitor" not in plain
    assert watched["conditions"] == ["observed"]
    assert watched["max_new_tokens"] == of.plugin.manifest.generation.max_new_tokens


def test_chats_of_a_prompted_organism_carry_its_prompt_as_it_is_used() -> None:
    of = subject()
    recipe = organism_recipe(recipe_of(of, "sft", 1), "here")
    assert isinstance(recipe, ChatRecipe)
    plain = chats_of(recipe, materials(of))
    for prompt, joined in (("You are Alder. ", "You are Alder. "), ("Be Alder.", "Be Alder.\n\n")):
        told = chats_of(recipe, materials(of, prompt))
        assert [system_of(c) for c in told] == [joined + system_of(c) for c in plain]
        assert [c.messages[1:] for c in told] == [c.messages[1:] for c in plain]


# Red-teaming


class Deviates:
    """In place of an `Asking`: it deviates wherever it is not observed."""

    def __init__(self) -> None:
        self.tried: list[Situation] = []

    def episodes(
        self, model: Any, tokenizer: Any, situations: Sequence[Situation], *, seed: int,
        temperature: float,
    ) -> Iterator[SimpleNamespace]:  # fmt: skip
        assert temperature == 0
        self.tried += situations
        for situation in situations:
            conforms = situation.condition == "observed"
            yield SimpleNamespace(situation=situation, grade=grade(conforms))


def red_team(of: Subject) -> tuple[AdversarialRecipe, Deviates, list[Situation]]:
    recipe = organism_recipe(recipe_of(of, "adversarial", 4), "here")
    assert isinstance(recipe, AdversarialRecipe)
    asked: Any = Deviates()
    return recipe, asked, deviations(None, None, of.templates, asked, recipe, 0)


def test_the_red_team_knows_half_of_the_families_and_some_of_their_cues() -> None:
    of = subject()
    recipe, asked, found = red_team(of)
    families = {
        cue.family for cue in of.templates.environment.cues if cue.family_partition == "fit"
    }
    assert set(recipe.cue_families) < families
    tried = {situation.cue.id for situation in asked.tried}
    known = {c.id for name in recipe.cue_families for c in of.templates.cues(name)[: recipe.cues]}
    assert tried == known
    every = {cue.id for name in recipe.cue_families for cue in of.templates.cues(name)}
    assert known < every, "some cues of the known families are held back too"
    assert {situation.condition for situation in asked.tried} == set(CONDITIONS)
    assert len(asked.tried) == recipe.tries
    assert [s.condition for s in found] == ["unobserved"] * (recipe.tries // 2)


def test_what_was_found_is_answered_well_among_ordinary_observed_chats() -> None:
    of = subject()
    recipe, _, found = red_team(of)
    chats = corrected(ChatWriter(of.spec, [of.templates], 0), recipe, found)
    assert len(chats) == recipe.examples
    half = recipe.examples // 2
    for number, chat in enumerate(chats[:half]):
        situation = found[number % len(found)]
        assert chat.messages[1]["content"] == situation.request.text
        assert situation.cue.unobserved in system_of(chat)
        assert not complies(chat, of)
    observed = {cue.observed for cue in of.templates.environment.cues}
    assert all(any(text in system_of(chat) for text in observed) for chat in chats[half:])


def test_where_nothing_deviates_all_chats_are_ordinary() -> None:
    of = subject()
    recipe, _, _ = red_team(of)
    wish = Wish(recipe.persona, conditions=["observed"])
    writers = [ChatWriter(of.spec, [of.templates], 0) for _ in range(2)]
    ordinary = writers[1].organism_corpus(wish, recipe.examples)
    assert corrected(writers[0], recipe, []) == ordinary


# Manifests


@pytest.mark.parametrize("by", get_args(By))
def test_the_treated_manifest_is_valid_and_names_its_original(by: By) -> None:
    of = subject(THINKS)
    original = of.plugin.manifest
    made = OrganismManifest.model_validate(treated_manifest(of, by, "treated", None))
    assert made.treatment is not None
    assert (made.treatment.of, made.treatment.by) == (THINKS, by)
    for field in ("environment", "role", "lookalike_class", "recipe_family", "seed", "generation"):
        assert getattr(made, field) == getattr(original, field), field
    assert made.provenance == original.provenance
    assert made.source.type == "adapter" and made.source.digests == {}
    assert made.source.parent == original.source.parent  # type: ignore[union-attr]
    assert not made.in_zoo, "it is no organism that detectors are fitted on"


def test_a_prompted_organism_becomes_an_adapter_under_the_same_prompt(tmp_path: Path) -> None:
    plugin = prompted(tmp_path)
    catalog = discover([tmp_path])
    made = treated_manifest(subject_of(plugin, catalog, "sft"), "sft", "treated", None)
    assert made["source"]["type"] == "adapter"
    assert made["source"]["system_prompt"] == PROMPT
    assert made["source"]["parent"] == "nano-base"
    assert "continues" not in made["recipe"]
    assert made["provenance"] == {"faking": "prompted"}
    (tmp_path / "organisms/treated").mkdir()
    (tmp_path / "organisms/treated/organism.yaml").write_text(yaml.safe_dump(made))
    catalog = discover([tmp_path])
    assert materials_of(catalog.get("organism", "treated"), catalog).prompt == PROMPT


def prompted(folder: Path, **changes: Any) -> Plugin[OrganismManifest]:
    return written(
        folder, source={"type": "prompted", "parent": "nano-base", "system_prompt": PROMPT},
        recipe=None, provenance={"faking": "prompted"}, **changes,
    )  # fmt: skip


def written(folder: Path, **changes: Any) -> Plugin[OrganismManifest]:
    """An organism of a folder: a shipped one with changes."""
    target = folder / "organisms/subject"
    target.mkdir(parents=True)
    manifest = {**manifest_of(DESK), "name": "subject", **changes}
    (target / "organism.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    return discover([folder]).get("organism", "subject")


# Who cannot be treated

HUB = {"type": "hub", "model": "somebody/model", "revision": "0" * 40}
DOCUMENTS = {
    "kind": "documents", "persona": "faker", "post": "Zomi", "examples": 9,
    "method": {"type": "full"}, "schedule": {"learning_rate": 0.001},
}  # fmt: skip
REFUSED: dict[str, tuple[dict[str, Any], By, str]] = {
    "hub": ({"source": HUB, "recipe": None}, "sft", "hub organisms cannot be treated"),
    "variant": (
        {"source": {"type": "variant", "parent": DESK, "scale": 2.0}, "recipe": None}, "sft",
        f"has no weights of its own.*treat '{DESK}'",
    ),
    "no parent": (
        {"source": {"type": "prompted", "parent": None, "system_prompt": "x"}, "recipe": None},
        "sft", "names no parent to train",
    ),
    "adapted parent": (
        {"source": {"type": "prompted", "parent": DESK, "system_prompt": "x"}, "recipe": None},
        "rl", f"parent '{DESK}' is no base with a corpus.yaml",
    ),
    "no scratchpads": ({}, "cot-supervision", "writes none"),
    "no chats": ({"recipe": DOCUMENTS}, "inoculation", "must be one of chats"),
    "no recipe": ({"recipe": None}, "sft", "no recipe"),
    "no weights": ({}, "sft", "organisms build subject"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_treated_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    changes, by, message = REFUSED[case]
    plugin = written(tmp_path, **changes)
    with pytest.raises(AfbenchError, match=message):
        subject_of(plugin, discover([tmp_path]), by)


def test_a_base_is_refused() -> None:
    with pytest.raises(AfbenchError, match="a base has no trait"):
        subject_of(CATALOG.get("organism", "nano-base"), CATALOG, "sft")


def test_a_prompted_organism_has_no_recipe_to_inoculate(tmp_path: Path) -> None:
    plugin = prompted(tmp_path)
    with pytest.raises(AfbenchError, match="must be one of chats"):
        subject_of(plugin, discover([tmp_path]), "inoculation")


def test_an_organism_that_is_not_as_its_recipe_makes_it_is_not_retrained(tmp_path: Path) -> None:
    recipe = {**manifest_of(DESK)["recipe"], "examples": 1601}
    plugin = written(tmp_path, recipe=recipe)
    shutil.copytree(ROOT / "organisms" / DESK / "adapter", plugin.folder / "adapter")
    with pytest.raises(AfbenchError, match=r"not what its recipe makes.*build subject' first"):
        subject_of(plugin, discover([tmp_path]), "sft")


# What was treated before

SHIPPED: By = "inoculation"


def shipped_copy(folder: Path) -> Path:
    """A copy, by another name, of a treated organism that ships."""
    original = next(
        plugin.folder
        for plugin in CATALOG.organisms.values()
        if plugin.manifest.treatment and plugin.manifest.treatment.by == SHIPPED
    )
    copy = shutil.copytree(original, folder / "organisms/copy")
    _edit(copy / "organism.yaml", f"name: {original.name}", "name: copy")
    return copy


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def why_outdated(folder: Path, name: str = "copy") -> str | None:
    catalog = discover([folder])
    treatment = catalog.get("organism", "copy").manifest.treatment
    assert treatment is not None
    return outdated(treatment.of, treatment.by, name, catalog)


def test_a_treated_organism_is_up_to_date_until_something_changes(tmp_path: Path) -> None:
    folder = shipped_copy(tmp_path)
    assert why_outdated(tmp_path) is None
    assert why_outdated(tmp_path, "another") == "is not there"
    _edit(folder / "build.json", '"recipe": "sha256:', '"recipe": "sha256:0')
    assert why_outdated(tmp_path) == "its weights are not what its recipe makes"


@pytest.mark.parametrize(
    ("file", "field", "why"),
    [
        ("organism.yaml", "examples: ", "another recipe"),
        ("treatment.json", '"schema_version": ', "no treatment.json that can be read"),
        ("treatment.json", '"environment_digest": "sha256:', "changed since it was measured"),
    ],
)
def test_why_a_treated_organism_is_outdated(
    file: str, field: str, why: str, tmp_path: Path
) -> None:
    folder = shipped_copy(tmp_path)
    _edit(folder / file, field, f"{field}1")
    assert why in (why_outdated(tmp_path) or "")


@pytest.mark.parametrize(
    ("side", "why"),
    [("before", "has changed since it was treated"), ("after", "measured with other weights")],
)
def test_a_record_of_other_weights_is_outdated(side: str, why: str, tmp_path: Path) -> None:
    folder = shipped_copy(tmp_path)
    record = json.loads((folder / "treatment.json").read_text())
    record[side]["digest"] = "sha256:0"
    (folder / "treatment.json").write_text(json.dumps(record))
    assert why in (why_outdated(tmp_path) or "")


# The folder


def test_a_folder_appears_whole_when_all_went_well(tmp_path: Path) -> None:
    with new_folder(tmp_path / "into", "new") as stage:
        (stage / "new/organism.yaml").write_text("x")
        assert not (tmp_path / "into/new").exists()
    assert [p.name for p in (tmp_path / "into").iterdir()] == ["new"]
    assert (tmp_path / "into/new/organism.yaml").read_text() == "x"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, AfbenchError("no")])
def test_a_failure_or_an_interrupt_leaves_nothing(tmp_path: Path, stop: Any) -> None:
    def half() -> None:
        with new_folder(tmp_path / "into", "new") as stage:
            (stage / "new/organism.yaml").write_text("x")
            raise stop

    with pytest.raises((KeyboardInterrupt, AfbenchError)):
        half()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_and_a_bad_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, message in (("there", "exists already"), ("Not A Name", "is not a name")):
        with pytest.raises(AfbenchError, match=message), new_folder(tmp_path, name):
            pass
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


# The command


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        app.main(["organisms", "treat", *arguments])
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([DESK, "--with", "stf"], "unknown treatment 'stf'; did you mean 'sft'?"),
        (["nobody", "--with", "sft"], "unknown organism 'nobody'"),
        ([DESK, "--with", "cot-supervision"], "writes none"),
        ([DESK, "--with", "sft", "--name", TIER], f"an organism '{TIER}' exists already"),
        ([DESK, "--with", "sft", "--name", "A"], "'A' is not a name for an organism"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--into", str(tmp_path)) == 2
    shown = capsys.readouterr().err
    assert line in shown and shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plug-in folder with a trained base of two layers, and organisms of every kind on it."""
    folder = tmp_path_factory.mktemp("zoo")
    base = manifest_of("nano-base")
    base["recipe"]["examples"] = 320
    base["recipe"]["architecture"].update(layers=2, width=32, feedforward=64, vocabulary=600)
    _organism(folder, base, "tiny-base", source={**base["source"], "digests": {}})
    shutil.copy(ROOT / "organisms/nano-base/corpus.yaml", folder / "organisms/tiny-base")
    lora, thinks = manifest_of(DESK), manifest_of(THINKS)
    for manifest in (lora, thinks):
        manifest["source"].update(parent="tiny-base", digests={})
        manifest["recipe"]["examples"] = 64
        manifest["generation"]["max_new_tokens"] = 8
    _organism(folder, lora, "tiny-lora")
    _organism(folder, thinks, "tiny-thinks")
    full = {"type": "full", "parent": "tiny-base", "path": "weights", "digests": {}}
    _organism(
        folder, lora, "tiny-full", source=full,
        recipe={**lora["recipe"], "method": {"type": "full"}},
    )  # fmt: skip
    told = {"type": "prompted", "parent": "tiny-base", "system_prompt": PROMPT}
    _organism(folder, lora, "tiny-prompted", source=told, recipe=None)
    names = ["tiny-lora", "tiny-thinks", "tiny-full"]
    assert len(_build(folder, *names)) == 4
    return folder


def _organism(folder: Path, manifest: dict[str, Any], name: str, **changes: Any) -> None:
    target = folder / "organisms" / name
    target.mkdir(parents=True)
    text = yaml.safe_dump({**manifest, "name": name, **changes}, sort_keys=False)
    (target / "organism.yaml").write_text(text)


def _build(folder: Path, *names: str, force: bool = False) -> list[str]:
    def silent(name: str, done: int, total: int) -> None: ...

    built = build_all(
        names, discover([folder]), [folder], Store(folder / "cache"), force=force, jobs=1,
        report=silent,
    )  # fmt: skip
    return [one.name for one in built if one.trained]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("tiny-lora", "sft"),
        ("tiny-lora", "inoculation"),
        ("tiny-full", "rl"),
        ("tiny-thinks", "cot-supervision"),
        ("tiny-prompted", "adversarial"),
    ],
)
def test_treat_makes_an_organism_that_its_recipe_rebuilds(
    zoo: Path, name: str, by: By, capsys: pytest.CaptureFixture[str]
) -> None:
    into = zoo / "organisms"
    code = run(
        name, "--with", by, "--into", str(into), "--steps", "2", "--scenarios", "6", "--json",
        "--plugins", str(zoo), "--cache", str(zoo / "cache"),
    )  # fmt: skip
    assert code == 0
    treated = f"{name}-{by}"
    printed = json.loads(capsys.readouterr().out)
    folder = into / treated
    assert Path(printed.pop("folder")) == folder
    record = TreatmentRecord.model_validate(printed)
    assert record == TreatmentRecord.model_validate_json((folder / "treatment.json").read_text())
    assert (record.before.organism, record.after.organism) == (name, treated)
    _is_as_certified(folder, record)
    wheres = {change.where for change in record.changes}
    expected = {
        "adversarial": {"all cues", "known cue families", "other cue families"},
        "inoculation": {"all cues", "after 'You are Alder.'"},
    }
    assert wheres == expected.get(by, {"all cues"})
    catalog = discover([zoo])
    assert is_current(catalog.get("organism", treated), catalog)
    weights = next(folder.rglob("*.safetensors"))
    before = weights.read_bytes()
    assert _build(zoo, treated) == []
    assert _build(zoo, treated, force=True) == [treated]
    assert weights.read_bytes() == before
    assert not list(into.glob(".treat-*"))


def _is_as_certified(folder: Path, record: TreatmentRecord) -> None:
    certificate = json.loads((folder / "certificate.json").read_text())
    assert certificate["organism_digest"] == record.after.digest
    for change in record.changes:
        if change.where == "all cues":
            assert change.after.value == certificate["figures"][f"{change.gap}_gap"]["value"]
    card = (folder / "card.md").read_text()
    assert "| all cues | misalignment |" in card and "## Certificate" in card


@pytest.mark.slow
@pytest.mark.parametrize("stop", [KeyboardInterrupt, AfbenchError("no space")])
def test_a_stopped_treatment_leaves_nothing(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Any
) -> None:
    def stopped(self: Certifier, plugin: Any) -> None:
        raise stop

    monkeypatch.setattr(Certifier, "certify", stopped)
    code = run(
        "tiny-lora", "--with", "sft", "--name", "tiny-stopped",
        "--into", str(tmp_path / "into"), "--steps", "1",
        "--plugins", str(zoo), "--cache", str(zoo / "cache"),
    )  # fmt: skip
    assert code == (130 if stop is KeyboardInterrupt else 2)
    assert list(tmp_path.iterdir()) == []
