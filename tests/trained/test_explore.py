"""`gankit explore`: the map tells what is covered, and the page looks at pictures, side by side, and asks nobody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Gankit, refused
from PIL import Image
from test_browser import CHROMIUM, playwright, until

from gankit.data.source import Data
from gankit.errors import UserError
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import neighbours
from gankit.runs.folder import RunFolder
from gankit.trained import explore
from gankit.trained.explore import energies, look, modes
from gankit.trained.memorisation import data_of
from gankit.trained.real_and_generated import Real
from gankit.trained.sampling import Rebuilt, rebuild


@pytest.fixture(scope="module")
def began(finished: Path) -> Rebuilt:
    return rebuild(RunFolder(finished))


@pytest.fixture(scope="module")
def data(began: Rebuilt) -> Data:
    return data_of(began.run)


def drawing(samples: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every generator draw these."""
    monkeypatch.setattr(explore, "generated", lambda rebuilt, data, n: samples)


# The map.


def test_coverage_is_that_of_the_measures_and_the_axes_do_not_depend_on_the_samples(
    began: Rebuilt, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, n = modes(began, data), len(data.train) // 2
    samples = explore.generated(began, data, n)
    real = Real(data.train)
    expected = neighbours(pixels(real[:n]), pixels(samples))
    assert float(found.covered.double().mean()) == pytest.approx(expected.coverage)
    assert found.ceiling == pytest.approx(neighbours(pixels(real[:n]), pixels(real[n : 2 * n])).coverage)
    drawing(real[:n], monkeypatch)
    other = modes(began, data)
    assert torch.equal(other.real, found.real)
    assert torch.equal(other.real, other.drawn)
    assert other.covered.all()
    assert len(other.holes) == 0


def test_the_two_axes_are_those_of_the_largest_variance(began: Rebuilt, data: Data) -> None:
    found = modes(began, data)
    covariance = torch.cov(pixels(Real(data.train)[: len(found.real)]).T)
    largest = torch.linalg.eigvalsh(covariance).flip(0)[:2]
    torch.testing.assert_close(found.real.var(0), largest, rtol=1e-3, atol=1e-4)


def test_holes_are_the_real_pictures_that_no_sample_is_near_the_farthest_first(
    began: Rebuilt, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = len(data.train) // 2
    real = Real(data.train)[:n]
    drawing(real[:1].expand(n, -1, -1, -1), monkeypatch)  # a generator that draws one real picture, again and again
    found = modes(began, data)
    assert found.covered[0]
    assert 0 < len(found.holes) <= explore.HOLES
    assert not any(torch.equal(hole, real[0]) for hole in found.holes)
    missed = [place for hole in found.holes for place in range(n) if torch.equal(real[place], hole)]
    assert not found.covered[missed].any()
    far = torch.cdist(pixels(real).double(), pixels(real).double())
    ratio = far[:, 0] / far.fill_diagonal_(torch.inf).kthvalue(5, 1).values
    assert (ratio[missed].diff() <= 1e-6).all()


def test_a_map_of_too_few_pictures_is_refused(began: Rebuilt, data: Data) -> None:
    with pytest.raises(UserError, match="a map needs 40 training pictures, here are 39"):
        modes(began, Data("few", data.train[:39], data.held_out, "few"))


# A picture.


def test_a_picture_has_its_errors_and_energies_and_a_sheet(began: Rebuilt, data: Data, tmp_path: Path) -> None:
    Image.fromarray(data.train[0]).save(tmp_path / "one.png")
    said = look(began, str(tmp_path / "one.png"), tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").width > 3 * 160
    x = torch.tensor(data.train[0]).permute(2, 0, 1)[None] / 127.5 - 1
    reconstructed = began.judge(x, began.labels(1)).output
    assert f"|x − D(x)| {float((x - reconstructed.clamp(-1, 1)).abs().mean()):.4f}" in said
    found = energies(began, x)
    assert found is not None
    assert f"energy {float(found):.4f}, of G(z) " in said


@pytest.mark.parametrize(
    ("error", "said"),
    [(UserError("no map"), "no map"), (torch.OutOfMemoryError("too large"), "OutOfMemoryError: too large")],
)
def test_an_answer_that_fails_is_told_on_the_page(
    error: Exception, said: str, began: Rebuilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    for name in ("look", "modes", "_pictures"):
        monkeypatch.setattr(explore, name, fail)
    (sheet, words), (plot, also, holes) = (
        explore._looks(began, tmp_path / "s.png")("one.png"),
        explore._maps(began, None)(),
    )
    assert (sheet, plot, holes) == (None, None, None)
    assert words.startswith(said)
    assert also.startswith(said)


# The command.


def test_without_gradio_one_line_says_what_to_install(
    gankit: Gankit, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    refused(gankit("explore", finished), "needs gradio", "pip install 'gankit[explore]'")


WATCHED = """
import sys
def heard(event, arguments):
    if event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1"):
        print("asked", arguments[1], file=sys.stderr, flush=True)
sys.addaudithook(heard)
sys.argv = ["gankit", *sys.argv[1:]]
from gankit.cli import main
main()
"""


@pytest.mark.skipif(find_spec("gradio") is None, reason="no gradio: pip install 'gankit[explore]'")
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_two_runs_look_at_a_picture_and_draw_their_maps_and_nothing_else_is_asked(
    finished: Path, data: Data, tmp_path: Path
) -> None:
    Image.fromarray(data.train[0]).save(tmp_path / "one.png")
    (tmp_path / "note.txt").write_text("no picture")
    (tmp_path / "secret.png").write_bytes((tmp_path / "one.png").read_bytes())
    with open(tmp_path / "said", "w") as said, playwright.sync_playwright() as driver:
        command = [sys.executable, "-u", "-c", WATCHED, "explore", str(finished), str(finished)]
        server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            assert server.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
            assert address, (tmp_path / "said").read_text()
            browser = driver.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
            )
            _click(browser.new_page(), address[0], tmp_path)
            browser.close()
        finally:
            server.send_signal(signal.SIGINT)
            code = server.wait(60)
    assert code == 0
    assert "asked" not in (tmp_path / "said").read_text()


@pytest.mark.skipif(find_spec("gradio") is None, reason="no gradio: pip install 'gankit[explore]'")
def test_a_page_that_is_ended_by_sigterm_leaves_no_pictures_behind(finished: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "gankit", "explore", str(finished)]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout is not None
        assert "http://127.0.0.1:" in server.stdout.readline()
        assert list(tmp_path.glob("gankit-explore-*"))
        server.terminate()
        assert server.wait(60) == 0
    assert list(tmp_path.glob("gankit-explore-*")) == []


def _click(page: Any, address: str, folder: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, timeout=120_000)
    page.get_by_role("button", name="Look at it").click(timeout=120_000)
    shown = "[...document.querySelectorAll('textarea')].map((one) => one.value)"
    until(page, f"{shown}.filter((one) => one === 'choose a picture first').length === 2")
    page.locator("input[type=file]").first.set_input_files(folder / "one.png")
    until(page, "document.querySelectorAll('img[src*=\"one.png\"]').length > 0")
    page.get_by_role("button", name="Look at it").click()
    until(page, f"{shown}.filter((one) => /energy 0\\.\\d+, of G/.test(one)).length === 2")
    until(page, 'document.querySelectorAll(\'img[src*="0.png"], img[src*="1.png"]\').length === 2')
    page.get_by_role("tab", name="The map of modes").click()
    page.get_by_role("button", name="Draw the map").click()
    until(page, f"{shown}.filter((one) => one.includes('training pictures have one of')).length === 2")
    until(page, "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 2")
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    for path in ("/etc/passwd", folder / "secret.png"):
        assert page.request.get(f"{address}gradio_api/file={path}").status == 403
    assert "default-src 'self'" in page.request.get(address).headers["content-security-policy"]
