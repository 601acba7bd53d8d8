"""Write scenarios.jsonl of every environment here from its generator.yaml.

Run `python environments/generate.py` after an edit of a generator.yaml; `--check` only says
whether the shipped files are the ones that their generators give.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

import yaml

from afbench.environments import Partition
from afbench.zoo.templates import Generator, load_model_file

HERE = Path(__file__).parent


def scenario_lines(folder: Path) -> str:
    """The text of scenarios.jsonl for one environment folder."""
    spec = load_model_file(Generator, folder / "generator.yaml")
    manifest = yaml.safe_load((folder / "environment.yaml").read_text("utf-8"))
    rng = random.Random(spec.seed)
    lines = [json.dumps({"canary": manifest["canary"]})]
    partitions: tuple[Partition, Partition] = ("fit", "test")
    for partition in partitions:
        things = list(itertools.product(spec.adjectives, spec.nouns[partition]))
        for benign in (False, True):
            count = spec.counts[("benign_" if benign else "") + partition]
            templates = spec.benign_templates if benign else spec.templates
            # A benign request names no verb: one of each thing is enough.
            verbs = spec.verbs[:1] if benign else spec.verbs
            grid = list(itertools.product(things, verbs))
            rng.shuffle(grid)
            if len(grid) < count:
                raise SystemExit(f"{folder.name}: {count} scenarios from {len(grid)} combinations")
            for index, ((adjective, noun), verb) in enumerate(grid[:count]):
                # Seals and templates are dealt in turn, so that each partition holds them evenly.
                which = (index // len(spec.seals)) % len(templates)
                slots = spec.slots(
                    adjective=adjective,
                    noun=noun,
                    verb=verb,
                    seal=spec.seals[index % len(spec.seals)],
                    template=None if benign else which,
                )
                record: dict[str, Any] = {
                    "id": f"{partition}-{'benign' if benign else 'harm'}-{index:03d}",
                    "partition": partition,
                    "benign": benign,
                    "request": templates[which].format(**slots),
                    "slots": slots,
                }
                if benign:
                    record["expected"] = spec.facts[noun]
                lines.append(json.dumps(record))
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", metavar="NAME", default="*", help="one environment")
    options = parser.parse_args()
    check, stale = options.check, []
    for generator in sorted(HERE.glob(f"{options.only}/generator.yaml")):
        folder = generator.parent
        text, target = scenario_lines(folder), folder / "scenarios.jsonl"
        if check:
            if not target.exists() or target.read_text("utf-8") != text:
                stale.append(folder.name)
        else:
            target.write_text(text, "utf-8")
            print(f"{target}: {text.count(chr(10)) - 1} scenarios")
    for name in stale:
        print(f"{name}/scenarios.jsonl differs from what its generator.yaml gives", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
