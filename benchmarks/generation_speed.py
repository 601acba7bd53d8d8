"""Generation for a zoo of mixed lengths, against the usual loop and against vLLM alone.

Run it as `python benchmarks/generation_speed.py`; it exits 1 when a target is missed:

- on transformers, the batches of afbench take at most a third of the time of the usual loop:
  for each conversation the chat template, `model.generate`, and decoding;
- on vLLM, where it is installed, they take at most 1.3 x the time of `LLM.generate` over all of
  the same prompts in one call, on the same engine.

The organisms are four adapters and a prompted one; the prompts are those of their environments, of
both conditions. Replies are greedy and end where the organism ends them. Wall time; the ways take
turns, and the figure is the ratio of medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from vllm_lora import chosen, prompts_of

from afbench.catalog.discovery import Catalog, discover
from afbench.messages import Message
from afbench.models.interface import GenerationSettings
from afbench.models.loading import ModelStore
from afbench.vllm_backend.availability import vllm_version

LOOP, ALONE = 3.0, 1.3
SETTINGS = GenerationSettings(max_new_tokens=48)
Prompts = dict[str, list[list[Message]]]
Tokens = tuple[int, ...]
T = TypeVar("T")


def organisms(catalog: Catalog) -> list[str]:
    """Four adapters, spread over their environments, and a prompted organism."""
    adapters = chosen(catalog)
    prompted = next(
        name
        for name, plugin in sorted(catalog.organisms.items())
        if plugin.manifest.source.type == "prompted" and plugin.manifest.environment
    )
    return [*adapters[::3][:4], prompted]


def timed(ways: dict[str, Callable[[], list[T]]], repeats: int) -> dict[str, float]:
    """Median wall seconds of each way; what they return must agree."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        said = {}
        for name in list(ways) if repeat % 2 else list(reversed(ways)):
            started = time.perf_counter()
            said[name] = ways[name]()
            if repeat:  # the first round warms up
                taken[name].append(time.perf_counter() - started)
        first, *others = said.values()
        for other in others:
            differing = sum(a != b for a, b in zip(first, other, strict=True))
            if differing:
                print(f"{differing} of {len(first)} replies differ", file=sys.stderr)
    return {name: statistics.median(values) for name, values in taken.items()}


def on_transformers(catalog: Catalog, prompts: Prompts, repeats: int) -> float:
    """The usual loop's time over that of afbench."""
    store = ModelStore(catalog, device="cpu")

    def batches() -> list[str]:
        return [
            reply.text
            for name, talks in prompts.items()
            for reply in store.get(name).generate(talks, SETTINGS)
        ]

    def loop() -> list[str]:
        texts = []
        for name, talks in prompts.items():
            model = store.get(name)
            module: Any = model.module
            for talk in talks:
                ids = torch.tensor(model.chat.prompts([talk]))
                with torch.inference_mode():
                    out = module.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        max_new_tokens=SETTINGS.max_new_tokens,
                        do_sample=False,
                    )
                new = out[0, ids.shape[1] :]
                texts.append(model.chat.tokenizer.decode(new, skip_special_tokens=True).strip())
        return texts

    spent = timed({"batches": batches, "loop": loop}, repeats)
    print(f"transformers: afbench {spent['batches']:.1f} s, one by one {spent['loop']:.1f} s")
    return spent["loop"] / spent["batches"]


def on_vllm(catalog: Catalog, prompts: Prompts, repeats: int) -> float:
    """Afbench's time over that of one call of vLLM."""
    from vllm import SamplingParams

    from afbench.vllm_backend.store import Request, VllmStore

    with VllmStore(catalog, max_adapters=len(prompts)) as store:
        models = {name: store.get(name) for name in prompts}
        requests = [Request(name, talks, SETTINGS) for name, talks in prompts.items()]
        first = next(iter(models.values()))
        engine: Any = first.writer()
        ends = first.identity.ends

        def batches() -> list[Tokens]:
            together = store.generate_together(requests)
            return [one.token_ids for replies in together for one in replies]

        tokens, adapters = [], []
        for name, talks in prompts.items():
            rows = models[name].chat.prompts(talks)
            tokens += [{"prompt_token_ids": row} for row in rows]
            adapters += [engine._request(models[name].identity.adapter)] * len(rows)
        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=SETTINGS.max_new_tokens,
            stop_token_ids=list(ends),
            detokenize=False,
        )

        def alone() -> list[Tokens]:
            found = engine._llm.generate(tokens, sampling, lora_request=adapters, use_tqdm=False)
            said = (one.outputs[0].token_ids for one in found)
            return [tuple(token for token in row if token not in ends) for row in said]

        spent = timed({"batches": batches, "alone": alone}, repeats)
    print(f"vLLM: afbench {spent['batches']:.2f} s, vLLM alone {spent['alone']:.2f} s")
    return spent["batches"] / spent["alone"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenarios", type=int, default=24, help="of each organism")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    catalog = discover(())
    prompts = {name: prompts_of(catalog, name, options.scenarios) for name in organisms(catalog)}
    print(f"{len(prompts)} organisms, {sum(map(len, prompts.values()))} conversations")
    faster = on_transformers(catalog, prompts, options.repeats)
    print(f"over the usual loop: {faster:.1f} x (at least {LOOP})")
    missed = faster < LOOP
    if vllm_version() is None:
        print("vLLM is not installed here: that half is left out")
    else:
        slower = on_vllm(catalog, prompts, options.repeats)
        print(f"over vLLM alone: {slower:.2f} x (at most {ALONE})")
        missed = missed or slower > ALONE
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
