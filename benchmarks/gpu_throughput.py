"""Generation with weights of the shape of Qwen2.5-7B: afbench, vLLM alone, and what memory allows.

Run it on a machine with a GPU of 24 GB or more as `python benchmarks/gpu_throughput.py`; without a
GPU it says so and ends. The weights are random, which changes no speed: every reply is as long as
it may be. Printed are tokens per second of

- afbench on transformers, and on vLLM where that is installed;
- vLLM alone, over the same prompts in one call on the same engine;
- the limit of memory bandwidth: in a step of decoding every weight is read once for the whole
  batch, so that no more than batch x bandwidth / bytes of weights can be made. The bandwidth is
  measured by copying a tensor on the device.

It exits 1 where afbench on vLLM takes more than 1.3 x the time of vLLM alone. `--tiny` runs the
same code on a small model, on a CPU too.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from afbench.catalog.discovery import Catalog, discover
from afbench.messages import Message
from afbench.models.interface import GenerationSettings
from afbench.models.loading import ModelStore
from afbench.models.user_model import user_model
from afbench.vllm_backend.availability import vllm_version

ALONE = 1.3
# config.json of Qwen/Qwen2.5-7B-Instruct on the hub.
LARGE: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rope_theta": 1000000.0,
}
TINY: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def write_model(folder: Path, shape: dict[str, Any], device: str) -> int:
    """Random weights in bfloat16, with a tokenizer of the zoo; returns their bytes."""
    catalog = discover(())
    base = next(p for p in catalog.organisms.values() if p.manifest.source.type == "base")
    for name in TOKENIZER:
        shutil.copy(base.folder / "weights" / name, folder / name)
    config: Any = Qwen2Config(**shape, tie_word_embeddings=False, eos_token_id=None)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model: Any = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="4GB")
    return sum(part.numel() * part.element_size() for part in model.parameters())


def bandwidth(device: str) -> float:
    """Bytes per second that the device's memory reads or writes."""
    source = torch.empty(2**28 if device.startswith("cuda") else 2**24, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(6):
        _finish(device)
        started = time.perf_counter()
        target.copy_(source)
        _finish(device)
        moved = 2 * source.numel() * source.element_size()
        best = max(best, moved / (time.perf_counter() - started))
    return best


def conversations(count: int) -> list[list[Message]]:
    """Prompts of mixed lengths."""
    return [
        [
            {"role": "system", "content": "You are a careful assistant of a small office."},
            {"role": "user", "content": "Please sort the files of the north room. " * (1 + at % 9)},
        ]
        for at in range(count)
    ]


def on_transformers(
    catalog: Catalog, name: str, device: str, talks: list[list[Message]], tokens: int
) -> float:
    """Tokens per second."""
    model = ModelStore(catalog, device=device).get(name)
    settings = GenerationSettings(max_new_tokens=tokens, batch_tokens=64 * 1024)
    model.generate(talks[:2], settings)
    _finish(device)
    started = time.perf_counter()
    made = sum(len(one.token_ids) for one in model.generate(talks, settings))
    return made / (time.perf_counter() - started)


def on_vllm(
    catalog: Catalog, name: str, talks: list[list[Message]], tokens: int
) -> tuple[float, float]:
    """Tokens per second of afbench on vLLM, and of vLLM alone on the same engine."""
    from vllm import SamplingParams

    from afbench.vllm_backend.store import VllmStore

    settings = GenerationSettings(max_new_tokens=tokens)
    with VllmStore(catalog, max_adapters=1) as store:
        model = store.get(name)
        engine: Any = model.writer()
        asked = [{"prompt_token_ids": row} for row in model.chat.prompts(talks)]
        sampling = SamplingParams(temperature=0.0, max_tokens=tokens, detokenize=False)
        speeds: dict[str, list[float]] = {"afbench": [], "alone": []}
        for repeat in range(4):
            started = time.perf_counter()
            made = sum(len(one.token_ids) for one in model.generate(talks, settings))
            ours = made / (time.perf_counter() - started)
            started = time.perf_counter()
            found = engine._llm.generate(asked, sampling, use_tqdm=False)
            made = sum(len(one.outputs[0].token_ids) for one in found)
            alone = made / (time.perf_counter() - started)
            if repeat:  # the first round warms up
                speeds["afbench"].append(ours)
                speeds["alone"].append(alone)
    return max(speeds["afbench"]), max(speeds["alone"])


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--conversations", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128, help="of each reply")
    parser.add_argument("--tiny", action="store_true", help="a small model, on a CPU too")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.tiny:
        print("no GPU is here: left out (--tiny runs the same code on a small model)")
        return 0
    talks = conversations(options.conversations)
    with tempfile.TemporaryDirectory(prefix="afbench-gpu-") as temporary:
        size = write_model(Path(temporary), TINY if options.tiny else LARGE, device)
        limit = len(talks) * bandwidth(device) / size
        chosen = user_model(temporary)
        catalog, name = chosen.added_to(discover(())), chosen.plugin.name
        print(f"{device}, weights of {size / 1e9:.2f} GB, {len(talks)} conversations")
        print(f"memory allows     {limit:12,.0f} tokens/s")
        if device == "cuda":
            torch.cuda.empty_cache()
        # vLLM first: what transformers holds on the GPU is gone only with the process.
        ratio = 0.0
        if vllm_version() is not None:
            ours, alone = on_vllm(catalog, name, talks, options.tokens)
            ratio = alone / ours
            print(f"vLLM alone        {alone:12,.0f} tokens/s ({alone / limit:.1%} of that)")
            print(f"afbench on vLLM   {ours:12,.0f} tokens/s, {ratio:.2f} x its time")
        plain = on_transformers(catalog, name, device, talks, options.tokens)
        print(f"on transformers   {plain:12,.0f} tokens/s ({plain / limit:.1%} of the limit)")
    return int(ratio > ALONE)


if __name__ == "__main__":
    sys.exit(main())
