"""`gankit score`: pictures by reconstruction error, the worst first, and what the errors can be compared with."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, Gankit, quietly, refused
from PIL import Image

from gankit.data.batches import to_float
from gankit.runs.folder import RunFolder
from gankit.trained.sampling import rebuild


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Plain pictures, one of noise, a small one, and a file that is no picture."""
    there = tmp_path / "pictures"
    (there / "more").mkdir(parents=True)
    for n in range(4):
        Image.new("RGB", (16, 16), (250, 250 - n, 250)).save(there / f"plain-{n}.png")
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(there / "more" / "noise.png")
    Image.new("RGB", (8, 8), "white").save(there / "small.png")
    (there / "text.png").write_text("no picture")
    return there


def test_the_worst_reconstructed_picture_comes_first_with_the_model_s_own_numbers(
    gankit: Gankit, run: Path, folder: Path, tmp_path: Path
) -> None:
    said = gankit("score", run, folder, "-o", "s.csv")
    assert said.code == 0, said.err
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert len(rows) == 6
    errors = [float(row["error"]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    noise = next(row for row in rows if row["picture"] == "more/noise.png")
    rebuilt = rebuild(RunFolder(run))
    x = to_float(torch.from_numpy(np.asarray(Image.open(folder / "more/noise.png", formats=["PNG"]))[None].copy()))
    with torch.no_grad():
        judged = rebuilt.judge(x, None)
    assert float(noise["error"]) == pytest.approx(float((x - judged.output.clamp(-1, 1)).abs().mean()), abs=1e-5)
    assert float(noise["energy"]) == pytest.approx(float(judged.energy), rel=1e-4)
    assert "skipped text.png" in said.out
    assert "1 of 6 pictures are smaller than 16 pixels" in said.out
    assert "another run or step" in said.out
    with Image.open(tmp_path / "s.png", formats=["PNG"]) as sheet:
        assert sheet.width > 6 * 96
    assert gankit("score", run, folder, "-o", "s.csv").code == 0


def test_it_takes_what_a_training_takes(gankit: Gankit, run: Path, folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(folder, ".")
    assert gankit("score", run, folder, "-o", "folder.csv").code == 0
    said = gankit("score", run, "all.tar", "-o", "tar.csv")
    assert said.code == 0, said.err
    assert "skipped all.tar/text.png" in said.out
    assert "1 of 6 pictures are smaller than 16 pixels" in said.out
    of_tar, of_folder = ((tmp_path / f"{name}.csv").read_text() for name in ("tar", "folder"))
    assert of_tar.replace("all.tar/", "") == of_folder
    assert gankit("score", run, "demo:20", "-o", "demo.csv").code == 0
    assert len((tmp_path / "demo.csv").read_text().splitlines()) == 21


def test_it_makes_the_folder_and_writes_no_formula(gankit: Gankit, run: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "=cmd.png").write_bytes((folder / "more/noise.png").read_bytes())
    assert gankit("score", run, folder, "-o", "new/s.csv").code == 0
    rows = list(csv.DictReader((tmp_path / "new/s.csv").open()))
    assert "./=cmd.png" in [row["picture"] for row in rows]


def test_it_writes_over_nothing_of_the_user_s(gankit: Gankit, run: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("mine.csv", "other.png"):
        (tmp_path / name).write_text("my own")
        refused(gankit("score", run, folder, "-o", Path(name).with_suffix(".csv")), f"{name} exists")
        assert (tmp_path / name).read_text() == "my own"


def test_each_of_its_two_files_vouches_for_itself_alone(
    gankit: Gankit, run: Path, folder: Path, tmp_path: Path
) -> None:
    """Regression: gankit's CSV file beside a picture of the user's let the sheet replace it."""
    assert gankit("score", run, folder, "-o", "faces.csv").code == 0
    (tmp_path / "faces.csv").unlink()
    assert gankit("score", run, folder, "-o", "faces.csv").code == 0
    Image.new("RGB", (16, 16)).save(tmp_path / "faces.png")
    mine = (tmp_path / "faces.png").read_bytes()
    refused(gankit("score", run, folder, "-o", "faces.csv"), "faces.png exists", "`gankit score` did not write it")
    assert (tmp_path / "faces.png").read_bytes() == mine


def test_files_that_it_skips_are_all_counted(gankit: Gankit, run: Path, folder: Path) -> None:
    for n in range(14):
        (folder / f"broken-{n:02}.png").write_text("no picture")
    said = gankit("score", run, folder, "-o", "s.csv")
    assert said.out.count("\nskipped ") == 10
    assert "\nand 5 more skipped\n" in said.out


def test_energies_of_a_discriminator_that_learns_by_heart_are_told_to_be_incomparable(
    gankit: Gankit, run: Path, folder: Path
) -> None:
    line = '{"step": 8, "reconstruction-errors/real-mean": 0.1, "reconstruction-errors/held-out-mean": 0.2}\n'
    with (run / "metrics.jsonl").open("a") as lines:
        lines.write(line)
    said = gankit("score", run, folder)
    assert "energies cannot be compared" in said.out
    assert "2.0 times" in said.out
    assert (run / "scores.csv").exists()


def test_a_score_is_no_reconstruction_and_an_empty_folder_has_no_picture(
    gankit: Gankit, run: Path, folder: Path, tmp_path: Path
) -> None:
    plugin = ("--plugin", str(ROOT / "examples" / "plugins" / "dcgan"))
    assert quietly("run", "dcgan", *TINY[:-4], "--steps", 1, "--out", "d", *plugin, cwd=tmp_path) == 0
    refused(gankit("score", "d", folder, *plugin), "gives a score", "began or ebgan")
    (tmp_path / "empty").mkdir()
    refused(gankit("score", run, "empty"), "no pictures in empty")
    (tmp_path / "empty/words.png").write_text("no picture")
    refused(gankit("score", run, "empty"), "no usable picture")
    refused(gankit("score", run, "nowhere"), "no data folder nowhere")
