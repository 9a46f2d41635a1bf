"""Latents of real pictures and interpolations: the results, and the output of the two commands."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, SMALL, Gankit, contents, quietly, refused
from gankit_began.networks import reconstruction_error
from PIL import Image

import gankit.trained.latents as gankit_latents
from gankit.errors import UserError
from gankit.report.sheets import words
from gankit.trained.latents import Inversion, interpolate, invert, mirrored, random_pairs, read_pictures
from gankit.trained.run import Run
from gankit.trained.sampling import Rebuilt, rebuild, sample

PLUGINS = '''
import numpy as np
import torch
from torch import nn
import gankit
from gankit_began.model import BEGAN

class Classy(BEGAN):
    """Its generator is told the class."""
    name = "classy"
    def generate(self, networks, noise, labels):
        return networks["generator"](noise) + 0.01 * labels[:, None, None, None]

class Scored(gankit.Model):
    """A critic with a score, latents without bounds, and a network with dropout between latents and generator."""
    name = "scored"
    def build_networks(self, pair, seen):
        numbers = int(np.prod(self.shape))
        return {
            "mapper": nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
            "generator": nn.Sequential(nn.Linear(4, numbers), nn.Tanh(), nn.Unflatten(1, self.shape)),
            "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(numbers, 1)),
        }
    updates = (("generator", "mapper", "discriminator"),)
    def latents(self, n, device):
        return torch.randn(n, 4, device=device)
    def generate(self, networks, noise, labels):
        return networks["generator"](networks["mapper"](noise))
    def judge(self, networks, seen, labels):
        return gankit.Judged(networks["discriminator"](seen).squeeze(1))
    def losses(self, step):
        real, fake = step.judged_real.output.mean(), step.judged_fake.output.mean()
        return gankit.Losses({"discriminator": fake - real, "generator": -fake, "mapper": -fake})

class Dots(gankit.DataSource):
    """Points in the plane."""
    name = "dots"
    def open(self, argument, request):
        points = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
        return gankit.Data("dots", points[8:], points[:8], "dots")

class Greys(gankit.DataSource):
    """Pictures in grey."""
    name = "greys"
    def open(self, argument, request):
        pictures = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 1), np.uint8)
        return gankit.Data("greys", pictures[8:], pictures[:8], "greys")

@gankit.hookimpl
def gankit_models():
    return [Classy, Scored]

@gankit.hookimpl
def gankit_datasets():
    return [Dots, Greys]
'''


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a class-conditional model, one whose D gives a score, one of points, and one of grey pictures."""
    folder = tmp_path_factory.mktemp("others")
    (folder / "mine.py").write_text(PLUGINS)
    short = ("--plugin", "mine.py", "--steps", 2, "--artifact", "losses")
    with pytest.MonkeyPatch.context() as patch:
        from gankit.builtin import artifacts

        for artifact in (artifacts.Losses, artifacts.Animation, artifacts.Report):
            patch.setattr(artifact, "finish", lambda self: None)
        assert quietly("run", "classy", *DATA, *SMALL, *short, "--out", "classy", cwd=folder) == 0
        assert quietly("run", "scored", *DATA, *short, "--out", "scored", cwd=folder) == 0
        points = ("--data", "dots", "--batch-size", 4, "--precision", "fp32")
        assert quietly("run", "scored", *points, *short, "--out", "points", cwd=folder) == 0
        greys = ("--data", "greys", "--image-size", 16, "--batch-size", 4, "--precision", "fp32")
        assert quietly("run", "scored", *greys, *short, "--out", "greys", cwd=folder) == 0
    return folder


@pytest.fixture(scope="module")
def began(finished: Path) -> Rebuilt:
    return rebuild(Run(finished))


