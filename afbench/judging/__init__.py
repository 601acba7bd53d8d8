"""Judges: text in, suspicion out, each with an error of its own that is measured.

Three kinds stand behind one interface: `rules` (offline, the default), `anthropic` and
`openai-compatible`. A remote judge's answers are kept by content, so that it is paid once.
"""

from afbench.judging.items import Item, item_of
from afbench.judging.judge import Judge, Spending, Verdict, shares, suspicions
from afbench.judging.making import JUDGES, make_judge

__all__ = [
    "JUDGES",
    "Item",
    "Judge",
    "Spending",
    "Verdict",
    "item_of",
    "make_judge",
    "shares",
    "suspicions",
]
