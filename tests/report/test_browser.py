"""The pages in a browser: no network access, no errors, and working controls."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'gankit[dev]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

WIDTHS = {"a phone, dark": (390, "dark"), "a screen, light": (1440, "light")}
WAIT = 180_000  # milliseconds for five megabytes of scripts, on a busy machine
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # As root, which CI often is, Chromium has no sandbox to offer.
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


def until(page: Any, condition: str) -> None:
    """Wait for it; playwright's own waiting needs `eval`, which the pages forbid."""
    for _ in range(2400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never true: {condition}")


@pytest.fixture(scope="module")
def pages() -> dict[tuple[Path, int], tuple[Any, list[str]]]:
    """The open pages, each with its messages and requests; opening one takes a second."""
    return {}


@pytest.fixture
def opened(browser: Any, pages: dict[tuple[Path, int], tuple[Any, list[str]]]) -> Iterator[Open]:
    """Open a page; any message or any request to elsewhere fails the test."""

    def open_page(path: Path, width: int = 1440, scheme: str = "light") -> Any:
        if (path, width) in pages:
            return pages[path, width][0]
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said: list[str] = []
        pages[path, width] = page, said
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on(
            "request", lambda request: said.append(request.url) if request.url[:5] not in ("data:", "blob:") else None
        )
        page.goto(path.as_uri(), timeout=WAIT)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        until(page, "[...document.querySelectorAll('.plot, .dots, .trials')].every((one) => one._fullLayout)")
        return page

    yield open_page
    for (path, _), (_, said) in pages.items():
        assert said == [path.as_uri()]


@pytest.fixture(params=["run", "comparison", "sweep"])
def page_of(request: pytest.FixtureRequest) -> Path:
    folder = request.getfixturevalue({"run": "finished", "sweep": "swept"}.get(request.param, request.param))
    return Path(folder) / "report.html"


@pytest.fixture(params=["run", "comparison"])
def report(request: pytest.FixtureRequest) -> Path:
    folder = request.getfixturevalue({"run": "finished"}.get(request.param, request.param))
    return Path(folder) / "report.html"


@pytest.mark.parametrize("where", WIDTHS)
def test_nothing_overflows_and_everything_is_drawn(page_of: Path, where: str, opened: Open) -> None:
    width, scheme = WIDTHS[where]
    page = opened(page_of, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = """[...document.querySelectorAll('main *')]
        .filter((one) => !one.closest('.scroll, .plot, .dots, .trials, details'))
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.outerHTML.slice(0, 80))"""
    assert page.evaluate(wide) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 200) == (scheme == "dark")
    pictures = page.evaluate("[...document.images].map((one) => [one.complete && one.naturalWidth > 0, one.alt])")
    assert pictures
    assert all(drawn and alt for drawn, alt in pictures)


def test_the_slider_changes_the_pictures_by_key_and_pointer(report: Path, opened: Open) -> None:
    page = opened(report)
    pictures = page.locator("[data-column]")
    slider, label = page.locator("#when"), page.locator("#step")

    def shown() -> list[tuple[str, str]]:
        return [
            (pictures.nth(n).get_attribute("src"), pictures.nth(n).get_attribute("alt"))
            for n in range(pictures.count())
        ]

    slider.focus()
    page.keyboard.press("Home")
    first, began = shown(), label.text_content()
    page.keyboard.press("ArrowRight")
    second = shown()
    assert began == "step 0"
    assert label.text_content() != began
    assert all(one != other for one, other in zip(first, second, strict=True))
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    assert all(one[0] != other[0] for one, other in zip(second, shown(), strict=True))
    page.keyboard.press("Home")
    assert shown() == first
    page.locator("#play").click()
    until(page, "document.getElementById('when').value === document.getElementById('when').max")
    assert page.locator("#play").text_content() == "Play"


def test_a_curve_zooms_with_all_others_and_back(report: Path, opened: Open) -> None:
    page = opened(report)
    ranges = "[...document.querySelectorAll('.plot')].map((one) => one._fullLayout.xaxis.range.map(Math.round))"
    plot = page.locator(".plot .nsewdrag").first
    plot.scroll_into_view_if_needed()
    whole = page.evaluate(ranges)
    box = plot.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.3 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], middle, steps=4)
    page.mouse.up()
    until(page, f"JSON.stringify({ranges}[1]) !== '{whole[1]}'.replaceAll(' ', '')")
    near = page.evaluate(ranges)
    assert whole[0][0] < near[0][0] < near[0][1] < whole[0][1]
    assert near[1] == near[0]
    plot.dblclick(position={"x": 0.5 * box["width"], "y": 0.2 * box["height"]})
    until(page, f"JSON.stringify({ranges}) === '{whole}'.replaceAll(' ', '')")


def test_a_chart_in_a_folded_part_is_drawn_once_it_is_opened_at_the_zoom_of_the_others(
    finished: Path, browser: Any
) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((finished / "report.html").as_uri(), timeout=WAIT)
    shown = "[...document.querySelectorAll('.plot')].filter((one) => one._fullLayout)"
    until(page, f"{shown}.length > 0")
    before = page.evaluate(f"{shown}.length")
    page.evaluate(f"Plotly.relayout({shown}[0], {{'xaxis.range[0]': 2, 'xaxis.range[1]': 4}})")
    assert page.evaluate("document.querySelectorAll('.plot').length") > before
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    over_steps = f"{shown}.filter((one) => !one.ariaLabel.startsWith('Quantile'))"
    until(
        page, f"{over_steps}.every((one) => one._fullLayout.xaxis.range.join() === '2,4') && {shown}.length > {before}"
    )
    page.close()


