"""The page of `gankit share` in a browser: the same pictures as PyTorch, real clicks, no request and no error."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, quietly
from PIL import Image
from test_browser import CHROMIUM, WAIT, WIDTHS, playwright, until

from gankit.runs.folder import RunFolder
from gankit.trained.sampling import rebuild

pytest.importorskip("onnxruntime", reason="no ONNX: pip install 'gankit[share]'")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
CONDITIONAL = ("--plugin", str(ROOT / "examples" / "plugins" / "class-conditional"))
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of BEGAN in single precision, and one of a generator that is told a class, in half."""
    there = tmp_path_factory.mktemp("shared")
    for n in range(40):
        place = there / "kinds" / ("<b>cats", "dogs")[n % 2] / f"{n}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(place)
    short = (*TINY[2:], "--steps", 2)
    assert quietly("run", "began", "--data", "demo:120", *short, "--out", "began", cwd=there) == 0
    assert quietly("share", "began", "--full", "-o", "began.html", cwd=there) == 0
    told = ("run", "class-conditional", "--data", "kinds", *short, "--out", "told", *CONDITIONAL)
    assert quietly(*told, cwd=there) == 0
    assert quietly("share", "told", "-o", "told.html", *CONDITIONAL, cwd=there) == 0
    return there


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Open a page and wait until it has drawn; any message and any request to elsewhere fails the test."""
    said: list[str] = []
    pages = []

    def open_page(path: Path, width: int = 1000, scheme: str = "light", address: str = "") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
        pages.append(page)
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("data:", "blob:", "file:")) else said.append(request.url),
        )
        page.goto(path.as_uri() + address, timeout=WAIT)
        until(page, "'gankit' in window && document.getElementById('status').textContent.includes('drawn in')")
        return page

    yield open_page
    for page in pages:
        page.close()
    reading = "willReadFrequently"  # a hint to the tests, which read pixels back
    assert [line for line in said if reading not in line] == []


def picture(page: Any, latent: list[float], label: int = 0) -> np.ndarray:
    return np.array(page.evaluate(f"gankit.picture({json.dumps(latent)}, {label})"), np.float32)


def pixels(page: Any, canvas: str = "#large") -> list[int]:
    got = """(one) => [...one.getContext("2d").getImageData(0, 0, one.width, one.height).data]"""
    return list(page.locator(canvas).first.evaluate(got))


@pytest.mark.parametrize(("name", "label", "close"), [("began", 0, 1e-3), ("told", 1, 5e-3)])
def test_it_draws_pytorch_s_picture_of_a_seed_s_latent(
    name: str, label: int, close: float, folder: Path, opened: Open
) -> None:
    page = opened(folder / f"{name}.html")
    rebuilt = rebuild(RunFolder(folder / name), plugins=CONDITIONAL[1:])
    latent = page.evaluate("gankit.latent(7)")
    labels = torch.full((1,), label) if name == "told" else rebuilt.labels(1)
    with torch.no_grad():
        expected = rebuilt.generate(torch.tensor([latent]), labels).clamp(-1, 1).flatten().numpy()
    assert np.abs(picture(page, latent, label) - expected).max() < close
    assert latent != page.evaluate("gankit.latent(8)")
    drawn = np.array(pixels(page, "#grid button:nth-child(7) canvas")).reshape(-1, 4)[:, :3].T.flatten()
    if name == "began":
        assert np.abs(drawn / 127.5 - 1 - expected).max() < 1 / 127


def test_the_latents_of_many_seeds_have_the_model_s_own_distribution(folder: Path, opened: Open) -> None:
    page = opened(folder / "began.html")
    drawn = np.array(
        page.evaluate(
            "(async () => { const all = []; for (let n = 0; n < 400; n++) all.push(await "
            "gankit.latent(n)); return all; })()"
        )
    )
    assert drawn.shape == (400, 8)
    assert abs(drawn.mean()) < 0.03
    assert drawn.std() == pytest.approx(3**-0.5, abs=0.02)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 0.2


@pytest.mark.parametrize("where", WIDTHS)
def test_nothing_overflows_in_light_and_dark(where: str, folder: Path, opened: Open) -> None:
    width, scheme = WIDTHS[where]
    page = opened(folder / "told.html", width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 200) == (scheme == "dark")


def test_new_ones_are_drawn_and_a_picture_is_found_again_by_its_address(folder: Path, opened: Open) -> None:
    page = opened(folder / "began.html")
    first = pixels(page, "#grid canvas")
    page.locator("#draw").click()
    until(page, "!document.getElementById('status').textContent.startsWith('Seeds 1 to')")
    assert pixels(page, "#grid canvas") != first
    page.locator("#grid button").nth(5).click()
    until(page, "location.hash.startsWith('#seed=') && location.hash !== '#seed=1'")
    seeded = page.evaluate("location.hash"), pixels(page)
    slider = page.locator("#sliders input").first
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    until(page, "location.hash.startsWith('#z=')")
    slid = page.evaluate("location.hash"), pixels(page)
    assert slid[1] != seeded[1]
    for address, shown in (seeded, slid):
        again = opened(folder / "began.html", address=address)
        until(again, f"document.getElementById('name').textContent !== 'Seed 1' && location.hash === '{address}'")
        assert pixels(again) == shown
    page.locator("#back").click()
    until(page, f"location.hash === '{seeded[0]}'")
    assert pixels(page) == seeded[1]


def test_pictures_are_kept_mixed_walked_between_and_bred_from(folder: Path, opened: Open) -> None:
    page = opened(folder / "began.html")
    assert not page.locator("#kept").is_visible()
    for n in (2, 4, 6):
        page.locator("#grid button").nth(n).click()
        until(page, f"document.getElementById('name').textContent === 'Seed {n + 1}'")
        page.locator("#keep").click()
    until(page, "document.querySelectorAll('#shelf button').length === 3")
    for n in (0, 2):
        page.locator("#shelf button").nth(n).click()
    assert "2 of 3" in page.locator("#chosen").text_content()
    page.locator("#mix").click()
    until(page, "document.getElementById('name').textContent === 'Between two' && location.hash.startsWith('#z=')")
    a, b = (np.array(page.evaluate(f"gankit.latent({seed})")) for seed in (3, 7))
    page.wait_for_timeout(200)
    mixed = picture(page, [float(x) for x in (a + b) / 2])
    shown = np.array(pixels(page)).reshape(-1, 4)[:, :3].T.flatten()
    assert np.abs(shown / 127.5 - 1 - mixed).max() < 0.02
    page.locator("#walk").click()
    before = page.locator("#way").input_value()
    until(page, f"document.getElementById('way').value !== '{before}'")
    page.locator("#walk").click()
    assert page.locator("#walk").text_content() == "Walk"
    page.locator("#breed").click()
    until(page, "document.getElementById('status').textContent.startsWith('Children of 2 pictures')")
    page.locator("#grid button").nth(0).click()
    until(page, "document.getElementById('name').textContent === 'A child'")
    page.reload()
    until(page, "document.querySelectorAll('#shelf button').length === 3")


def test_a_picture_is_saved_as_an_enlarged_png(folder: Path, opened: Open, tmp_path: Path) -> None:
    page = opened(folder / "began.html")
    with page.expect_download() as download:
        page.locator("#save").click()
    assert re.fullmatch(r"demo.*-seed-1\.png", download.value.suggested_filename)
    download.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png", formats=["PNG"]) as saved:
        assert saved.size == (512, 512)
        small = np.asarray(saved.convert("RGB"))[16::32, 16::32]
    assert small.reshape(-1, 3).tolist() == np.array(pixels(page)).reshape(-1, 4)[:, :3].tolist()


def test_a_generator_that_is_told_a_class_lets_one_choose_it(folder: Path, opened: Open) -> None:
    page = opened(folder / "told.html")
    assert page.locator("#class option").all_text_contents() == ["all in turn", "<b>cats", "dogs"]
    page.locator("#grid button").nth(0).click()
    until(page, "location.hash === '#seed=1&class=1'")
    page.locator("#class").select_option("0")
    page.wait_for_timeout(300)
    page.locator("#grid button").nth(0).click()
    until(page, "location.hash === '#seed=1&class=0'")
    assert page.locator("#name").text_content() == "Seed 1, <b>cats"


def test_another_page_s_address_does_no_harm(folder: Path, opened: Open) -> None:
    for address in ("#z=AAAA", "#seed=-1", "#seed=1e99", "#z=%FF%00", "#class=77&seed=x"):
        page = opened(folder / "told.html", address=address)
        assert page.locator("#grid button").count() == 24
