"""Cards in Markdown as HTML that holds no markup of theirs: tables, lists and text only."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

CARD: Final = "card.md"

_MAX_CHARACTERS: Final = 200_000
# From here on a card holds figures that a program wrote; pages show these by themselves.
_FIGURES: Final = "<!-- figures:"
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_TABLE: Final = (
    '<div class="scroll" role="region" aria-label="A table of the card" tabindex="0"><table>'
)
_WEB: Final = re.compile(r"https?://[^\s]+$", re.IGNORECASE)


def read_card(folder: Path) -> Markup | None:
    """A plug-in's card as HTML, without its first heading; None where there is none to read."""
    try:
        text = (folder / CARD).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return rendered(text.split(_FIGURES)[0])


def rendered(text: str) -> Markup:
    """Markdown as HTML. Markup in it is shown as text; links lead to http and https only.

    Headings stand below those of the page: the first one is left out if it is the topmost.
    """
    parser = _parser()
    tokens = parser.parse(_COMMENT.sub("", text[:_MAX_CHARACTERS]))
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        del tokens[:3]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    return Markup(parser.renderer.render(tokens, parser.options, {}))


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.validateLink = lambda url: bool(_WEB.match(url))  # type: ignore[method-assign]
    parser.add_render_rule("link_open", _link)
    parser.add_render_rule("table_open", lambda *_: _TABLE)
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    # Its alignment would be a style attribute, which the pages' policy forbids.
    parser.add_render_rule("th_open", lambda *_: '<th scope="col">')
    parser.add_render_rule("td_open", lambda *_: "<td>")
    return parser


def _link(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "nofollow ugc noopener noreferrer")
    return str(renderer.renderToken(tokens, index, options, env))
