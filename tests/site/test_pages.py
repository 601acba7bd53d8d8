"""The pages: what stands in them, that anybody can read them, and that text stays text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from afbench.catalog.discovery import Catalog
from afbench.leaderboard.release import WITHHELD, feedback
from afbench.site.build import static_files
from afbench.site.content import read_content
from afbench.site.pages import Site
from benchmarks.site_build import BYTES, synthetic_board
from tests.leaderboard.boards import row, small
from tests.site.boards import (
    BROKEN,
    DETECTORS,
    HOSTILE,
    ZOO,
    Outline,
    built,
    cut,
    put_sweep,
    shipped,
)

INDEX = "index.html"
OTHER = f"splits/{ZOO}/environment.html"


@pytest.fixture(scope="module")
def outlines(pages: dict[str, str]) -> dict[str, Outline]:
    return {path: Outline(text) for path, text in pages.items() if path.endswith(".html")}


def rows(outline: Outline) -> list[str]:
    return [text for _, text in outline.all("tr")]


def test_every_detector_and_organism_has_a_page(pages: dict[str, str]) -> None:
    assert {f"detectors/{name}.html" for name in (*DETECTORS, "outsider", "probing")} <= set(pages)
    assert {f"organisms/{one.name}.html" for one in cut("recipe").organisms} <= set(pages)


def test_the_first_page_shows_the_headline_split_without_scripts(pages: dict[str, str]) -> None:
    table = Outline(pages[INDEX])
    text = "\n".join(rows(table))
    for name in DETECTORS:
        assert (name in text) == (name != "direct-gap-probe"), "a ceiling is not ranked"
    assert "direct-gap-probe" in pages[INDEX].split("Ceilings")[1]
    assert "0.87 [0.81, 0.92]" in text


def test_floors_stand_among_detectors_and_have_no_rank(outlines: dict[str, Outline]) -> None:
    floors = [text for given, text in outlines[INDEX].all("tr") if given.get("class") == "floor"]
    assert sum(text.startswith("floor floor-") for text in floors) == 2


def test_ranks_are_ranges_where_paired_tests_are_known(outlines: dict[str, Outline]) -> None:
    """The first of seven with an AUROC beats all but the second, which beats nobody."""
    ranks = [text.split()[0] for text in rows(outlines[INDEX]) if re.match(r"\d", text)]
    assert ranks == ["1–2", "1–7", *["2–7"] * 5, *ranks[7:]]
    assert "ranges that paired tests leave open" in " ".join(
        t for _, t in outlines[INDEX].all("li")
    )


def test_without_curves_ranks_go_by_value_and_the_page_says_so(
    pages: dict[str, str], outlines: dict[str, Outline]
) -> None:
    ranks = [text.split()[0] for text in rows(outlines[OTHER]) if re.match(r"\d", text)]
    assert ranks == [str(number) for number in range(1, len(ranks) + 1)]
    assert "Ranks go by the value alone" in pages[OTHER]
    assert "None here: records hold figures" not in pages["detectors/probe.html"]


def test_a_void_detector_stands_last_with_its_reason(outlines: dict[str, Outline]) -> None:
    table = [text for text in rows(outlines[INDEX]) if "sweep" in text]
    assert BROKEN in table[-1]
    assert "void" in table[-1]
    assert any(HOSTILE in text for _, text in outlines[INDEX].all("li"))


def test_an_unreliable_entry_stands_last_with_its_reason(outlines: dict[str, Outline]) -> None:
    season = outlines["seasons/spring.html"]
    reported = [text for text in rows(season) if text.endswith("reported")]
    assert reported[-1].startswith("– outsider unreliable:")
    assert HOSTILE in reported[-1]


def test_of_the_feedback_half_only_what_is_released_is_shown(pages: dict[str, str]) -> None:
    part = pages["seasons/spring.html"].split('id="verified-feedback"')[1].split("</table>")[0]
    assert "0.74" in part
    season = pages["seasons/spring.html"]
    assert "0.737" not in season
    glance = season.split('id="verified-feedback-title"')[1].split("<table")[0]
    assert "Highest AUROC" in glance
    assert "Clearly above" not in glance, "whether it is above the floor is withheld"
    assert WITHHELD in season


def test_a_release_that_is_refused_is_shown_as_that(tmp_path: Path) -> None:
    own = small(tmp_path)
    told, _ = feedback(row("probing", 0.7), 0.9, 0.02)
    figures = told.model_dump(mode="json")
    own.put(own.verified(half="feedback", figures=figures, floors=[]))
    pages = built(own.board)
    [line] = [text for text in rows(Outline(pages["index.html"])) if "probing" in text]
    assert line.startswith("– probing n/a")
    assert "not better by 0.02 than 0.9" in pages["index.html"]
    assert "not better by 0.02 than 0.9" in pages["detectors/probing.html"]


def test_statuses_are_told_apart(outlines: dict[str, Outline]) -> None:
    headings = [text for _, text in outlines["seasons/spring.html"].all("h2")]
    for title in ("Verified, final half", "Verified, feedback half", "Reported", "External"):
        assert title in headings


def test_text_of_strangers_is_never_markup(outlines: dict[str, Outline]) -> None:
    for path, outline in outlines.items():
        for tag, given, _ in outline.elements:
            assert tag not in ("img", "iframe", "object", "style"), path
            assert not [name for name in given if name.startswith("on") or name == "style"], path
            if tag == "script":
                assert (given.get("src") or "").endswith("static/site.js"), path


def test_nothing_is_loaded_from_another_host(outlines: dict[str, Outline]) -> None:
    for path, outline in outlines.items():
        for tag, given, _ in outline.elements:
            for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                address = given.get(name)
                if address is None or (tag == "a" and name == "href"):
                    continue
                assert not urlsplit(address).scheme and not urlsplit(address).netloc, (
                    path,
                    address,
                )
    style = static_files()["static/site.css"]
    assert "url(" not in style and "@import" not in style


def test_links_lead_to_pages_that_are_there_or_to_the_web(
    pages: dict[str, str], outlines: dict[str, Outline]
) -> None:
    known = {*pages, *static_files()}
    for path, outline in outlines.items():
        if path == "404.html":
            continue
        for given, _ in outline.all("a"):
            address = given["href"] or ""
            scheme = urlsplit(address).scheme
            assert scheme in ("", "http", "https"), address
            if scheme:
                assert "noopener" in (given["rel"] or "")
            elif not address.startswith("#"):
                there = Path(path).parent / unquote(urlsplit(address).path)
                parts: list[str] = []
                for part in there.parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                assert "/".join(parts) in known, (path, address)


def test_the_policy_allows_own_files_only(outlines: dict[str, Outline]) -> None:
    for path, outline in outlines.items():
        [policy] = [given["content"] or "" for given, _ in outline.all("meta")
                    if given.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy


def test_pages_are_well_formed_and_named(outlines: dict[str, Outline]) -> None:
    for path, outline in outlines.items():
        assert outline.unbalanced == [], path
        [title] = [text for _, text in outline.all("title") if "leaderboard" in text]
        assert len(list(outline.all("h1"))) == 1, path
        assert next(outline.all("html"))[0]["lang"] == "en"
        ids = [given["id"] for _, given, _ in outline.elements if "id" in given]
        assert len(ids) == len(set(ids)), path
        assert any(given.get("href") == "#main" for given, _ in outline.all("a"))
        for _, given, _ in outline.elements:
            for name in ("aria-labelledby", "aria-describedby"):
                for target in (given.get(name) or "").split():
                    assert target in ids, (path, target)
        assert title


def test_tables_have_captions_scopes_and_a_container_that_scrolls(
    pages: dict[str, str], outlines: dict[str, Outline]
) -> None:
    for path, outline in outlines.items():
        assert pages[path].count("<table") == len(
            re.findall(r'class="scroll"[^>]*>\s*<table', pages[path])
        ), path
        for given, _ in outline.all("th"):
            assert given.get("scope") in ("col", "row"), path
        if "/" not in path or not path.startswith(("detectors/", "organisms/")):
            assert pages[path].count("<table") == pages[path].count("<caption"), path
        for given, _ in outline.all("div"):
            if given.get("class") == "scroll":
                assert given.get("role") == "region" and given.get("tabindex") == "0"
                assert given.get("aria-label") or given.get("aria-labelledby")


def test_pictures_are_decoration_beside_numbers_or_described(outlines: dict[str, Outline]) -> None:
    for path, outline in outlines.items():
        for given, text in outline.all("svg"):
            if given.get("aria-hidden") != "true":
                assert given.get("role") == "img", path
                assert text.startswith("Cost and score AUROC against tokens"), path


def test_headings_do_not_skip_a_level(outlines: dict[str, Outline]) -> None:
    for path, outline in outlines.items():
        levels = [int(tag[1]) for tag, _, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
        steps = pairwise(levels)
        assert levels[0] == 1 and all(after <= before + 1 for before, after in steps), path


def test_an_organism_s_page_has_its_certificate_and_who_catches_it(pages: dict[str, str]) -> None:
    faker = next(one for one in cut("recipe").organisms if one.role == "faker")
    text = pages[f"organisms/{faker.name}.html"]
    assert "Certificate: certified" in text
    assert "conformity gap" in text
    for name in DETECTORS:
        assert (f"detectors/{name}.html" in text) == (name not in ("direct-gap-probe", BROKEN))


def test_a_detector_s_page_has_its_card_curves_and_maps(pages: dict[str, str]) -> None:
    text = pages["detectors/probe.html"]
    assert "Alain &amp; Bengio 2016" in text
    for heading in ("ROC curves", "What it takes for fakers", "Where it works", "Robustness"):
        assert heading in text
    assert text.count('class="roc"') == 1, "only one of the sweeps has curves"


def test_data_is_there_to_download(pages: dict[str, str]) -> None:
    lines = pages[f"data/{ZOO}.csv"].splitlines()
    assert len(lines) == 1 + 2 * len(DETECTORS)
    sweeps = json.loads(pages[f"data/{ZOO}.json"])
    assert [one["split"] for one in sweeps] == ["recipe", "environment"]
    assert sweeps[0]["detectors"][0]["auroc"]["value"] is not None
    assert len(json.loads(pages["data/season-spring.json"])["entries"]) == 5
    assert len(pages["data/season-spring.csv"].splitlines()) == 6


def test_the_same_leaderboard_gives_the_same_bytes(board: Path, pages: dict[str, str]) -> None:
    assert built(board) == pages


@pytest.mark.slow
def test_no_order_comes_from_hashing(board: Path, tmp_path: Path) -> None:
    found = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        command = [sys.executable, "-m", "afbench.cli.app", "leaderboard", "build"]
        subprocess.run([*command, "--board", str(board), "--out", str(out)], check=True,
                       capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})  # fmt: skip
        files = (path for path in sorted(out.rglob("*")) if path.is_file())
        found.append({path.relative_to(out): path.read_bytes() for path in files})
    assert found[0] == found[1]


def test_figures_of_other_versions_are_not_compared(tmp_path: Path) -> None:
    put_sweep(tmp_path, cut("recipe"))
    other = cut("environment")
    versions = {**other.inputs.versions, "afbench": "0.0.1"}
    inputs = other.inputs.model_copy(update={"versions": versions})
    put_sweep(tmp_path, other.model_copy(update={"inputs": inputs}).with_digest())
    text = built(tmp_path)["compare.html"]
    assert "Held-out environments</th>" not in text
    assert "environment (afbench 0.0.1)" in text


def test_the_base_url_is_that_of_links_on_the_page_that_may_stand_anywhere(board: Path) -> None:
    pages = built(board, base_url="/board/")
    assert 'href="/board/static/site.css"' in pages["404.html"]
    assert "/board/" not in pages[INDEX]


def test_the_first_page_of_500_results_is_small(tmp_path: Path) -> None:
    synthetic_board(tmp_path, shipped("recipe"), 500)
    path, text = next(Site(read_content(tmp_path), Catalog()).files())
    assert path == INDEX
    assert text.count("<tr") > 480
    assert len(text.encode()) < BYTES
