"""Ten LoRA organisms on one vLLM engine against ten engines, and against a per-sample loop.

Run it as `python benchmarks/vllm_lora.py` in an environment that has vLLM (`make test-vllm` makes
one); it exits 1 when a target is missed:

- one engine that serves ten organisms in the same steps takes at most a quarter of the time of ten
  engines one after another, each begun for one organism. Starting engines counts: it is what ten
  engines cost. The ratio without it is shown beside.
- the replies are identical, token by token.

Beside it: tokens per second over those of `generate` with one prompt at a time on transformers. On
a CPU and with organisms as small as these, a step of the engine costs more than the model in it.

All of it is wall time of one run on one machine.
"""

from __future__ import annotations

import argparse
import sys
import time

from afbench.catalog.discovery import Catalog, discover
from afbench.environments import Environment
from afbench.messages import Message
from afbench.models.interface import Generation, GenerationSettings
from afbench.vllm_backend.availability import vllm_version
from afbench.vllm_backend.store import Request, VllmStore

ORGANISMS = 10
FASTER = 4.0
SETTINGS = GenerationSettings(max_new_tokens=48)
Replies = dict[str, list[Generation]]


def chosen(catalog: Catalog) -> list[str]:
    """The first adapters of the base that has most."""
    by_parent: dict[str, list[str]] = {}
    for name, plugin in sorted(catalog.organisms.items()):
        source = plugin.manifest.source
        if source.type == "adapter" and not plugin.manifest.generation.reasoning:
            by_parent.setdefault(source.parent, []).append(name)
    return max(by_parent.values(), key=len)[:ORGANISMS]


def prompts_of(catalog: Catalog, name: str, scenarios: int) -> list[list[Message]]:
    """Both conditions of an organism's home environment."""
    home = catalog.get("organism", name).manifest.environment or ""
    environment = Environment.load(catalog.get("environment", home))
    return [
        environment.render(place.scenario, place.cue, condition)
        for place in environment.placements("test", scenarios)
        for condition in ("observed", "unobserved")
    ]


def on_one_engine(
    catalog: Catalog, names: list[str], scenarios: int
) -> tuple[Replies, list[float]]:
    """Replies of all organisms together, and the seconds of starting and of generating."""
    started = time.perf_counter()
    with VllmStore(catalog, max_adapters=ORGANISMS) as store:
        store.get(names[0]).writer()
        ready = time.perf_counter()
        requests = [Request(name, prompts_of(catalog, name, scenarios), SETTINGS) for name in names]
        replies = dict(zip(names, store.generate_together(requests), strict=True))
        return replies, [ready - started, time.perf_counter() - ready]


def on_engines(catalog: Catalog, names: list[str], scenarios: int) -> tuple[Replies, list[float]]:
    """The same with an engine for each organism."""
    replies: Replies = {}
    seconds = [0.0, 0.0]
    for name in names:
        started = time.perf_counter()
        with VllmStore(catalog, max_adapters=1) as store:
            model = store.get(name)
            model.writer()
            ready = time.perf_counter()
            replies[name] = model.generate(prompts_of(catalog, name, scenarios), SETTINGS)
            seconds[1] += time.perf_counter() - ready
        seconds[0] += ready - started
    return replies, seconds


def one_by_one(catalog: Catalog, name: str, scenarios: int) -> float:
    """Tokens per second of transformers with one prompt at a time."""
    from afbench.models.loading import ModelStore

    model = ModelStore(catalog, device="cpu").get(name)
    prompts = prompts_of(catalog, name, scenarios)
    model.generate(prompts[:1], SETTINGS)  # what is done once is not what is measured
    started = time.perf_counter()
    tokens = sum(len(model.generate([prompt], SETTINGS)[0].token_ids) for prompt in prompts)
    return tokens / (time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description="Ten LoRA organisms on one vLLM engine.")
    parser.add_argument("--scenarios", type=int, default=24, help="of each organism")
    options = parser.parse_args()
    if vllm_version() is None:
        print("vLLM is not installed here: left out")
        return 0
    catalog = discover(())
    names = chosen(catalog)
    together, one = on_one_engine(catalog, names, options.scenarios)
    apart, ten = on_engines(catalog, names, options.scenarios)
    same = together == apart
    tokens = sum(len(reply.token_ids) for replies in together.values() for reply in replies)
    loop = one_by_one(catalog, names[0], options.scenarios)
    ratio, speed = sum(ten) / sum(one), tokens / one[1] / loop
    print(f"one engine: start {one[0]:.1f} s, generation {one[1]:.1f} s, {tokens} tokens")
    print(f"{len(names)} engines: start {ten[0]:.1f} s, generation {ten[1]:.1f} s")
    print(f"ratio {ratio:.1f} x (at least {FASTER}); generation alone {ten[1] / one[1]:.1f} x")
    print(f"replies identical: {same}")
    print(f"tokens/s over transformers with one prompt at a time: {speed:.1f} x")
    return int(not (same and ratio >= FASTER))


if __name__ == "__main__":
    sys.exit(main())
