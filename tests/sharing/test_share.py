"""`gankit share`: ONNX equals PyTorch, the page holds what it needs, and what does not fit is told in one line."""

from __future__ import annotations

import base64
import gzip
import hashlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA, ROOT, TINY, Gankit, quietly, refused

from gankit.cli import cli
from gankit.runs.folder import RunFolder
from gankit.trained.run import Run
from gankit.trained.sampling import Rebuilt, rebuild

pytest.importorskip("onnxruntime", reason="no ONNX: pip install 'gankit[share]'")
from gankit.sharing import onnx
from gankit.sharing.directions import directions
from gankit.sharing.page import RUNTIME, runtime

EXAMPLES = ROOT / "examples" / "plugins"
DCGAN = ("--plugin", str(EXAMPLES / "dcgan"))


def trained(folder: Path, model: str, *more: object) -> RunFolder:
    assert quietly("run", model, *TINY[:-4], "--steps", 2, *more, "--out", model, cwd=folder) == 0
    return RunFolder(folder / model)


@pytest.fixture(scope="session")
def dcgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("dcgan"), "dcgan", *DCGAN).folder


def part(page: Path, name: str) -> bytes:
    """What the page holds under that name."""
    found = re.search(rf'<script type="application/octet-stream" id="{name}">([^<]+)<', page.read_text("utf-8"))
    assert found
    return gzip.decompress(base64.b64decode(found[1]))


