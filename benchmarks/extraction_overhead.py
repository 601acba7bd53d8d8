"""What extraction costs over the raw forward pass, and whether its memory is flat.

Run it as `python benchmarks/extraction_overhead.py`; it exits 1 when a target is missed:

- time: all layers x all poolings take at most 1.10 x the raw forward pass (decoder only, without
  the output head) over the same batches. Both are run alternately in one process; the figure is
  the ratio of the medians of their processor time (all threads), as wall time says more about what
  else the machine is doing. Wall time is shown as well.
- memory: extraction of ten times more conversations takes at most 1.20 x the memory, counted as
  the rise of the peak resident memory over what it was before extraction started (the model, the
  libraries and the conversations). Each figure is the median of several processes.
  glibc's allocator is told to return freed memory at once, so that the figure is what extraction
  holds: left alone it varies by half from run to run (the ratio was 1.21 once, of medians that
  lay within each other's range). Keeping every pooled vector shows as a ratio of 2.2. Linux only.

The model is a random Qwen2 of the size of the nano zoo's base (6 layers, width 128).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from afbench.messages import Message
from afbench.models.batching import pad_right, plan_batches
from afbench.models.extraction import Transcript, pool_batch
from afbench.models.interface import POOLINGS
from afbench.models.transformers_model import TransformersModel

TIME_TARGET, MEMORY_TARGET = 1.10, 1.20
READ_TOKENS = 2048  # the budget of a batch on a CPU
LAYERS = tuple(range(7))
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
TEXT = "the oven is hot and bread will rise when you leave it alone for an hour or two"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def new_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([TEXT, "system user assistant"], trainer)
    new: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = new(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
    )
    return tokenizer


def new_model() -> PreTrainedModel:
    torch.manual_seed(0)
    config: Any = Qwen2Config(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    model: Any = Qwen2ForCausalLM(config)
    evaluating: PreTrainedModel = model.eval()
    return evaluating


def new_conversations(count: int) -> list[list[Message]]:
    """Conversations of 40 to 200 tokens, prompt and reply."""
    rng = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(rng.choices(TEXT.split(), k=rng.randint(low, high)))

    return [
        [
            {"role": "system", "content": words(5, 40)},
            {"role": "user", "content": words(5, 70)},
            {"role": "assistant", "content": words(5, 65)},
        ]
        for _ in range(count)
    ]


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and wall seconds of one call."""
    processor, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - processor, time.perf_counter() - wall


def measure_time(cases: int, repeats: int) -> float:
    """Ratio of extraction to the raw forward pass."""
    module = new_model()
    model = TransformersModel(module, new_tokenizer(), "sha256:benchmark", "benchmark")
    conversations = new_conversations(cases)
    rows = [Transcript(*pair) for pair in model.chat.replies(conversations)]
    lengths = [len(row) for row in rows]
    plan = plan_batches(lengths, READ_TOKENS)
    batches = [[rows[index] for index in members] for members in plan]
    pad = model.chat.pad_id

    def raw() -> None:
        decoder: Any = module.base_model
        for batch in batches:
            ids = pad_right([[*row.prompt, *row.reply] for row in batch], pad, module.device)
            with torch.inference_mode():
                decoder(input_ids=ids, use_cache=False)

    def extraction() -> None:
        for batch in batches:
            pool_batch(module, batch, LAYERS, POOLINGS, pad).cpu().numpy()

    def whole() -> None:
        model.activations(conversations, None, POOLINGS)

    runs: dict[str, Callable[[], None]] = {"raw": raw, "extraction": extraction, "whole": whole}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        order: Sequence[str] = list(runs) if repeat % 2 else list(reversed(runs))
        for name in order:
            value = seconds(runs[name])
            if repeat:  # the first round warms up
                taken[name].append(value)
    medians = {
        name: [statistics.median(column) for column in zip(*values, strict=True)]
        for name, values in taken.items()
    }
    tokens = sum(lengths)
    print(
        f"time    {cases} conversations of {min(lengths)} to {max(lengths)} tokens, "
        f"{len(plan)} batches, {repeats} repeats, {torch.get_num_threads()} threads"
    )
    for name, label in [
        ("raw", "raw forward pass (no output head)"),
        ("extraction", "extraction, 7 layers x 4 poolings"),
        ("whole", "activations(), with chat template and tokenizer"),
    ]:
        (processor, wall), (raw_processor, raw_wall) = medians[name], medians["raw"]
        print(
            f"        {label:<48} "
            f"processor {processor:6.3f} s ({processor / raw_processor:.3f} x), "
            f"wall {wall:6.3f} s ({wall / raw_wall:.3f} x, {tokens / wall:.0f} tokens/s)"
        )
    return float(medians["extraction"][0] / medians["raw"][0])


def report_peak(cases: int) -> None:
    """Run in a child process: extract in a stream, print memory in MiB as JSON."""
    model = TransformersModel(new_model(), new_tokenizer(), "sha256:benchmark", "benchmark")
    conversations = new_conversations(cases)
    before = restart_high_water()
    done = 0
    for members, _values in model.iter_activations(conversations, None, POOLINGS):
        done += len(members)
    assert done == cases
    print(json.dumps({"before": before, "peak": resident("VmHWM")}))


def restart_high_water() -> float:
    """Start a new peak at the present resident memory, and return that in MiB (Linux only).

    Loading the libraries peaks higher than extraction does, so the peak since the process started
    says nothing. Freed memory goes back first: reuse of it would hide what extraction takes.
    """
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # proc_pid_clear_refs(5)
    return resident("VmRSS")


def resident(field: str) -> float:
    """VmRSS (resident memory now) or VmHWM (its peak) of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure_memory(cases: int, repeats: int = 3) -> float:
    """Ratio of the memory that 10 x `cases` conversations take to that of `cases`."""
    grown: list[float] = []
    print(f"memory  resident, streamed with iter_activations, medians of {repeats} processes")
    for count in (cases, 10 * cases):
        runs = [child_peak(count) for _ in range(repeats)]
        before, peak = (statistics.median(run[key] for run in runs) for key in ("before", "peak"))
        rises = sorted(run["peak"] - run["before"] for run in runs)
        grown.append(statistics.median(rises))
        print(
            f"        {count:6d} conversations: {before:.1f} MiB before, {peak:.1f} MiB peak, "
            f"{grown[-1]:.1f} MiB for extraction ({rises[0]:.1f} to {rises[-1]:.1f})"
        )
    return grown[1] / grown[0]


def child_peak(cases: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--peak", str(cases)]
    environment = os.environ | ALLOCATOR
    out = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        report_peak(arguments.peak)
        return 0
    missed = 0
    for what, ratio, target in [
        ("time", measure_time(arguments.cases, arguments.repeats), TIME_TARGET),
        ("memory", measure_memory(arguments.cases), MEMORY_TARGET),
    ]:
        verdict = "met" if ratio <= target else "MISSED"
        missed += ratio > target
        print(f"{what:<7} ratio {ratio:.3f}, target at most {target:.2f}: {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
