"""The map of layers and poolings, and the page of shaded tokens."""

from __future__ import annotations

import csv
import io
import re

from afbench.figures.layer_map import MapCell, layer_map_csv, layer_map_plot
from afbench.figures.token_page import ShadedTranscript, token_page
from tests.figures.svg_texts import alternative, texts

CELLS = [
    MapCell("prompt_last", 0, 0.5, 0.4),
    MapCell("prompt_last", 1, 0.91, 0.62, chosen=True),
    MapCell("all_mean", 0, None, 0.77),
    MapCell("all_mean", 1, 0.7, None),
]


def test_the_csv_keeps_fit_and_test_apart_and_leaves_out_what_there_is_not() -> None:
    rows = list(csv.DictReader(io.StringIO(layer_map_csv(CELLS))))
    assert [row["fit_auroc"] for row in rows] == ["0.5", "0.91", "", "0.7"]
    assert [row["test_auroc_diagnostic"] for row in rows] == ["0.4", "0.62", "0.77", ""]
    assert [row["chosen"] for row in rows] == ["no", "yes", "no", "no"]


def test_the_picture_says_which_numbers_are_diagnostic_and_where_the_detector_reads() -> None:
    svg = layer_map_plot(CELLS, title="probe, desk")
    shown = texts(svg)
    assert {"0.91", "0.62", "0.77", "prompt_last", "all_mean"} <= shown
    assert any("diagnostic" in text for text in shown)
    assert "layer 1, prompt_last" in alternative(svg)[1]


def page(*transcripts: ShadedTranscript) -> str:
    return token_page(transcripts, title="<probe>", note="a & b")


def test_the_page_asks_no_host_and_runs_nothing() -> None:
    html = page(ShadedTranscript("faking", ["<script>", "x"], [1.0, -1.0], 1))
    assert not re.search(r"(src|href)=|https?:|url\(|@import|<script", html)
    assert "default-src 'none'" in html
    assert "&lt;script&gt;" in html and "&lt;probe&gt;" in html


def test_the_furthest_token_is_the_darkest_and_the_reply_is_marked() -> None:
    html = page(
        ShadedTranscript("faking", ["a", "b", "c", "d", "e"], [0.0, 0.0, 1.0, 4.0, -2.0], 3)
    )
    spans = re.findall(r'<span( class="reply")? style="background:rgb\((\d+),(\d+),(\d+)\)"', html)
    assert [bool(span[0]) for span in spans] == [False, False, False, True, True]
    darkness = [3 * 255 - sum(map(int, span[1:])) for span in spans]
    assert darkness[0] == 0 and max(darkness) == darkness[3] > darkness[2] > 0
    assert int(spans[4][3]) > int(spans[4][1]), "under the middle is blue"
