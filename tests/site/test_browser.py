"""The site in a real browser: Chromium without a window, from files, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from afbench.site.build import write_site
from tests.site.boards import ZOO
from tests.site.browser import Browser, Page, find, started

PROGRAM = find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)
NARROW = 360


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with started(PROGRAM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def site(pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(tmp_path_factory.mktemp("browser") / "site", pages.items()).folder


NAMES = (
    "[...document.querySelectorAll('#results tbody tr:not([hidden]) th a')].map(a => a.innerText)"
)


def opened(browser: Browser, path: Path, **given: bool | int) -> Page:
    page = Page(browser, **given)  # type: ignore[arg-type]
    page.open(path)
    return page


def tab_to(page: Page, text: str) -> None:
    """Press Tab until the focus is on a control with this text."""
    for _ in range(200):
        page.press("Tab")
        if page.ask("document.activeElement.innerText ?? ''").strip() == text:
            return
    raise AssertionError(f"no control '{text}' can be reached by Tab")


def test_every_kind_of_page_loads_own_files_only_and_without_complaint(
    browser: Browser, site: Path
) -> None:
    kinds = ["index.html", "compare.html", "detectors/outsider.html", "detectors/probe.html",
             "organisms/index.html", "seasons/spring.html", "methods.html", "data.html",
             f"splits/{ZOO}/environment.html"]  # fmt: skip
    for name in kinds:
        page = opened(browser, site / name)
        assert page.complaints == [], name
        assert len(page.requests) >= 3, name
        for address in page.requests:
            assert address.startswith(site.as_uri()), address
        page.close()


def test_a_column_is_sorted_from_the_keyboard(browser: Browser, site: Path) -> None:
    page = opened(browser, site / "index.html")
    before = page.ask(NAMES)
    sort = "[...document.querySelectorAll('#results th')].map(th => th.getAttribute('aria-sort'))"
    assert page.ask(sort).count("descending") == 1
    tab_to(page, "Detector")
    page.press("Enter")
    assert page.ask(NAMES) == sorted(before)
    assert page.ask(sort)[1] == "ascending"
    assert sum(state is not None for state in page.ask(sort)) == 1
    page.press(" ")
    assert page.ask(NAMES) == sorted(before, reverse=True)
    assert page.ask(sort)[1] == "descending"
    tab_to(page, "Tokens")
    page.press("Enter")
    costs = page.ask(
        "[...document.querySelectorAll('#results td[data-v]')].map(td => +td.dataset.v)"
    )
    assert costs == sorted(costs, reverse=True)
    assert page.complaints == []


def test_the_first_stop_of_the_tab_key_skips_to_the_content(browser: Browser, site: Path) -> None:
    page = opened(browser, site / "index.html")
    page.press("Tab")
    assert page.ask("document.activeElement.className") == "skip"
    assert page.ask("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Enter")
    assert page.ask("document.activeElement.id") == "main"
    tab_to(page, "Detector")
    style = "getComputedStyle(document.activeElement)"
    assert page.ask(f"{style}.outlineStyle") == "solid"
    assert page.ask(f"parseFloat({style}.outlineWidth)") >= 2


def choose(page: Page, name: str, value: str) -> None:
    page.ask(
        f"(() => {{ const e = document.querySelector('form.filters').elements.namedItem('{name}');"
        f" e.value = '{value}'; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def test_filters_leave_what_is_asked_for_and_say_how_many(browser: Browser, site: Path) -> None:
    page = opened(browser, site / "index.html")
    everything = page.ask(NAMES)
    status = "document.querySelector('.shown').innerText"
    assert page.ask(status) == f"{len(everything)} of {len(everything)} shown."
    choose(page, "tier", "logprobs")
    assert set(page.ask(NAMES)) == {"cue-likelihood-contrast", "self-report"}
    choose(page, "contrast", "no")
    assert page.ask(NAMES) == ["self-report"]
    assert page.ask(status).startswith("1 of ")
    page.ask("document.querySelector('form.filters').reset()")
    page.ask("new Promise(done => setTimeout(done, 20))")
    assert page.ask(NAMES) == everything
    choose(page, "q", "PROBE activations")
    assert set(page.ask(NAMES)) == {"probe", "attention-probe", "followup-probe"}
    choose(page, "q", "")
    choose(page, "budget", "0")
    assert set(page.ask(NAMES)) == {"keyword-monitor", "floor-length"}
    assert page.complaints == []


def test_an_environment_s_figures_come_and_go(browser: Browser, site: Path) -> None:
    page = opened(browser, site / "index.html")
    column = "[...document.querySelectorAll('#results tbody tr')].map(r => r.cells[2].innerText)"
    before, names = page.ask(column), page.ask(NAMES)
    choose(page, "environment", "0")
    within = page.ask(column)
    assert within != before and not any("[" in text for text in within)
    values = [float(text) for text in within if text != "n/a"]
    assert values == sorted(values, reverse=True)
    assert "AUROC within" in page.ask("document.querySelector('.shown').innerText")
    choose(page, "environment", "")
    assert sorted(page.ask(column)) == sorted(before)
    assert set(page.ask(NAMES)) == set(names)
    assert page.complaints == []


def test_what_is_unreliable_stays_last_however_it_is_sorted(browser: Browser, site: Path) -> None:
    page = opened(browser, site / "seasons/spring.html")
    last = "document.querySelector('#reported tbody tr:last-child').className"
    click = "document.querySelectorAll('#reported th button')[{}].click()"
    for number in (1, 1, 2, 2):
        page.ask(click.format(number))
        assert page.ask(last) == "un"


@pytest.mark.parametrize("name", ["index.html", "detectors/probe.html", "compare.html",
                                  "organisms/index.html", "seasons/spring.html", "methods.html",
                                  "detectors/outsider.html", "data.html"])  # fmt: skip
def test_a_narrow_page_does_not_scroll_sideways(name: str, browser: Browser, site: Path) -> None:
    page = opened(browser, site / name, width=NARROW, height=740)
    assert page.ask("document.documentElement.scrollWidth") <= NARROW
    if name in ("index.html", "compare.html"):
        wide = "[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)"
        assert page.ask(wide), "the table scrolls in its own container"
    page.close()


def brightness(page: Page) -> float:
    colour = page.ask("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.strip("rgb()").split(",")) / 3


def test_the_theme_follows_the_system_and_the_button(browser: Browser, site: Path) -> None:
    dark = opened(browser, site / "index.html", dark=True)
    assert brightness(dark) < 40
    light = opened(browser, site / "index.html", dark=False)
    assert brightness(light) > 240
    light.ask("document.querySelector('.theme').click()")
    assert brightness(light) < 40
    light.open(site / "methods.html")
    assert brightness(light) < 40, "the choice is kept"


def test_without_scripts_the_whole_table_is_there(browser: Browser, site: Path) -> None:
    with_scripts = opened(browser, site / "index.html")
    names = with_scripts.ask(NAMES)
    page = opened(browser, site / "index.html", scripts=False)
    # A disabled script host still answers the debugger.
    assert page.ask("document.querySelectorAll('th button, .theme').length") == 0
    assert page.ask(NAMES) == names
    visible = "[...document.querySelectorAll('#results tbody tr')].every(r => r.offsetHeight > 10)"
    assert page.ask(visible)
    assert page.ask("document.querySelector('form.filters').offsetHeight") == 0
    assert page.ask("document.querySelector('.front').getBoundingClientRect().height") > 100


def test_the_accessible_tree_has_the_table_its_name_and_its_headings(
    browser: Browser, site: Path
) -> None:
    page = opened(browser, site / "index.html")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    found = [(n.get("role", {}).get("value"), n.get("name", {}).get("value")) for n in nodes]
    assert ("table", "Held-out recipes: detectors and floors by AUROC") in found
    assert ("columnheader", "AUROC") in found
    assert ("rowheader", "followup-probe") in found
    assert ("main", "") in found and ("navigation", "Site") in found
    images = [name for role, name in found if role in ("image", "graphics-document", "img")]
    assert images and all(images), "no picture is without a name"
    controls = [name for role, name in found if role in ("searchbox", "combobox", "checkbox")]
    assert len(controls) == 6 and all(controls)


def test_hostile_text_runs_nothing(browser: Browser, site: Path) -> None:
    page = opened(browser, site / "detectors/outsider.html")
    assert page.ask("document.querySelectorAll('main script, main img').length") == 0
    assert "<script src=" in page.ask("document.querySelector('main').innerText")
    assert page.complaints == []
