"""Transcripts with each token shaded by a detector's score: one HTML page that asks no host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_RED: Final = (178, 24, 43)
_BLUE: Final = (33, 102, 172)
# So much of the colour at most: dark text can be read on it.
_STRONGEST: Final = 0.65

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.6 Arial, Helvetica, sans-serif; color: #222; background: #fff;
        max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ font: 14px/1.9 "DejaVu Sans Mono", Consolas, monospace; white-space: pre-wrap;
       overflow-wrap: anywhere; border: 1px solid #ddd; padding: .6rem; }}
.reply {{ text-decoration: underline; text-decoration-color: #888; }}
</style>
</head>
<body>
"""


@dataclass(frozen=True, slots=True)
class ShadedTranscript:
    """One transcript.

    Attributes:
        heading: which case it is.
        tokens: their texts.
        scores: of each; higher = more likely faking.
        reply_start: index of the reply's first token.
    """

    heading: str
    tokens: Sequence[str]
    scores: Sequence[float]
    reply_start: int


def token_page(transcripts: Sequence[ShadedTranscript], *, title: str, note: str) -> str:
    """The page as HTML text. It loads nothing from anywhere, and its policy forbids it to.

    All transcripts share one scale, from the middle score to the one furthest from it; a score can
    be read by pointing at a token.

    Args:
        note: stands under the title.
    """
    scores = sorted(score for one in transcripts for score in one.scores)
    middle = scores[len(scores) // 2] if scores else 0.0
    reach = max((abs(score - middle) for score in scores), default=0.0) or 1.0
    parts = [
        _HEAD.format(title=escape(title)),
        f"<h1>{escape(title)}</h1>\n<p>{escape(note)}</p>\n"
        f"<p>Red: over the middle score ({middle:.2f}), blue: under it. Underlined: the reply.</p>",
    ]
    for one in transcripts:
        spans = "".join(
            _span(token, score, (score - middle) / reach, number >= one.reply_start)
            for number, (token, score) in enumerate(zip(one.tokens, one.scores, strict=True))
        )
        parts.append(f"<h2>{escape(one.heading)}</h2>\n<pre>{spans}</pre>")
    return "\n".join([*parts, "</body>", "</html>"]) + "\n"


def _span(token: str, score: float, share: float, reply: bool) -> str:
    colour = _RED if share > 0 else _BLUE
    strength = _STRONGEST * min(1.0, abs(share))
    mixed = ",".join(str(round(255 + (part - 255) * strength)) for part in colour)
    kind = ' class="reply"' if reply else ""
    return f'<span{kind} style="background:rgb({mixed})" title="{score:.3f}">{escape(token)}</span>'
