"""From an Altair chart to SVG text: one look for all charts, and a text alternative in each.

Altair and the converter are imported inside functions: the command line must start without them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

Rows = Sequence[dict[str, Any]]
"""Data of a chart: one dict of JSON-able values for each row."""

# The converter brings Liberation Sans along, so that text is measured alike on every machine; its
# widths are those of Arial, in which a reader's machine shows it.
FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
INK: Final = "#222222"
MUTED: Final = "#6b6b6b"
GRID: Final = "#e4e4e4"

# An id that the converter has given, where it is given or referred to: (place, kind, number).
_ID: Final = re.compile(r'(id="|url\(#)(gradient|clip)_?(\d+)')

# A solid light ground: dark text on it can be read on a dark page as well.
_CONFIG: Final[dict[str, Any]] = {
    "background": "white",
    "padding": 12,
    "font": FONT,
    # Every mark with a label of its own would double the file; `title` and `desc` say it instead.
    "aria": False,
    "view": {"stroke": None},
    "title": {
        "anchor": "start",
        "color": INK,
        "fontSize": 15,
        "subtitleColor": MUTED,
        "subtitleFontSize": 11,
        "subtitlePadding": 4,
        "offset": 12,
    },
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "gridColor": GRID,
        "labelLimit": 400,
        "titleLimit": 600,
    },
    "header": {"labelColor": INK, "titleColor": INK, "labelFontWeight": "bold"},
    "legend": {"labelColor": INK, "titleColor": INK, "labelLimit": 300, "titleLimit": 600},
}


def to_svg(chart: Any, data: Mapping[str, Rows], *, title: str, description: str) -> str:
    """A chart as SVG text; the same chart gives the same text.

    Args:
        chart: an Altair chart without a configuration of its own, on `altair.NamedData`.
        data: the rows of each name. They are put in here, because Altair would check every row
            against the whole schema, which takes a minute for a large matrix.
        title: the text alternative in a few words.
        description: the text alternative in full: what a reader should take from the picture.
    """
    import altair
    import vl_convert

    specification = chart.to_dict()
    specification |= {"config": _CONFIG, "datasets": dict(data)}
    svg = vl_convert.vegalite_to_svg(
        specification,
        vl_version=".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2]),
        allowed_base_urls=[],
    )
    return _with_alternative(svg, title, description)


def _with_alternative(svg: str, title: str, description: str) -> str:
    """The SVG with `title` and `desc`, which screen readers read out, and with ids of its own.

    Several figures may stand on one page, where an id must be the only one of its name; and the
    converter numbers its ids on from one figure to the next.
    """
    mark = hashlib.sha256(f"{title}\n{description}".encode()).hexdigest()[:12]
    seen: dict[str, int] = {}

    def renamed(found: re.Match[str]) -> str:
        place, kind, number = found.groups()
        return f"{place}{kind}-{seen.setdefault(kind + number, len(seen))}-{mark}"

    head, end, body = _ID.sub(renamed, svg).partition(">")
    return (
        f'{head} role="img" aria-labelledby="title-{mark} desc-{mark}"{end}'
        f'<title id="title-{mark}">{escape(title)}</title>'
        f'<desc id="desc-{mark}">{escape(description)}</desc>{body}\n'
    )
