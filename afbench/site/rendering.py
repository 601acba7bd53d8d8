"""Jinja as the site uses it: everything is escaped, and nothing undefined is passed over."""

from __future__ import annotations

import re
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from afbench.metrics.figures import Figure
from afbench.site.marks import axis, gap, interval, short
from afbench.site.matrices import shade, shade_of_rate
from afbench.site.views import failure, is_clear, is_open_deviation

# Control characters, marks that turn the direction of text, and halves of surrogate pairs.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def environment() -> Environment:
    """The templates of this package."""
    made = Environment(
        loader=PackageLoader("afbench.site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    made.filters |= {
        "short": _two_digits,
        "count": short,
        "signed": _signed,
        "interval": interval,
        "gap": gap,
        "shade": shade,
        "shade_of_rate": shade_of_rate,
        "failure": failure,
        "is_clear": is_clear,
        "is_open_deviation": is_open_deviation,
    }
    made.tests["web"] = _is_web
    made.globals["axis"] = axis
    return made


def _printable(value: Any) -> Any:
    if type(value) is str:
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    return "" if value is None else value


def _is_web(url: str) -> bool:
    """Whether a link may lead there."""
    return url.lower().startswith(("https://", "http://"))


def _two_digits(value: Figure | float | None) -> str:
    """A value, with a typographic minus sign."""
    number = value.value if isinstance(value, Figure) else value
    return "n/a" if number is None else f"{round(number, 2) + 0.0:.2f}".replace("-", "−")


def _signed(figure: Figure) -> Markup:
    """A difference with its sign and interval, in typographic minus signs."""
    if figure.value is None:
        return Markup("n/a")
    text = f"{round(figure.value, 2) + 0.0:+.2f}"
    if figure.low is not None and figure.high is not None:
        low, high = (f"{round(end, 2) + 0.0:.2f}" for end in (figure.low, figure.high))
        text += f" <small>[{low}, {high}]</small>"
    return Markup(text.replace("-", "−"))
