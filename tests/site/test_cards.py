"""Cards: Markdown becomes text, lists and tables, and no markup of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from afbench.site.cards import read_card, rendered
from tests.shipped import ROOT, names
from tests.site.boards import Outline


def test_the_page_s_heading_is_not_given_twice_and_others_stand_below() -> None:
    assert rendered("# probe\n\ntext\n\n## Method\n") == "<p>text</p>\n<h3>Method</h3>\n"
    assert rendered("## Method") == "<h3>Method</h3>\n"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "text <img src=x onerror=alert(1)> text",
        "[a](javascript:alert(1))",
        "[a](JaVaScRiPt:alert(1))",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        "[a](vbscript:x) <javascript:alert(1)>",
        "![a](https://evil.example/x.png)",
        "[a][b]\n\n[b]: javascript:alert(1)",
        "```<script>\nalert(1)\n```",
        '[a](https://example.org/" onmouseover="alert(1))',
        "[a](file:///etc/passwd) [b](//evil.example) [c](../../x)",
        "&lt;script&gt;&#60;script&#62;",
        "| a |\n|:-:|\n| <script> |",
    ],
)
def test_nothing_in_a_card_runs_loads_or_leads_elsewhere(text: str) -> None:
    for tag, given, _ in Outline(rendered(text)).elements:
        assert tag not in ("script", "img", "iframe", "style")
        assert not [name for name in given if name.startswith("on") or name == "style"]
        if tag == "a":
            assert (given["href"] or "").startswith("https://")


def test_links_to_the_web_stay_links() -> None:
    [(given, text)] = Outline(rendered("[paper](https://arxiv.org/abs/1610.01644)")).all("a")
    assert given["href"] == "https://arxiv.org/abs/1610.01644"
    assert "nofollow" in (given["rel"] or "")
    assert text == "paper"


def test_comments_and_written_figures_are_left_out(tmp_path: Path) -> None:
    text = "# x\n\nwords\n\n<!-- a note -->\n\n<!-- figures: written -->\n## Certificate\n"
    (tmp_path / "card.md").write_text(text)
    assert read_card(tmp_path) == "<p>words</p>\n"


def test_a_card_that_is_missing_or_no_text_is_none(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None
    (tmp_path / "card.md").write_bytes(b"\xff\xfe\x00")
    assert read_card(tmp_path) is None


def test_every_shipped_detector_has_a_card_that_can_be_shown() -> None:
    for name in names("detector"):
        card = read_card(ROOT / "detectors" / name)
        assert card is not None and "Method." in card, name
        assert Outline(card).unbalanced == [], name
