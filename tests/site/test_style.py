"""The style sheet: contrast of both themes by WCAG 2.2, and what it must have."""

from __future__ import annotations

import re

import pytest

from afbench.site.build import static_files
from tests.site.boards import Outline

STYLE = static_files()["static/site.css"]
TEXT, GRAPHIC = 4.5, 3.0
GROUNDS = ("ground", "raised", "faint", "floor-ground", "lead-ground")


def themes() -> dict[str, dict[str, str]]:
    found = {}
    for name, selector in (
        ("light", r":root \{"),
        ("dark", r':root\[data-theme="dark"\] \{'),
        ("dark by preference", r':root:not\(\[data-theme="light"\]\) \{'),
    ):
        block = re.search(selector + r"(.*?)\}", STYLE, re.DOTALL)
        assert block is not None
        found[name] = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block[1]))
    return found


THEMES = themes()


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_wcag_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", list(THEMES))
def test_text_can_be_read_on_every_ground(name: str) -> None:
    theme = THEMES[name]
    for ground in GROUNDS:
        for ink in ("ink", "muted", "accent", "floor"):
            assert contrast(theme[ink], theme[ground]) >= TEXT, (ink, ground)
    steps = [key.removesuffix("-ink") for key in theme if key.endswith("-ink")]
    assert len(steps) == 13
    for step in steps:
        assert contrast(theme[f"{step}-ink"], theme[step]) >= TEXT, step


@pytest.mark.parametrize("name", list(THEMES))
def test_marks_and_edges_of_controls_can_be_seen(name: str) -> None:
    theme = THEMES[name]
    for ground in GROUNDS:
        for mark in ("accent", "floor", "muted"):
            assert contrast(theme[mark], theme[ground]) >= GRAPHIC, (mark, ground)


def test_both_ways_to_the_dark_theme_give_the_same_colours() -> None:
    assert THEMES["dark"] == THEMES["dark by preference"]
    assert set(THEMES["dark"]) == set(THEMES["light"])


def test_colours_stand_in_variables_alone() -> None:
    rules = re.sub(r"--[a-z0-9-]+: #[0-9a-f]{6};", "", STYLE)
    assert not re.findall(r"#[0-9a-f]{3,8}\b", rules)


def test_motion_and_focus_are_looked_after() -> None:
    assert "transition" not in STYLE.split("@media (prefers-reduced-motion: no-preference)")[0]
    assert re.search(r":focus-visible \{ outline: 3px solid", STYLE)
    assert "outline: none" not in STYLE.replace("main:focus { outline: none; }", "")


def test_every_class_of_the_pages_is_one_of_the_style_sheet(pages: dict[str, str]) -> None:
    known = set(re.findall(r"\.([a-z][a-z0-9-]*)", STYLE))
    used = {
        name
        for path, text in pages.items()
        if path.endswith(".html")
        for _, given, _ in Outline(text).elements
        for name in (given.get("class") or "").split()
    }
    assert used - known == set()