def pictures(rebuilt: Rebuilt, z: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return rebuilt.generate(z, rebuilt.labels(len(z))).clamp(-1, 1).numpy()


# The same numbers as PyTorch.


@pytest.mark.parametrize("model", ["began", "ebgan", "dcgan"])
def test_the_onnx_form_draws_the_same_pictures_from_the_same_latents(model: str, tmp_path: Path) -> None:
    plugins = DCGAN[1:] if model == "dcgan" else ()
    rebuilt = rebuild(trained(tmp_path, model, *(DCGAN if plugins else ())), plugins=plugins)
    form = onnx.generator(rebuilt)
    z = rebuilt.latents(37)  # another number than in the comparison before the export
    expected = pictures(rebuilt, z)
    (found,) = onnx.run(form, z=z.numpy())
    assert np.abs(found - expected).max() < 1e-4
    assert expected.std() > 0.01
    (half,) = onnx.run(onnx.halved(form), z=z.numpy())
    assert onnx.psnr(half, expected) > 60
    drawn = onnx.latents(rebuilt)
    kind, count = ("normal", drawn.normal) if model == "dcgan" else ("uniform", drawn.uniform)
    assert (count, drawn.uniform + drawn.normal) == (8, 8)
    numbers = np.linspace(0, 0.9, 8, dtype=np.float32)[None]
    (latent,) = onnx.run(drawn.model, **{kind: numbers})
    assert np.allclose(latent, numbers if model == "dcgan" else 2 * numbers - 1, atol=1e-6)


def test_a_direction_changes_pictures_more_than_one_of_the_same_length_by_chance(finished: Path) -> None:
    rebuilt = rebuild(RunFolder(finished))
    found = directions(rebuilt)
    assert len(found.steps) == 6
    assert (found.change.diff() <= 0).all()
    z = rebuilt.latents(64)
    chance = torch.nn.functional.normalize(torch.randn(len(found.steps), 8)) * found.steps.norm(dim=1, keepdim=True)

    def change(step: torch.Tensor) -> float:
        return float(np.abs(pictures(rebuilt, z + 2 * step) - pictures(rebuilt, z - 2 * step)).mean())

    assert change(found.steps[0]) > np.mean([change(step) for step in chance])


# The page.


def test_a_page_holds_the_plugin_s_generator_and_is_written_again_but_over_nothing_else(
    gankit: Gankit, dcgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = gankit("share", dcgan, *DCGAN, "-o", "new/page.html", "--full", "--credit", "by <me>")
    assert said.code == 0, said.err
    assert "page.html (5.0 MB, single precision)" in said.out
    page = tmp_path / "new/page.html"
    rebuilt = rebuild(RunFolder(dcgan), plugins=DCGAN[1:])
    z = rebuilt.latents(3)
    (found,) = onnx.run(part(page, "generator"), z=z.numpy())
    assert np.abs(found - pictures(rebuilt, z)).max() < 1e-4
    assert str(ROOT).encode() not in part(page, "generator")  # torch notes the paths of source files
    assert "by &lt;me&gt;" in page.read_text("utf-8")
    (tmp_path / "mine.html").write_text("my own")
    refused(gankit("share", dcgan, *DCGAN, "-o", "mine.html"), "mine.html exists", "did not write it")
    assert (tmp_path / "mine.html").read_text() == "my own"
    refused(gankit("share", dcgan, *DCGAN, "-o", "page.png"), "must end in .html")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Run(dcgan).share("~/new/page.html", plugins=DCGAN[1:]) == page
    assert b"_stored" in part(page, "generator")  # in half precision


@pytest.mark.parametrize("command", ["share", "export"])
def test_python_has_the_words_of_the_command(command: str) -> None:
    words = {option.name for option in cli.get_command(None, command).params} - {"run"}
    assert words | {"self"} == set(inspect.signature(getattr(Run, command)).parameters)


def test_a_stranger_s_words_are_escaped_and_the_place_of_the_pictures_is_not_told(gankit: Gankit, run: Path) -> None:
    data = json.loads((run / "data.json").read_text())
    data["name"] = "/home/somebody/secret/<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    (run / "data.json").write_text(json.dumps(data))
    (run / "environment.json").write_text(json.dumps({"started": "<b>now</b>", "gankit": "</title><b>"}))
    assert gankit("share", run).code == 0
    text = (run / "share.html").read_text("utf-8")
    assert len(re.findall("<script", text)) == 5  # about, three parts and the page's own
    assert "<img" not in text
    assert "<b>" not in text.partition("<footer>")[2].partition("</footer>")[0]
    assert "somebody" not in text


def test_a_link_in_the_place_of_the_page_is_not_followed(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("my own")
    (run / "share.html").symlink_to(theirs)
    refused(gankit("share", run), "share.html exists")
    assert theirs.read_text() == "my own"


def test_the_vendored_runtime_is_the_published_one() -> None:
    told = (RUNTIME / "README.md").read_text()
    script = (RUNTIME / "ort.wasm.bundle.min.mjs").read_bytes()
    wasm = gzip.decompress((RUNTIME / "ort-wasm-simd-threaded.wasm.gz").read_bytes())
    for content in (script, wasm):
        assert hashlib.sha256(content).hexdigest() in told
    version = re.search(rb"ONNX Runtime Web v([\d.]+)", script)
    assert version
    assert f"`onnxruntime-web` {version[1].decode()}" in told
    page = (ROOT / "gankit" / "sharing" / "page.html.j2").read_text()
    assert f"ONNX Runtime Web {version[1].decode()}" in page


def test_the_runtime_does_not_look_for_its_own_address_which_firefox_cannot_resolve_on_a_page_from_disk() -> None:
    assert "import.meta" in (RUNTIME / "ort.wasm.bundle.min.mjs").read_text()
    assert "import.meta" not in runtime()
    assert runtime().rstrip().endswith("};")


# What does not fit.


def test_without_the_packages_one_line_says_what_to_install(
    gankit: Gankit, finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else True)
    refused(gankit("share", finished, "-o", "page.html"), "onnxscript", "pip install 'gankit[share]'")
    assert not (tmp_path / "page.html").exists()


def test_a_run_without_a_checkpoint_is_told_in_one_line(gankit: Gankit, run: Path) -> None:
    import shutil

    shutil.rmtree(run / "checkpoints")
    refused(gankit("share", run), "no checkpoint")


ODD = '''
import math
import numpy as np
import torch
from torch import nn
import gankit

class Bessel(nn.Module):
    def forward(self, x):
        return x + torch.special.bessel_j0(x)  # which has no gradient of its own

class Odd(gankit.Model):
    """Its generator has an operator that ONNX lacks, or its latents are odd."""
    name = "odd"
    class Settings(gankit.Settings):
        draw: str = "filled"
    def build_networks(self, pair, seen):
        numbers = math.prod(self.shape)
        plain = [nn.Linear(4, numbers), nn.Unflatten(1, self.shape), nn.Tanh()]
        return {
            "generator": nn.Sequential(*plain, *([Bessel()] if self.settings.draw == "bessel" else [])),
            "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(numbers, 1)),
        }
    def latents(self, n, device):
        if self.settings.draw == "whole":
            return torch.randint(0, 2, (n, 4), device=device).float()
        z = torch.empty(n, 2, device=device).uniform_(-3, 3)
        return torch.cat([z, nn.functional.normalize(torch.randn(n, 2, device=device))], 1)
    def judge(self, networks, seen, labels):
        return gankit.Judged(networks["discriminator"](seen).squeeze(1))
    def losses(self, step):
        real, fake = step.judged_real.output.mean(), step.judged_fake.output.mean()
        return gankit.Losses({"discriminator": fake - real, "generator": -fake})

class Dots(gankit.DataSource):
    """Points in the plane."""
    name = "dots"
    def open(self, argument, request):
        points = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
        return gankit.Data("dots", points[8:], points[:8], "dots")

@gankit.hookimpl
def gankit_models():
    return [Odd]

@gankit.hookimpl
def gankit_datasets():
    return [Dots]
'''


@pytest.fixture
def odd(tmp_path: Path) -> Any:
    (tmp_path / "odd_one.py").write_text(ODD)
    plugin = ("--plugin", str(tmp_path / "odd_one.py"))

    def train(draw: str, *data: object) -> tuple[Path, tuple[str, str]]:
        more = (*(data or DATA), "--set", f"draw={draw}", "--steps", 1, "--out", draw)
        assert quietly("run", "odd", *more, *plugin, cwd=tmp_path) == 0
        return tmp_path / draw, plugin

    return train


def test_an_operator_that_onnx_lacks_is_named_with_its_plugin(gankit: Gankit, odd: Any) -> None:
    run, plugin = odd("bessel")
    refused(gankit("share", run, *plugin), "bessel_j0", "ONNX lacks", "model 'odd'", "plugin 'odd_one")


def test_latents_of_any_kind_are_drawn_or_their_function_is_named(gankit: Gankit, odd: Any) -> None:
    run, plugin = odd("filled")
    found = onnx.latents(rebuild(RunFolder(run), plugins=plugin[1:]))
    assert (found.uniform, found.normal) == (2, 2)
    given = {"uniform": np.float32([[0, 0.5]]), "normal": np.float32([[3, 4]])}
    assert np.allclose(onnx.run(found.model, **given)[0], [[-3, 0, 0.6, 0.8]], atol=1e-6)
    run, plugin = odd("whole")
    refused(gankit("share", run, *plugin), "torch.randint", "plugin 'odd_one")


def test_points_are_no_pictures(gankit: Gankit, odd: Any, tmp_path: Path) -> None:
    run, plugin = odd("points", "--data", "dots")
    refused(gankit("share", run, *plugin), "makes points")