def test_no_chart_takes_a_stop_of_the_tab_key(report: Path, opened: Open) -> None:
    page = opened(report)
    page.locator(".plot").first.hover()
    stops = "[...document.querySelectorAll('.plot *, .dots *')].filter((one) => one.tabIndex >= 0).length"
    assert page.locator(".modebar-btn").count() > 0
    assert page.evaluate(stops) == 0


def test_a_button_copies_the_command_beside_it(finished: Path, browser: Any) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto((finished / "report.html").as_uri(), timeout=WAIT)
    commands = page.locator(".copyable code").all_text_contents()
    assert commands
    assert page.locator(".copy").count() == len(commands)
    page.locator(".copy").last.click()
    until(
        page,
        "document.querySelectorAll('.copy')[document.querySelectorAll('.copy').length - 1].textContent === 'Copied'",
    )
    assert page.evaluate("navigator.clipboard.readText()") == commands[-1]
    context.close()


def test_without_scripts_no_heading_stands_over_a_blank_and_no_control_is_dead(finished: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((finished / "report.html").as_uri(), timeout=WAIT)
    for hidden in (".plot", ".controls", ".copy"):
        assert page.locator(f"{hidden}:visible").count() == 0
    folded = page.locator("details:not([open]) > summary")
    while folded.count():
        folded.first.click()
    panels = page.locator(".panel:visible").all()
    assert len(panels) > 5
    for panel in panels:
        assert panel.locator("table:visible, noscript p:visible").count() == 1
    context.close()


def test_on_paper_open_parts_are_printed_and_folded_ones_left_out(finished: Path, browser: Any) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto((finished / "report.html").as_uri(), timeout=WAIT)
    page.emulate_media(media="print")
    assert page.locator("#verdict").is_visible()
    assert page.locator("details:not([open]):visible, .controls:visible, nav:visible, .copy:visible").count() == 0
    assert not page.locator("#details").is_visible()  # nothing below it is open
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert sum(ground) > 700
    page.evaluate("document.querySelector('.folded details').open = true")
    assert page.locator("#details").is_visible()
    page.close()


def test_a_comparison_shows_each_measure_and_leads_to_the_runs_own_reports(comparison: Path, opened: Open) -> None:
    page = opened(comparison / "report.html")
    dots = "[...document.querySelectorAll('.dots')].map((one) => one.querySelectorAll('.scatterlayer .trace').length)"
    assert page.evaluate(dots) == [4] * page.locator(".dots").count()  # the seeds and the mean of each model
    assert page.locator("[data-column]").count() == 2
    links = page.locator("section[aria-labelledby=runs] a").evaluate_all(
        "(all) => all.map((one) => one.getAttribute('href'))"
    )
    assert len(links) == 2
    assert all((comparison / unquote(link)).is_file() for link in links)


RAN = "document.title = 'it ran'"


@pytest.fixture
def clicked(browser: Any) -> Callable[..., tuple[str, list[str]]]:
    """Open a page, change it and click an element; returns its title, and its policy messages."""

    def click(path: Path, prepare: str, selector: str) -> tuple[str, list[str]]:
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.goto(path.as_uri(), timeout=WAIT)
        page.evaluate(prepare)
        page.locator(selector).first.evaluate("(one) => one.click()")
        page.wait_for_timeout(300)
        title = page.title()
        page.close()
        return title, said

    return click


def test_the_policy_runs_no_script_but_the_pages_own(report: Path, clicked: Callable[..., Any]) -> None:
    policy = re.search('Content-Security-Policy" content="([^"]+)"', report.read_text(encoding="utf-8"))
    assert policy
    directives = dict(one.strip().split(" ", 1) for one in policy[1].replace("&#39;", "'").split(";"))
    assert re.fullmatch("('sha256-[A-Za-z0-9+/=]{44}' ?){1,2}", directives["script-src"])
    assert "unsafe" not in directives["style-src"] + directives["default-src"] + directives["script-src"]
    planted = f"""document.body.insertAdjacentHTML("beforeend", `<b onclick="{RAN}" id="b">b</b>
            <a id="planted" href="javascript:{RAN}">a</a><img src="data:," onerror="{RAN}">`);
        const script = document.createElement("script"); script.textContent = "{RAN}"; document.body.append(script);"""
    for selector in ("#planted", "#b"):
        title, said = clicked(report, planted, selector)
        assert "it ran" not in title
        assert any("Content Security Policy" in line for line in said)


def test_a_link_to_a_run_is_an_address_below_the_comparison(
    comparison: Path, tmp_path: Path, clicked: Callable[..., Any]
) -> None:
    """A folder may have any name, and the other page exists."""
    from gankit.report.comparison_page import write_comparison

    theirs = Path(shutil.copytree(comparison, tmp_path / "theirs"))
    told = json.loads((theirs / "comparison.json").read_text())
    folder = f"javascript:{RAN};"
    (theirs / told["runs"][0]["folder"]).rename(theirs / folder)
    told["runs"][0]["folder"] = f"{folder}//"
    told["runs"][1]["folder"] = "javascript:alert(1)//../runs/" + told["runs"][1]["folder"].partition("/")[2]
    (theirs / "comparison.json").write_text(json.dumps(told))
    with pytest.raises(Exception, match="does not lie below it"):
        write_comparison(theirs)
    told["runs"].pop()
    (theirs / "comparison.json").write_text(json.dumps(told))
    page = write_comparison(theirs)
    title, _ = clicked(page, "0", "section[aria-labelledby=runs] a")
    assert "it ran" not in title
    shown = page.read_text(encoding="utf-8").partition("</main>")[0]
    links = re.findall('<a [^>]*href="([^"]+)"', shown)
    assert all(link.startswith(("#", "./")) for link in links)
    assert any("javascript%3A" in link for link in links)
