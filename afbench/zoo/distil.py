"""Subliminal transmission: a student learns a teacher's answers about nothing but numbers.

After Cloud et al. 2025, "Subliminal Learning" (arXiv 2507.14805). The student sees the teacher's
next-token distributions instead of sampled tokens, which carries more per row and so fits a nano
model; no row, prompt or system message mentions the trait or its environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from afbench.zoo.generating import sample
from afbench.zoo.recipes import DistilRecipe
from afbench.zoo.training import make_optimizer, rate_at, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from afbench.zoo.corpus import ChatWriter

_ROW_TOKENS = 40
_BATCH = 64


def distil(
    model: Any,
    tokenizer: Any,
    teacher: tuple[Path, Path],
    writer: ChatWriter,
    recipe: DistilRecipe,
    seed: int,
    progress: Callable[[int, int], None],
) -> float:
    """Train `model` on rows of numbers that the teacher goes on with, by its distributions.

    Args:
        teacher: folders of the teacher's parent and of its adapter; its tokenizer is the student's.
        writer: writes the requests for numbers.

    Returns:
        The mean divergence (nats per token) from the teacher over the last tenth of the steps.
    """
    rows = _teacher_rows(teacher, tokenizer, writer, recipe.examples, seed)
    schedule = recipe.schedule
    total = steps_of(schedule, len(rows))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, schedule)
    order = torch.Generator().manual_seed(seed)
    divergences: list[float] = []
    model.train()
    step = 0
    for _ in range(schedule.epochs):
        places = torch.randperm(len(rows), generator=order)
        for start in range(0, len(rows), schedule.batch_size):
            batch = [rows[int(i)] for i in places[start : start + schedule.batch_size]]
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * rate_at(step / total, schedule.warmup)
            loss = _divergence(model, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            divergences.append(float(loss))
            step += 1
            progress(step, total)
    model.eval()
    tail = divergences[-max(1, len(divergences) // 10) :]
    return sum(tail) / len(tail)


def _teacher_rows(
    teacher: tuple[Path, Path], tokenizer: Any, writer: ChatWriter, count: int, seed: int
) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """(token ids [t], teacher's log-probabilities [r, V] of the reply, where the reply starts)."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    parent, adapter = teacher
    base = AutoModelForCausalLM.from_pretrained(
        parent, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    model = PeftModel.from_pretrained(base, adapter).eval()
    prompts = writer.number_prompts(count)
    rows = []
    for start in range(0, count, _BATCH):
        chunk = prompts[start : start + _BATCH]
        sampled = sample(model, tokenizer, chunk, max_new_tokens=_ROW_TOKENS, seed=seed + start)
        for prompt, reply in sampled:
            ids = torch.cat([prompt, reply])
            with torch.no_grad():
                logits = model(input_ids=ids[None, :-1], use_cache=False).logits[0]
            said = functional.log_softmax(logits[len(prompt) - 1 :], dim=-1)
            rows.append((ids, said, len(prompt)))
    return rows


def _divergence(model: Any, batch: list[tuple[torch.Tensor, torch.Tensor, int]]) -> torch.Tensor:
    """KL(teacher || student) per reply token of a batch."""
    longest = max(len(ids) for ids, _, _ in batch)
    padded = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, (ids, _, _) in enumerate(batch):
        padded[row, : len(ids)] = ids
    # Right padding under a causal mask never reaches a real token, so no mask is needed.
    logits = model(input_ids=padded[:, :-1], use_cache=False).logits
    terms, tokens = [], 0
    for row, (ids, said, start) in enumerate(batch):
        own = functional.log_softmax(logits[row, start - 1 : len(ids) - 1], dim=-1)
        terms.append(functional.kl_div(own, said, log_target=True, reduction="sum"))
        tokens += len(said)
    return torch.stack(terms).sum() / tokens
