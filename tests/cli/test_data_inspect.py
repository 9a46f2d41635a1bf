"""`gankit data inspect`: planted folders are told as what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Gankit, contents, refused
from PIL import Image


def noise(seed: int, size: int = 48) -> np.ndarray:
    """A picture of 6×6 coloured squares on white."""
    squares = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    inner = squares.repeat(size // 8, 0).repeat(size // 8, 1)
    return np.pad(inner, ((size // 8,) * 2, (size // 8,) * 2, (0, 0)), constant_values=255)


def drawn(folder: Path, pictures: list[np.ndarray], **more: Any) -> Path:
    folder.mkdir(parents=True)
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{n:03d}.png", **more)
    return folder


def told(gankit: Gankit, *arguments: object) -> dict[str, Any]:
    said = gankit("data", "inspect", *arguments, "--json")
    assert (said.code, said.err) == (0, "")
    return json.loads(said.out)


def test_a_plain_folder_is_counted_and_nothing_speaks_against_it(gankit: Gankit, tmp_path: Path) -> None:
    drawn(tmp_path / "all/one", [noise(n) for n in range(310)])
    (tmp_path / "all/two").mkdir()
    Image.fromarray(noise(999, 80)).save(tmp_path / "all/two/a.bmp")
    found = told(gankit, "all")
    assert (found["pictures"], found["formats"]) == (311, {"PNG": 310, "BMP": 1})
    assert found["sides"] == [48, 48, 80]
    assert found["labels"] == {"one": 310, "two": 1}
    assert (found["ground"], found["alike"], found["grey"]) == ("#ffffff", 0, 0.0)
    assert found["ground_share"] == pytest.approx(1 - 26**2 / 32**2, abs=0.02)  # the squares and a blurred edge
    assert found["advice"] == ["nothing speaks against a training: gankit run began --data all"]


def test_files_that_are_left_out_count_in_no_figure(gankit: Gankit, tmp_path: Path) -> None:
    drawn(tmp_path / "all", [noise(n) for n in range(30)])
    Image.fromarray(noise(999, 80)).save(tmp_path / "all/cut.png")
    whole = (tmp_path / "all/cut.png").read_bytes()
    (tmp_path / "all/cut.png").write_bytes(whole[: len(whole) // 3])
    found = told(gankit, "folder:all")
    assert [note["file"] for note in found["skipped"]] == ["cut.png"]
    assert (found["pictures"], found["formats"], found["sides"]) == (30, {"PNG": 30}, [48, 48, 48])


def test_copies_that_differ_a_little_are_look_alikes_and_others_are_not(gankit: Gankit, tmp_path: Path) -> None:
    pictures = [noise(n) for n in range(60)]
    rng = np.random.default_rng(0)
    near = [np.clip(one.astype(int) + rng.integers(-6, 7, one.shape), 0, 255).astype(np.uint8) for one in pictures[:10]]
    drawn(tmp_path / "all", [*pictures, *near])
    found = told(gankit, "all")
    assert (found["alike"], found["looked"]) == (20, 70)
    assert any("20 of 70 pictures look like another one" in line for line in found["advice"])


def test_what_a_user_should_know_stands_in_the_advice(gankit: Gankit, tmp_path: Path) -> None:
    grey = [np.repeat(noise(n).mean(2, keepdims=True).astype(np.uint8), 3, 2)[:, :20] for n in range(40)]
    drawn(tmp_path / "all", grey)
    (tmp_path / "all/notes.txt").write_text("no picture")
    found = told(gankit, "all")
    words = " / ".join(found["advice"])
    for one in (
        "too few to judge",
        "smaller than 32 pixels",
        "long or wide",
        "1 file is no usable picture: gankit run skips it",
        "no colours",
    ):
        assert one in words
    assert found["skipped"] == [{"file": "notes.txt", "reason": "not a picture"}]


def test_the_terminal_names_what_is_skipped_and_what_is_odd_as_the_page_does(gankit: Gankit, tmp_path: Path) -> None:
    """Regression: blank pictures and copies were on the page alone."""
    drawn(tmp_path / "all", [noise(n) for n in range(12)] + [np.full((48, 48, 3), 255, np.uint8)])
    (tmp_path / "all/copy.png").write_bytes((tmp_path / "all/003.png").read_bytes())
    for name in ("a.txt", "b.txt"):
        (tmp_path / "all" / name).write_text("no picture")
    said = gankit("data", "inspect", "all").out.splitlines()
    listed = [line for line in said if line.startswith(("skipped a", "skipped b", "remark"))]
    assert listed == [
        "skipped a.txt: not a picture",
        "skipped b.txt: not a picture",
        "remark on 012.png: blank: every pixel is the same colour (fully transparent?)",
        "remark on copy.png: same bytes as 003.png",
    ]
    assert "- 2 files are no usable pictures: gankit run skips them" in said


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "1 picture is too few for `gankit run`, which needs 2 to train on"),
        (2, "2 pictures are too few for `gankit run`, which needs 2 to train on beside 1 that is held out"),
        (3, "3 pictures are too few to judge samples by"),
    ],
)
def test_so_few_pictures_that_a_training_is_refused_are_told(
    count: int, words: str, gankit: Gankit, tmp_path: Path
) -> None:
    drawn(tmp_path / "all", [noise(n) for n in range(count)])
    assert any(line.startswith(words) for line in told(gankit, "all")["advice"])
    code = gankit("run", "all", "--image-size", 16, *SMALL, "--steps", 0, "--out", "run").code
    assert (code == 2) == ("gankit run" in words)


def test_the_page_has_the_pictures_and_escapes_a_strangers_names(gankit: Gankit, tmp_path: Path) -> None:
    drawn(tmp_path / "all/<b>bold<", [noise(n) for n in range(12)])
    said = gankit("data", "inspect", "all", "-o", "page.html")
    assert said.code == 0
    assert "12" in said.out.splitlines()[0]
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page
    refused(gankit("data", "inspect", "all", "-o", "page.html"), "page.html", "exists")
    assert (tmp_path / "page.html").read_text() == page


def test_bad_input_is_refused_in_one_line(gankit: Gankit, tmp_path: Path) -> None:
    refused(gankit("data", "inspect", "nowhere"), "no data folder nowhere")
    (tmp_path / "empty").mkdir()
    refused(gankit("data", "inspect", "empty"), "no pictures in empty")
    refused(gankit("data", "inspect", "empty", "-o", "page.pdf"), ".html")
    refused(gankit("data", "inspect", "demo:9", "--background", "notacolour"), "notacolour")
    assert set(contents(tmp_path)) <= {"empty"}


def test_a_data_source_is_looked_at_as_well(gankit: Gankit) -> None:
    found = told(gankit, "demo:80")
    assert (found["pictures"], found["formats"], found["sides"]) == (80, {}, None)
