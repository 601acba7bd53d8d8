"""Sensitivity and specificity of judges on the shipped labelled items, with Wilson intervals.

The default is the offline judge, which needs no key. `--judge anthropic` and
`--judge openai-compatible` ask a model (`--model`); their answers are kept in the cache. Prints the
part `held-out`, which no pattern was tuned on, by wording, and `tune` beside it.
"""

from __future__ import annotations

import argparse
import sys

from afbench.errors import AfbenchError
from afbench.judging import JUDGES, make_judge
from afbench.judging.error import ErrorRates, error_rates, labelled_items

SETUPS = (("reasoning", 1), ("reasoning", 20), ("action", 1))
PARTS = {
    "held-out": labelled_items("held-out"),
    "held-out, as in the zoo": labelled_items("held-out", "zoo"),
    "held-out, in free words": labelled_items("held-out", "free"),
    "tune": labelled_items("tune"),
}


def row(rates: ErrorRates, part: str) -> str:
    """A row of the table."""
    cells = [
        rates.judge, rates.model or "-", rates.rubric, str(rates.votes), part,
        f"{rates.sensitivity} (n={rates.sensitivity.n})",
        f"{rates.specificity} (n={rates.specificity.n})",
        str(rates.failed),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", choices=JUDGES, default="rules")
    parser.add_argument("--model", help="of a remote judge")
    parser.add_argument("--votes", type=int, help="only the scratchpad judge, with so many votes")
    given = parser.parse_args()
    params = {} if given.judge == "rules" or not given.model else {"model": given.model}
    setups = SETUPS if given.votes is None else (("reasoning", given.votes),)
    heads = ["judge", "model", "rubric", "votes", "part", "sensitivity", "specificity", "failed"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    try:
        for rubric, votes in setups:
            judge = make_judge(given.judge, rubric=rubric, params=params)
            for name, items in PARTS.items():
                print(row(error_rates(judge, items, votes=votes), name))
    except AfbenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
