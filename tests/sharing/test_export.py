"""`gankit export`: a folder that draws without gankit, and a model card that says nothing of this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, Gankit, contents, read, refused
from safetensors.torch import load_file

from gankit.runs.folder import RunFolder
from gankit.trained.run import Run
from gankit.trained.sampling import rebuild

pytest.importorskip("onnxruntime", reason="no ONNX: pip install 'gankit[share]'")
from gankit.sharing import onnx
from gankit.sharing.hub import plain


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
