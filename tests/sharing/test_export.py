"""`gankit export`: a folder that draws without gankit, and a model card that says nothing of this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA, ROOT, Gankit, contents, quietly, read, refused
from safetensors.torch import load_file

from gankit.runs.folder import RunFolder
from gankit.trained.run import Run
from gankit.trained.sampling import rebuild, sample

pytest.importorskip("onnxruntime", reason="no ONNX: pip install 'gankit[share]'")
from gankit.sharing import onnx
from gankit.sharing.hub import plain

LATE = 66  # of 70 classes: only from here on the label tells the networks anything
FAR = f'''
import math
import numpy as np
import torch
from torch import nn
import gankit

class Far(gankit.Model):
    """Its items lie far outside [-1, 1], and its first classes are all alike."""
    name = "far"
    def build_networks(self, pair, seen):
        return {{
            "generator": nn.Sequential(nn.Linear(4, math.prod(self.shape)), nn.Unflatten(1, self.shape)),
            "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(math.prod(seen), 1)),
        }}
    def latents(self, n, device):
        return torch.randn(n, 4, device=device)
    def told(self, labels):
        return (labels >= {LATE}).float()[:, None] if self.classes else 0
    def generate(self, networks, noise, labels):
        late = self.told(labels)
        return networks["generator"](9 * noise) + (late.view(-1, *[1] * len(self.shape)) if self.classes else 0)
    def judge(self, networks, seen, labels):
        return gankit.Judged((networks["discriminator"](seen) + self.told(labels)).squeeze(1))
    def losses(self, step):
        real, fake = step.judged_real.output.mean(), step.judged_fake.output.mean()
        return gankit.Losses({{"discriminator": fake - real, "generator": -fake}})

class Dots(gankit.DataSource):
    """Points in the plane; `dots:classes` has 70 classes, of which the first two have no point."""
    name = "dots"
    def open(self, argument, request):
        points = np.random.default_rng(0).normal(size=(76, 2)).astype(np.float32)
        told = dict(labels=np.arange(68) + 2, label_names=tuple(map(str, range(70)))) if argument else {{}}
        return gankit.Data("dots", points[8:], points[:8], "dots", **told)

@gankit.hookimpl
def gankit_models():
    return [Far]

@gankit.hookimpl
def gankit_datasets():
    return [Dots]
'''


@pytest.fixture
def far(tmp_path: Path) -> Callable[..., tuple[Path, tuple[str, str]]]:
    """Trains the model above for a step."""
    (tmp_path / "far.py").write_text(FAR)
    plugin = ("--plugin", str(tmp_path / "far.py"))

    def train(*data: object) -> tuple[Path, tuple[str, str]]:
        more = ("--batch-size", 4, "--precision", "fp32", "--steps", 1, "--artifact", "losses", "--out", "far")
        assert quietly("run", "far", *(data or DATA), *more, *plugin, cwd=tmp_path) == 0
        return tmp_path / "far", plugin

    return train


def test_the_folder_draws_without_gankit_and_holds_the_same_networks(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    data = read(run / "data.json") | {"name": "/home/kim-lee/<script>*me*"}
    (run / "data.json").write_text(json.dumps(data))
    said = gankit("export", run, "-o", "out", "--credit", "by [me](javascript:x)")
    assert said.code == 0, said.err
    out, rebuilt = tmp_path / "out", rebuild(RunFolder(run))
    card = (out / "README.md").read_text()
    assert card.startswith("---\npipeline_tag: unconditional-image-generation\n")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code
    assert len(code[1].splitlines()) == 5
    more = "import sys\nassert 'gankit' not in sys.modules and 'torch' not in sys.modules\nprint(pictures.shape)"
    drawn = subprocess.run([sys.executable, "-I", "-c", code[1] + more], cwd=out, capture_output=True, text=True)
    assert drawn.stdout.strip() == "(16, 3, 16, 16)", drawn.stderr
    z = rebuilt.latents(5)
    seen = torch.rand(5, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        (picture,), judged = onnx.run((out / "generator.onnx").read_bytes(), z=z.numpy()), rebuilt.judge(seen, None)
        assert np.abs(picture - rebuilt.generate(z, None).clamp(-1, 1).numpy()).max() < 1e-4
    found = onnx.run((out / "discriminator.onnx").read_bytes(), seen=seen.numpy())
    for one, other in zip(found, (judged.output, judged.code, judged.energy), strict=True):
        assert np.abs(one - other.detach().numpy()).max() < 1e-4
    weights = load_file(out / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in rebuilt.networks["generator"].state_dict().items())
    for file in ("README.md", "config.json"):
        text = (out / file).read_text()
        assert not re.search("kim-lee|<script|/tmp|" + re.escape(str(ROOT)), text)
    assert r"\[me\]\(javascript:x\)" in card
    assert "averaged over the steps" in card
    config = read(run / "config.json")
    (run / "config.json").write_text(json.dumps(config | {"model": config["model"] | {"ema": 0}}))
    assert gankit("export", run, "-o", "bare").code == 0
    assert "averaged over the steps" not in (tmp_path / "bare/README.md").read_text()
    (run / "config.json").write_text(json.dumps(config))
    before = contents(out)
    refused(gankit("export", run, "-o", "out"), "out exists", "name a new folder")
    assert contents(out) == before
    again = Run(run).export(credit="by [me](javascript:x)")
    assert again == run / "export"
    assert (again / "README.md").read_text() == card
    assert (again / "generator.onnx").read_bytes() == (out / "generator.onnx").read_bytes()


def test_points_are_exported_as_gankit_draws_them_and_pictures_are_clipped(
    gankit: Gankit, far: Any, undrawn: None, tmp_path: Path
) -> None:
    for data in (("--data", "dots"), ()):  # the demo's pictures have more classes than LATE
        run, plugin = far(*data)
        assert gankit("export", run, "-o", "out", *plugin).code == 0
        rebuilt = rebuild(RunFolder(run), plugins=plugin[1:])
        with rebuilt.stream(0):
            z = rebuilt.latents(64)
        told = {} if data else {"label": rebuilt.labels(64).numpy()}
        (found,) = onnx.run((tmp_path / "out/generator.onnx").read_bytes(), z=z.numpy(), **told)
        shown = sample(RunFolder(run), 64, plugins=plugin[1:]).numpy()
        assert np.abs(found - shown).max() < 1e-3
        assert (np.abs(found).max() > 2) == bool(data)
        card = (tmp_path / "out/README.md").read_text()
        assert "unconditional-image-generation" not in card
        if data:
            assert "![points by this generator" in card
            assert "points shown" in card
            assert "\npoints = generator.run" in card
            assert "[-1, 1]" not in card
        shutil.rmtree(tmp_path / "out")
        shutil.rmtree(run)


def test_a_form_that_does_not_draw_what_gankit_draws_is_refused(
    gankit: Gankit, far: Any, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, plugin = far("--data", "dots")
    forward = onnx._Generator.forward
    monkeypatch.setattr(onnx._Generator, "forward", lambda self, z, label=None: forward(self, z, label).clamp(-1, 1))
    refused(gankit("export", run, *plugin), "gives other numbers in ONNX than in PyTorch")


def test_the_label_stays_where_only_the_last_classes_change_anything(
    gankit: Gankit, far: Any, undrawn: None, tmp_path: Path
) -> None:
    run, plugin = far("--data", "dots:classes")
    assert gankit("export", run, "-o", "out", *plugin).code == 0
    z, labels = np.zeros((2, 4), np.float32), np.array([0, LATE])
    (point,) = onnx.run((tmp_path / "out/generator.onnx").read_bytes(), z=z, label=labels)
    assert np.allclose(point[1] - point[0], 1, atol=1e-5)
    (score,) = onnx.run((tmp_path / "out/discriminator.onnx").read_bytes(), seen=z[:, :2], label=labels)
    assert np.isclose(score[1] - score[0], 1, atol=1e-5)
    assert read(tmp_path / "out/config.json")["classes"][LATE] == str(LATE)


def test_a_run_without_a_checkpoint_leaves_no_folder(gankit: Gankit, run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    before = contents(tmp_path)
    refused(gankit("export", run, "-o", "out"), "no checkpoint")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("text", ["a|b", "x\n# y", "<img src=x>", "![a](b)", "`c`", "*d*"])
def test_text_from_a_run_is_no_markup(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    assert "<" not in shown
    assert not re.search(r"(?<!\\)[|`*\[\]()!#]", shown)
