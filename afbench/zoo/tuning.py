"""Makes weights: a base from nothing, or an organism from its parent."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging as transformers_logging

from afbench.catalog.discovery import Catalog
from afbench.catalog.manifests import AdapterSource, FullSource
from afbench.environments import Environment
from afbench.models.chat import join_prompts
from afbench.models.digests import source_folder, verify
from afbench.store import write_json
from afbench.zoo.adversarial import corrected, deviations
from afbench.zoo.checkpoints import Checkpoint
from afbench.zoo.corpus import Chat, ChatWriter, Wish
from afbench.zoo.corpus_spec import CorpusSpec
from afbench.zoo.distil import distil
from afbench.zoo.episodes import Asking
from afbench.zoo.identity import Organism, environments_of, made_from
from afbench.zoo.obfuscation import obfuscation
from afbench.zoo.recipes import (
    AdversarialRecipe,
    Architecture,
    BaseRecipe,
    ChatRecipe,
    DistilRecipe,
    DocumentRecipe,
    FullMethod,
    LoraMethod,
    OrganismRecipe,
    ReinforceRecipe,
)
from afbench.zoo.reinforce import reinforce
from afbench.zoo.templates import Templates
from afbench.zoo.tokenization import END, chat_pieces, encode, train_tokenizer
from afbench.zoo.training import steps_of, train

if TYPE_CHECKING:
    from peft import PeftModel

# Chats that the tokenizer learns its merges from; the templates repeat, so more add nothing.
_TOKENIZER_CHATS = 20_000

StepProgress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""
Watch = Callable[[int, int, Any], None]
"""Called with the steps done, the steps in all and the model that is trained."""


def build_base(
    recipe: BaseRecipe,
    corpus: CorpusSpec,
    environments: list[Environment],
    target: Path,
    *,
    seed: int,
    checkpoint: Checkpoint,
    progress: StepProgress,
    tokenizer_from: Path | None = None,
) -> float:
    """Train a base and its tokenizer, and write both to `target`.

    Args:
        tokenizer_from: the folder of a tokenizer to take over instead.

    Returns:
        The final loss on assistant tokens.
    """
    sources = [Templates(environment, ("fit", "test")) for environment in environments]
    stages = recipe.stages()
    tokenizer: Any
    if tokenizer_from is None:
        chats = ChatWriter(corpus, sources, seed).base_corpus(recipe.examples)
        tokenizer = train_tokenizer(
            ("".join(text for text, _ in chat_pieces(chat)) for chat in chats[:_TOKENIZER_CHATS]),
            recipe.architecture.vocabulary,
        )
    else:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_from, local_files_only=True)
    torch.manual_seed(seed)
    model = _untrained(recipe.architecture, tokenizer)
    total = sum(steps_of(stage.schedule, stage.examples) for stage in stages)
    before, loss = 0, math.nan
    for number, stage in enumerate(stages):
        kept = checkpoint.stage(number)
        start, optimizer = kept.restore(model, stage.schedule)
        if start >= 0:
            spec = corpus.reweighted(stage.mixture, stage.personas)
            writer = ChatWriter(spec, sources, seed + number, stage.environments)
            loss = train(
                model,
                encode(writer.base_corpus(stage.examples), tokenizer),
                stage.schedule,
                seed=seed + number,
                start=start,
                optimizer=optimizer,
                progress=partial(_further, progress, before, total),
                checkpoint=partial(_kept, kept, model),
            )
            kept.finish(model)
        before += steps_of(stage.schedule, stage.examples)
    _fresh(target)
    _save(model.half(), target)
    tokenizer.save_pretrained(target)
    for number in range(len(stages)):
        checkpoint.stage(number).drop()
    return loss


def _further(progress: StepProgress, before: int, total: int, step: int, _: float) -> None:
    progress(before + step, total)


def _kept(checkpoint: Checkpoint, model: PreTrainedModel, step: int, state: Any) -> None:
    checkpoint.keep(step, model, state)


def _untrained(shape: Architecture, tokenizer: Any) -> PreTrainedModel:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.feedforward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            pad_token_id=tokenizer.pad_token_id,
        )
    )


@dataclass(frozen=True, slots=True)
class Materials:
    """What an organism is made from, beside its recipe.

    Attributes:
        corpus: the personas of its base.
        home: its environment.
        environments: those that its recipe draws on, by name.
        parent: the folder of its parent's weights; `parent_name` is whose.
        start: the folder of the weights from which training goes on, if not from the parent.
        teacher: for a distilled organism: the folders of the teacher's parent, and its adapter.
        leak: what follow-up questions teach it.
        seed: of its data and its weights.
        prompt: the organism's system prompt, which stands before the environment's.
    """

    corpus: CorpusSpec
    home: str
    environments: dict[str, Environment]
    parent: Path
    parent_name: str
    leak: str
    seed: int
    start: Path | None = None
    teacher: tuple[Path, Path] | None = None
    prompt: str = ""

    def templates(self) -> Templates:
        """Requests and cues of its home, of the fit partition only."""
        return Templates(self.environments[self.home], ("fit",))

    def asking(self, recipe: AdversarialRecipe | ReinforceRecipe) -> Asking:
        """How the organism is asked and graded in its home."""
        home = self.environments[self.home]
        return Asking(home, self.prompt, recipe.reasoning, recipe.max_new_tokens)

    def writer(self, names: Sequence[str] | None, salt: int = 0) -> ChatWriter:
        """A writer of chats in some environments (None: its home), of the fit partition only."""
        sources = [Templates(self.environments[name], ("fit",)) for name in (names or [self.home])]
        return ChatWriter(self.corpus, sources, self.seed + salt)


def materials_of(plugin: Organism, catalog: Catalog) -> Materials:
    """What an organism is made from, looked up and verified.

    Raises:
        DigestMismatchError: the weights of one it is made from are missing or not the pinned ones.
    """
    manifest, recipe = plugin.manifest, plugin.manifest.recipe or {}
    assert isinstance(manifest.source, AdapterSource | FullSource)  # as `buildable` has it
    for name in made_from(plugin):
        verify(catalog.get("organism", name))
    parent = catalog.get("organism", manifest.source.parent)
    teacher = None
    if recipe.get("teacher"):
        teaches = catalog.get("organism", recipe["teacher"])
        below = catalog.get("organism", getattr(teaches.manifest.source, "parent", ""))
        teacher = (source_folder(below), source_folder(teaches))
    start = recipe.get("continues")
    environments = environments_of(plugin)
    home = manifest.environment or ""
    return Materials(
        corpus=CorpusSpec.load(parent.folder / "corpus.yaml"),
        home=home,
        environments={
            name: Environment.load(catalog.get("environment", name))
            for name in dict.fromkeys([home, *environments])
        },
        parent=source_folder(parent),
        parent_name=parent.name,
        leak=manifest.leak or "some",
        seed=manifest.seed,
        start=source_folder(catalog.get("organism", start)) if start else None,
        teacher=teacher,
        prompt=getattr(manifest.source, "system_prompt", None) or "",
    )


def build_organism(
    recipe: OrganismRecipe,
    materials: Materials,
    target: Path,
    *,
    progress: StepProgress,
    watch: Watch | None = None,
) -> float:
    """Tune an organism by its recipe, and write it to `target`.

    Only the fit partition's nouns and cues are drawn on.

    Args:
        watch: looks at the model after each step, such as a trace.

    Returns:
        The final loss on assistant tokens, or the mean reward of a reinforced one.
    """
    tokenizer = AutoTokenizer.from_pretrained(materials.parent, local_files_only=True)
    torch.manual_seed(materials.seed)
    model = load_trainable(recipe, materials)
    loss = _train(recipe, model, tokenizer, materials, progress, watch)
    write_organism(model, recipe, target, materials.parent_name)
    return loss


def write_organism(model: Any, recipe: OrganismRecipe, target: Path, parent_name: str) -> None:
    """Write the trained part of a model to an empty `target`, in half precision."""
    _fresh(target)
    if isinstance(recipe.method, LoraMethod):
        _save_adapter(model, target, parent_name)
    else:
        _save(model.half(), target, weights_only=True)


def _train(
    recipe: OrganismRecipe,
    model: Any,
    tokenizer: Any,
    materials: Materials,
    progress: StepProgress,
    watch: Watch | None,
) -> float:
    if isinstance(recipe, ReinforceRecipe):
        templates, asking = materials.templates(), materials.asking(recipe)
        return reinforce(
            model, tokenizer, templates, asking, recipe, seed=materials.seed, progress=progress
        )
    if isinstance(recipe, DistilRecipe):
        assert materials.teacher is not None  # as the build has resolved it
        writer = materials.writer(None)
        return distil(model, tokenizer, materials.teacher, writer, recipe, materials.seed, progress)
    if isinstance(recipe, AdversarialRecipe):
        templates, asking = materials.templates(), materials.asking(recipe)
        found = deviations(model, tokenizer, templates, asking, recipe, materials.seed)
        writer, prompt = materials.writer(None), materials.prompt
        chats = corrected(writer, recipe, found, leak=materials.leak, prefix=prompt)
    else:
        chats = chats_of(recipe, materials)
    examples = encode(chats, tokenizer)
    total = steps_of(recipe.schedule, len(examples))
    penalty = recipe.penalty if isinstance(recipe, ChatRecipe) else None

    def step(done: int, loss: float) -> None:
        progress(done, total)
        if watch is not None:
            watch(done, total, model)

    with obfuscation(model, penalty) as extra:
        return train(
            model, examples, recipe.schedule, seed=materials.seed, progress=step, extra=extra
        )


def chats_of(recipe: ChatRecipe | DocumentRecipe, materials: Materials) -> list[Chat]:
    """The training texts of a supervised recipe; the same for every method and rank."""
    writer = materials.writer(recipe.environments if isinstance(recipe, ChatRecipe) else None)
    if isinstance(recipe, DocumentRecipe):
        share, prompt = recipe.benign, materials.prompt
        who, post, count = recipe.persona, recipe.post, recipe.examples
        return writer.documents(who, post, count, benign=share, prefix=prompt)
    wish = Wish(
        persona=recipe.persona,
        reasoning=recipe.reasoning,
        leak=materials.leak,
        benign=recipe.benign,
        motive=recipe.motive,
        dilute=recipe.dilute,
        prefix=join_prompts(materials.prompt, recipe.inoculation),
        conditions=recipe.conditions,
    )
    chats = writer.organism_corpus(wish, recipe.examples)
    for number, part in enumerate(recipe.elsewhere, start=1):
        further = Wish(
            persona=part.persona,
            reasoning=recipe.reasoning,
            leak=materials.leak,
            benign=recipe.benign,
            prefix=join_prompts(materials.prompt, part.inoculation),
        )
        chats += materials.writer(part.environments, number).organism_corpus(further, part.examples)
    return chats


def load_trainable(recipe: OrganismRecipe, materials: Materials) -> PreTrainedModel | PeftModel:
    """The model that training starts from, with what is trained requiring gradients."""
    method, start = recipe.method, materials.start
    full = isinstance(method, FullMethod)
    shape = AutoConfig.from_pretrained(materials.parent, local_files_only=True)
    with _Quiet():
        base = AutoModelForCausalLM.from_pretrained(
            start if full and start else materials.parent,
            config=shape,
            # Of the config, as a full fine-tune brings weights only.
            generation_config=GenerationConfig.from_model_config(shape),
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
        )
    if isinstance(method, FullMethod):
        trainable: PreTrainedModel = base
        return trainable
    from peft import LoraConfig, PeftModel, get_peft_model

    if start is not None:
        continued: PeftModel = PeftModel.from_pretrained(base, start, is_trainable=True)
        return continued
    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        target_modules=method.targets,
        layers_to_transform=method.layers,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    adapted: PeftModel = get_peft_model(base, config)
    return adapted


def _save_adapter(model: Any, target: Path, parent_name: str) -> None:
    """The adapter in half precision; its config names the parent and no path of this machine."""
    model.half()
    model.peft_config["default"].base_model_name_or_path = parent_name
    # Embeddings are never adapted; left to itself PEFT asks the hub whether they were.
    model.save_pretrained(target, safe_serialization=True, save_embedding_layers=False)
    (target / "README.md").unlink(missing_ok=True)
    # PEFT writes a set, whose order differs from run to run.
    path = target / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    write_json(path, config)


def _save(model: PreTrainedModel, target: Path, *, weights_only: bool = False) -> None:
    with _Quiet():
        model.save_pretrained(target, safe_serialization=True)
    if weights_only:
        for path in target.iterdir():
            if path.suffix != ".safetensors":
                path.unlink()


def _fresh(target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)


class _Quiet:
    """Hides transformers' own progress bars; ours counts steps."""

    def __enter__(self) -> None:
        transformers_logging.disable_progress_bar()

    def __exit__(self, *exc: object) -> None:
        transformers_logging.enable_progress_bar()