def drawn(rebuilt: Rebuilt, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents from the model, and their pictures as displayed."""
    with rebuilt.stream(seed), torch.no_grad():
        z = rebuilt.latents(n)
        return z, rebuilt.generate(z, rebuilt.labels(n)).clamp(-1, 1)


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs().flatten(1).mean(1)


@pytest.fixture
def figures(tmp_path: Path) -> list[Path]:
    """Two pictures of another size and shape than the run's: one grey, one with transparency."""
    rng = np.random.default_rng(3)
    grey = Image.fromarray(rng.integers(0, 255, (20, 30), np.uint8))
    clear = Image.fromarray(rng.integers(0, 255, (40, 25, 4), np.uint8), mode="RGBA")
    paths = [tmp_path / "grey.png", tmp_path / "clear.png"]
    grey.save(paths[0])
    clear.save(paths[1])
    return paths


# Inversion.


def test_pictures_of_the_generator_s_own_are_found_again(began: Rebuilt):
    z, pictures = drawn(began, 8, seed=11)
    _, others = drawn(began, 64, seed=12)
    found = invert(began, pictures, steps=200)
    random = torch.stack([distance(others, picture[None]) for picture in pictures])
    near = (found.error < 0.05 * random.mean(1)) & (found.error < 0.2 * random.amin(1))
    assert near.sum() >= 7  # one descent of some twenty ends beside the minimum, another one on another machine
    assert found.z.shape == z.shape
    torch.testing.assert_close(distance(found.generated, pictures), found.error)


def test_the_best_of_the_starts_is_taken_and_each_start_stands_alone(began: Rebuilt):
    _, pictures = drawn(began, 2, seed=11)
    found = invert(began, pictures, starts=4, steps=3)
    assert found.errors.shape == (2, 4)
    assert (found.errors.amax(1) > found.errors.amin(1)).all()
    torch.testing.assert_close(distance(found.generated, pictures), found.errors.amin(1))
    again = began.generate(found.z, began.labels(2)).clamp(-1, 1)
    torch.testing.assert_close(again, found.generated)
    one, other = (invert(began, picture[None], starts=4, steps=3) for picture in pictures)
    torch.testing.assert_close(torch.cat([one.errors, other.errors]), found.errors)
    torch.testing.assert_close(torch.cat([one.z, other.z]), found.z)


def test_the_first_step_is_adam_s_from_the_model_s_own_latents(began: Rebuilt):
    with began.stream(5):
        start = began.latents(1)
    _, pictures = drawn(began, 1, seed=11)
    (z,) = invert(began, pictures, starts=1, steps=1, seed=5, rate=0.01).z
    moved = (z - start[0]).abs()
    assert ((moved - 0.01).abs() < 1e-3).sum() >= len(z) - 2  # except at the box's edge or at a slope of 0


def test_the_seed_decides(began: Rebuilt):
    _, pictures = drawn(began, 1, seed=11)
    a, b, c = (invert(began, pictures, steps=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.z, b.z)
    assert torch.equal(a.errors, b.errors)
    assert not torch.equal(a.z, c.z)


def test_latents_stay_where_the_model_s_own_lie(began: Rebuilt):
    black = -torch.ones(1, 3, 16, 16)
    z = invert(began, black, steps=60, rate=1.0).z
    assert z.abs().max() <= 1
    assert (z.abs() > 0.99).any()


def test_the_caller_s_random_stream_stays_as_it_was(began: Rebuilt):
    _, pictures = drawn(began, 1, seed=11)
    before = torch.get_rng_state()
    invert(began, pictures, steps=1)
    interpolate(began, *random_pairs(began, 2, seed=0), frames=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_reconstruction_is_the_discriminator_s(began: Rebuilt, finished: Path):
    _, pictures = drawn(began, 2, seed=11)
    found = invert(began, pictures, steps=1)
    with torch.no_grad():
        energy = reconstruction_error(pictures, began.judge(pictures, None))
    assert found.reconstructed.shape == pictures.shape
    torch.testing.assert_close(distance(found.reconstructed, pictures), found.reconstruction_error)
    # The energy is the error before clipping.
    assert (found.reconstruction_error <= energy + 1e-6).all()
    assert (found.reconstruction_error > 0.5 * energy).all()


def test_a_model_with_further_networks_and_unbounded_latents_is_inverted(others: Path):
    rebuilt = rebuild(Run(others / "scored"), plugins=[str(others / "mine.py")])
    z, pictures = drawn(rebuilt, 2, seed=11)
    found = invert(rebuilt, pictures, steps=300)
    assert (found.error < 0.01).all()
    assert found.reconstructed is None
    assert found.reconstruction_error is None
    torch.testing.assert_close(found.z, z, atol=0.1, rtol=0)  # this generator is one to one
    assert "D(x)" not in words(found, ["a", "b"])[0]
    assert sample(Run(others / "scored"), 2, plugins=[str(others / "mine.py")]).shape == (2, 3, 16, 16)


# Interpolation.


def test_an_interpolation_is_linear_in_z_and_both_ends_are_on_it(began: Rebuilt):
    a, b = random_pairs(began, 3, seed=4)
    made = interpolate(began, a, b, frames=5)
    assert made.shape == (3, 5, 3, 16, 16)
    for place, z in ((0, a), (4, b), (2, (a + b) / 2), (1, 0.75 * a + 0.25 * b)):
        with torch.no_grad():
            expected = began.generate(z, began.labels(3)).clamp(-1, 1)
        torch.testing.assert_close(made[:, place], expected, atol=1e-5, rtol=0)
    assert (made[:, 0] - made[:, 4]).abs().max() > 0.01


def test_a_mirrored_pair_is_a_picture_and_its_mirror_image():
    pictures = torch.rand(3, 3, 4, 4)
    pairs = mirrored(pictures, last=2)
    assert torch.equal(pairs[[0, 1, 3]], pictures)
    assert torch.equal(pairs[2], pictures[1].flip(-1))
    assert torch.equal(pairs[4], pictures[2].flip(-1))


# Picture files.


def test_a_picture_is_read_as_the_run_was_shown_its_own(began: Rebuilt, run: Path, figures: list[Path]):
    grey, clear = read_pictures(began, figures)
    assert grey.shape == (3, 16, 16)
    assert torch.equal(grey[0], grey[2])
    assert (grey[:, :2] == 1).all()  # 20 of 30 high: white above and below
    assert (clear[:, :, :2] == 1).all()
    config = run / "config.json"
    config.write_text(config.read_text().replace('"#ffffff"', '"#ff0000"').replace('"pad"', '"crop"'))
    grey, clear = read_pictures(rebuild(Run(run)), figures)
    assert not (grey[:, :2] == 1).all()
    assert clear[0].mean() > clear[1].mean() + 0.3  # red below what is transparent


# The commands.


def errors_in(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d\.\d{4}", line)]


def test_the_command_s_defaults_are_the_library_s():
    from gankit.cli.invert import command

    defaults = {option.name: option.default for option in command.params}
    assert (defaults["starts"], defaults["steps"]) == (gankit_latents.STARTS, gankit_latents.STEPS)


def test_invert_prints_the_errors_and_draws_a_row_a_picture(gankit: Gankit, run: Path, figures: list[Path]):
    said = gankit("invert", run, *figures, "--steps", 5)
    assert said.code == 0
    *told, path = said.out.splitlines()
    assert path == str(run / "inversion.png")
    for line, name in zip(told, figures, strict=True):
        error, low, high, reconstruction = errors_in(line)
        assert line.startswith(str(name))
        assert error == low < high < 2
        assert 0 < reconstruction < 2
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[1] == 3 * (160 + 8) + 8  # three columns
    assert sheet.shape[0] > 2 * 160
    shown = sheet[33:193, 8:168][5::10, 5::10]  # the first cell, ten pixels for one
    expected = ((read_pictures(rebuild(Run(run)), figures)[0] + 1) * 127.5).round().permute(1, 2, 0)
    assert np.array_equal(shown, expected.numpy().astype(np.uint8))


def test_invert_takes_the_place_of_an_earlier_sheet_and_its_options_count(gankit: Gankit, run: Path, figures):
    first = gankit("invert", run, figures[0], "--steps", 2, "--starts", 1, "-o", "new/a.png")
    assert "starts" not in first.out
    for options in (("--seed", 1), ("--steps", 3), ("--from", 4)):
        other = gankit("invert", run, figures[0], "--steps", 2, "--starts", 1, "-o", "new/a.png", *options)
        assert other.code == 0
        assert other.out != first.out
    assert [path.name for path in Path("new").iterdir()] == ["a.png"]


def test_a_name_in_other_letters_is_drawn_where_a_font_has_them_and_else_told(
    gankit: Gankit, run: Path, figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from matplotlib import font_manager

    from gankit.report import sheets

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf")])
    (tmp_path / "broken.ttf").write_text("no font")
    sheets._font.cache_clear()
    told = {}
    for n, name in enumerate(("サンタ.png", "picture 1", "кот.png")):  # matplotlib brings Cyrillic letters
        shutil.copy(figures[0], tmp_path / name)
        said = gankit("invert", run, name, "--steps", 1, "-o", f"sheet-{n}.png")
        assert said.out.startswith(f"{name}: ")
        told[name] = "no font here has its letters" in said.out
    assert told == {"サンタ.png": True, "picture 1": False, "кот.png": False}
    santa, plain, cat = (np.asarray(Image.open(tmp_path / f"sheet-{n}.png")) for n in range(3))
    assert np.array_equal(santa, plain)
    below = 29 + 160  # the first caption is below the heading and a picture
    assert np.array_equal(cat[:below], plain[:below])
    assert not np.array_equal(cat, plain)
    sheets._font.cache_clear()


def test_invert_enlarges_as_asked(gankit: Gankit, run: Path, figures, tmp_path: Path):
    for name, options in (("a.png", ()), ("b.png", ("--scale", 2)), ("c.png", ("--scale", 2, "--smooth"))):
        assert gankit("invert", run, figures[0], "--steps", 1, "-o", name, *options).code == 0
    a, b, c = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png", "c.png"))
    assert (a.shape[1], b.shape[1]) == (3 * (160 + 8) + 8, 3 * (32 + 8) + 8)
    assert b.shape == c.shape
    assert not np.array_equal(b, c)


def test_invert_leaves_out_what_a_score_cannot_show(gankit: Gankit, others: Path, figures: list[Path], tmp_path: Path):
    mine = ("--plugin", others / "mine.py")
    said = gankit("invert", others / "scored", figures[0], "--steps", 2, "-o", "a.png", *mine)
    assert said.code == 0
    assert "D's reconstruction is left out: the discriminator of 'scored' gives none" in said.out
    assert Image.open(tmp_path / "a.png").width == 2 * (160 + 8) + 8


def frames_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as gif:
        frames = []
        for n in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(n)
            frames.append(np.asarray(gif.convert("RGB")))
        return frames


def test_interpolate_makes_a_gif_of_eight_random_pairs_there_and_back(gankit: Gankit, run: Path):
    said = gankit("interpolate", run, "--frames", 6)
    assert said.out.strip() == str(run / "interpolation.gif")
    frames = frames_of(run / "interpolation.gif")
    assert len(frames) == 10  # 1 2 3 4 5 6 5 4 3 2
    assert frames[0].shape == (38 * 7, 74 * 7, 3)  # two rows of four, 16 pixels and 2 of padding, enlarged
    assert np.array_equal(frames[1], frames[9])
    assert np.array_equal(frames[4], frames[6])
    assert not np.array_equal(frames[0], frames[5])


def test_interpolate_draws_a_strip_with_a_row_a_pair(gankit: Gankit, run: Path, tmp_path: Path):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert gankit("interpolate", run, "--seed", seed, "-o", name).code == 0
    a, b, c = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png", "c.png"))
    assert a.shape == (33 + 8 * (96 + 8), 9 * (96 + 8) + 8, 3)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    for suffix, shape in (("png", (33 + 8 * (32 + 8), 9 * (32 + 8) + 8, 3)), ("gif", (38 * 2, 74 * 2, 3))):
        for name, smooth in (("sharp", ()), ("smooth", ("--smooth",))):
            made = tmp_path / f"{name}.{suffix}"
            assert gankit("interpolate", run, "--frames", 9, "-o", made, "--scale", 2, *smooth).code == 0
            if name == "sharp" or suffix == "png":
                assert np.asarray(Image.open(made).convert("RGB")).shape == shape
        assert made.read_bytes() != made.with_stem("sharp").read_bytes()


def test_interpolate_between_pictures_inverts_them_and_a_picture_s_mirror_image(
    gankit: Gankit, run: Path, figures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: dict[str, list] = {"invert": [], "interpolate": []}

    def quick(rebuilt: Rebuilt, pictures: torch.Tensor, seed: int) -> Inversion:
        seen["invert"] += [pictures, found := invert(rebuilt, pictures, steps=2, seed=seed)]
        return found

    def watched(rebuilt: Rebuilt, a: torch.Tensor, b: torch.Tensor, frames: int) -> torch.Tensor:
        seen["interpolate"] += [a, b]
        return interpolate(rebuilt, a, b, frames)

    monkeypatch.setattr(gankit_latents, "invert", quick)
    monkeypatch.setattr(gankit_latents, "interpolate", watched)
    said = gankit("interpolate", run, "--frames", 3, "-o", "a.png", "--between", *figures, "--mirror", figures[1])
    assert said.code == 0
    told = [line.partition(": ")[0] for line in said.out.splitlines()[:-1]]
    assert told == [*map(str, figures), str(figures[1]), f"{figures[1]}, mirrored"]
    (pictures, found), (a, b) = seen["invert"], seen["interpolate"]
    read = read_pictures(rebuild(Run(run)), figures)
    assert torch.equal(pictures, torch.stack([read[0], read[1], read[1], read[1].flip(-1)]))
    assert torch.equal(a, found.z[[0, 2]])
    assert torch.equal(b, found.z[[1, 3]])
    strip = np.asarray(Image.open(tmp_path / "a.png"))
    assert strip.shape == (33 + 2 * (96 + 8), 5 * (96 + 8) + 8, 3)
    second = strip[33 + 104 : 33 + 104 + 96]
    assert np.array_equal(second[:, 8 : 8 + 96], second[:, 8 + 4 * 104 : 8 + 4 * 104 + 96][:, ::-1])
    assert gankit("interpolate", run, "--frames", 3, "-o", "a.gif", "--mirror", figures[1]).code == 0
    assert frames_of(tmp_path / "a.gif")[0].shape == (20 * 10, 56 * 10, 3)


def test_grey_pictures_are_interpolated(gankit: Gankit, others: Path, tmp_path: Path):
    for name in ("a.png", "a.gif"):
        said = gankit("interpolate", others / "greys", "--plugin", others / "mine.py", "--frames", 3, "-o", name)
        assert said.code == 0, said.err
        with Image.open(tmp_path / name) as made:
            pixels = np.asarray(made.convert("RGB"))[33:]  # below the titles of the strip
        assert np.array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.skipif(importlib.util.find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not installed")
def test_interpolate_writes_an_mp4_where_ffmpeg_is_there(gankit: Gankit, run: Path, tmp_path: Path):
    import imageio.v2 as imageio

    for _ in range(2):  # its own film may be replaced
        assert gankit("interpolate", run, "--frames", 4, "-o", "a.mp4").code == 0
    assert imageio.get_reader(tmp_path / "a.mp4").count_frames() == 6


def test_a_class_conditional_run_is_interpolated_within_a_class_and_not_inverted(
    gankit: Gankit, others: Path, figures: list[Path], tmp_path: Path
):
    mine = ("--plugin", others / "mine.py")
    assert gankit("interpolate", others / "classy", "--frames", 3, "-o", "a.png", *mine).code == 0
    assert gankit("evaluate", others / "classy", "--n", 20, *mine).code == 0
    before = contents(tmp_path)
    refused(gankit("invert", others / "classy", figures[0], "-o", "b.png", *mine), "class", "classy")
    refused(gankit("interpolate", others / "classy", "--mirror", figures[0], "-o", "b.png", *mine), "class")
    assert contents(tmp_path) == before


NO_ONNX = any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime"))
WRONG = [
    (("invert", "RUN"), "IMAGE"),
    (("invert", "nowhere", "grey.png"), "nowhere"),
    (("invert", "texts", "grey.png"), "no run folder"),
    (("invert", "RUN", "nothing.png"), "nothing.png", "no file"),
    (("invert", "RUN", "grey.png", "texts"), "texts", "is a folder"),
    (("invert", "RUN", "texts/note.png"), "texts/note.png", "not a picture"),
    (("invert", "RUN", "texts/none.png"), "texts/none.png", "an empty file"),
    (("invert", "RUN", "grey.png", "-o", "a.jpg"), "--out a.jpg", ".png"),
    (("invert", "RUN", "grey.png", "-o", "grey.png"), "--out grey.png", "another name"),
    (("invert", "RUN", "grey.png", "--starts", 0), "--starts"),
    (("invert", "RUN", "grey.png", "--steps", 0), "--steps"),
    (("invert", "RUN", "grey.png", "--seed", -1), "--seed"),
    (("invert", "RUN", "grey.png", "--from", 7), "7", "4, 6, 8"),
    (("invert", "EMPTY", "grey.png"), "no checkpoint"),
    (("invert", "OTHERS/scored", "grey.png"), "scored"),
    (("invert", "OTHERS/points", "grey.png", "--plugin", "OTHERS/mine.py"), "points, not pictures"),
    (("interpolate", "nowhere"), "nowhere"),
    (("interpolate", "texts"), "no run folder"),
    (("interpolate", "RUN", "--frames", 1), "--frames"),
    (("interpolate", "RUN", "-o", "a.webm"), "--out a.webm", ".gif", ".mp4", ".png"),
    (("interpolate", "RUN", "-o", "film"), ".gif"),
    (("interpolate", "RUN", "--between", "grey.png"), "--between"),
    (("interpolate", "RUN", "--between", "grey.png", "nothing.png"), "nothing.png"),
    (("interpolate", "RUN", "--mirror", "texts"), "texts", "is a folder"),
    (("interpolate", "RUN", "--mirror", "grey.png", "-o", "grey.png"), "another name"),
    (("interpolate", "RUN", "--from", 7), "7", "4, 6, 8"),
    (("interpolate", "EMPTY"), "no checkpoint"),
    (("interpolate", "OTHERS/scored"), "scored"),
    (("interpolate", "OTHERS/points", "--plugin", "OTHERS/mine.py"), "points, not pictures"),
    (
        ("interpolate", "OTHERS/greys", "--mirror", "grey.png", "--plugin", "OTHERS/mine.py"),
        "square colour pictures",
    ),
    (("sample", "OTHERS/points", "-o", "new/each", "--plugin", "OTHERS/mine.py"), "points", "give --out FILE.png"),
    (("share", "RUN", "-o", "new/page.png"), ".html"),
    (("share", "RUN", "-o", "new/page.html", "--from", 7), "gankit[share]" if NO_ONNX else "4, 6, 8"),
    (("score", "RUN", "nowhere", "-o", "new/s.csv"), "nowhere"),
    (("evaluate", "OTHERS/points", "--plugin", "OTHERS/mine.py"), "points, not pictures"),
    (("evaluate", "OTHERS/classy"), "classy"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: " ".join(map(str, case[0])))
def test_a_wrong_request_is_refused_in_one_line_and_nothing_is_written(
    gankit: Gankit, run: Path, others: Path, figures: list[Path], tmp_path: Path, case
):
    arguments, *said = case
    empty = tmp_path / "empty"
    shutil.copytree(run, empty)
    shutil.rmtree(empty / "checkpoints")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "note.png").write_text("no picture")
    (tmp_path / "texts" / "none.png").write_text("")
    places = {"RUN": run, "EMPTY": empty}
    arguments = [str(places.get(part, part)).replace("OTHERS", str(others)) for part in arguments]
    before = contents(tmp_path), contents(others)
    refused(gankit(*arguments), *said)
    assert (contents(tmp_path), contents(others)) == before


def test_items_that_are_no_square_colour_pictures_are_refused(began: Rebuilt, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(began.model, "shape", (1, 16, 16))
    with pytest.raises(UserError, match="square colour pictures"):
        read_pictures(began, [])
