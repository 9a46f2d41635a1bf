"""The commands around a training, and the messages for bad requests."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import DATA, TINY, Gankit, contents, lines, read, refused, with_few
from PIL import Image

import gankit as package

# Bad input: one line, exit code 2, nothing written.

WRONG = [
    (("run",), "no data named", "--data DIR"),
    (("run", "--steps", 5), "no data named", "--data DIR"),  # the model has a default
    (("run", "began"), "--data"),
    (("run", "begn", "--data", "demo"), "did you mean 'began'", "ebgan"),
    (("rum", "began"), "did you mean 'run'"),
    (("run", "began", "--data", "nowhere"), "nowhere"),
    (("run", "began", "--data", "empty"), "empty"),
    (("run", "began", "--data", "texts"), "texts"),
    (("run", "began", "--data", "demo:x"), "demo:x"),
    (("run", "began", "--data", "demo:8", "--batch-size", 16), "--batch-size"),
    (("run", "began", *DATA, "--set", "gamma=high"), "gamma", "(0, 1]"),
    (("run", "began", *DATA, "--set", "gama=0.5"), "did you mean 'gamma'"),
    (("run", "began", *DATA, "--set", "learning_rate=1e39"), "learning_rate"),
    (("run", "began", *DATA, "--set", "eta=3"), "eta", "1 or 2"),
    (("run", "began", *DATA, "--set", "betas=[2,3]"), "betas"),
    (("run", "began", *DATA, "--set", "gamma"), "KEY=VALUE"),
    (("run", "began", *DATA, "--set", "nothing.at=1"), "nothing"),
    (("run", "began", *DATA, "--set", "balance.flor=1"), "did you mean 'floor'"),
    (("run", "began", *DATA, "--set", "networks=other"), "began-autoencoder"),
    (("run", "ebgan", *DATA, "--set", "gamma=0.5"), "gamma"),
    (("run", "began", "--data", "demo", "--image-size", "big"), "--image-size"),
    (("run", "began", "--data", "demo", "--batch-size", 0), "--batch-size"),
    (("run", "began", *DATA, "--steps", -1), "--steps"),
    (("run", "began", *DATA, "--time", "soon"), "--time", "2h"),
    (("run", "began", *DATA, "--seed", -1), "--seed"),
    (("run", "began", *DATA, "--log-every", 0), "--log-every"),
    (("run", "began", *DATA, "--holdout", 1), "--holdout", "[0, 1)"),
    (("run", "began", *DATA, "--background", "blu"), "--background", "#rrggbb"),
    (("run", "began", *DATA, "--fit", "stretch"), "--fit"),
    (("run", "began", *DATA, "--device", "abacus"), "--device"),
    (("run", "began", "--data", "demo:120", "--precision", "fp8"), "--precision"),
    (("run", "began", *DATA, "--preset", "papr"), "did you mean 'paper'"),
    (("run", "began", *DATA, "--config", "nowhere.toml"), "nowhere.toml"),
    (("run", "began", *DATA, "--loss", "pulling-awy=1"), "did you mean 'pulling-away'"),
    (("run", "began", *DATA, "--loss", "pulling-away=much"), "--loss"),
    (("run", "began", *DATA, "--loss", "pulling-away=nan"), "--loss"),
    (("run", "began", *DATA, "--controller", "margin"), "margin"),
    (("run", "ebgan", *DATA, "--controller", "balance"), "balance"),
    (("run", "began", *DATA, "--diagnostic", "other"), "vitals"),
    (("run", "began", *DATA, "--view", "other"), "view"),
    (("run", "began", *DATA, "--artifact", "other"), "report"),
    (("run", "began", *DATA, "--on-alarm", "panic"), "stop", "warn"),
    (("run", "began", *DATA, "--plugin", "nowhere.py"), "nowhere.py"),
    (("run", "began", *DATA, "--plugin", "broken.toml"), ".py"),
    (("run", "began", *DATA, "--out", "texts"), "texts"),
    (("run", "began", *DATA, "--out", "texts/note.txt/x"), "note.txt"),
    (("run", "began", "--data", "texts", "--out", "texts/x"), "texts"),
    (("run", "began", *DATA, "--frobnicate"), "--frobnicate"),
    (("resume", "nowhere"), "nowhere"),
    (("resume", "empty"), "no run folder"),
    (("sample", "nowhere"), "nowhere"),
    (("sample", "empty"), "no run folder"),
    (("animate", "empty"), "no run folder"),
    (("report", "empty"), "no run folder"),
]

NO_NUMBERS = ("nan", "inf", "-inf")
OUT_OF_RANGE = [  # model, setting, allowed value, refused value
    ("began", "gamma", "(0, 1]", ("0", "-0.1", "1.01", *NO_NUMBERS)),
    ("began", "lambda_k", "(0, 1e+30]", ("0", "-0.001", *NO_NUMBERS)),
    (
        "began",
        "learning_rate_generator",
        "a number in (0, 1e+30], a multiple of learning_rate such as 2.5x, auto or none",
        ("0", "-1", "0x", "x", "-2x", "nanx", "fast", "[1]", *NO_NUMBERS),
    ),
    ("began", "balance.floor", "[0, 1)", ("-0.1", "1", *NO_NUMBERS)),
    ("began", "filters", "[4, ∞)", ("3", "0", "-4", "4.5", *NO_NUMBERS)),
    ("began", "strided-autoencoder.mapping", "[0, 100]", ("-1", "0.5")),
    ("ebgan", "filters", "[4, ∞)", ("3", "0", "-4", "4.5", *NO_NUMBERS)),
    ("ebgan", "margin", "(0, 1e+30] or auto", ("0", "-0.5", "1e+39", *NO_NUMBERS)),  # 1e39 is ∞ in single precision
    ("ebgan", "margin.ratio", "(1, 1e+30]", ("1", "1e+39", *NO_NUMBERS)),
    ("ebgan", "pull_away", "[0, 1e+30]", ("-1", *NO_NUMBERS)),
    ("ebgan", "energy", "norm or rms or mse", ("l2",)),
]
WRONG += [
    (("run", model, *DATA, "--steps", 0, "--set", f"{setting}={value}"), f"{setting.split('.')[-1]}={value}", range_)
    for model, setting, range_, values in OUT_OF_RANGE
    for value in values
]
WRONG += [
    (
        ("run", "began", *DATA, "--steps", 0, "--controller", name, "--set", f"{name}.{setting}={value}"),
        f"{setting}={value}",
        range_,
    )
    for name, setting, range_, values in [
        ("balance-pi", "proportional", "[0, 1e+30]", ("-1", *NO_NUMBERS)),
        ("pace", "gain", "(0, 1e+30]", ("0", *NO_NUMBERS)),
        ("pace", "limit", "[1, 1e+30]", ("0.5", *NO_NUMBERS)),
    ]
    for value in values
]
WRONG += [  # what has one home, or is no setting any more
    (("run", model, *DATA, "--steps", 0, "--set", f"{setting}=3"), setting.split(".")[-1], instead)
    for model, setting, instead in [
        ("began", "generator_pace", "any more: write --set learning_rate_generator=2.5x"),
        ("began", "balance.lambda_k", "any more: write --set lambda_k=0.001"),
        ("began", "strided-autoencoder.filters", "not its own in this run: write --set filters=…"),
        ("began", "began-autoencoder.skip_connections", "not its own in this run: write --set skip_connections=…"),
        ("began", "strided-autoencoder.background", "not its own in this run: write --background COLOUR"),
        ("ebgan", "strided-autoencoder.mapping", "not its own in this run: write --set mapping=…"),
        ("ebgan", "margin.fixed", "any more: write --set margin=0.5"),
        ("began", "critic.every", "any more: it is a constant, 8. Leave it out"),
        ("began", "halving.window", "any more: it is a constant, 500. Leave it out"),
        ("began", "vitals.exploded", "any more: it is a constant, 20. Leave it out"),
        ("began", "equilibrium.patience", "any more: it is a constant, 2000. Leave it out"),
        ("began", "mode-collapse.narrowing", "any more: it is a constant, 0.8. Leave it out"),
        ("began", "cleanliness.grainy", "any more: it is a constant, 2. Leave it out"),
        ("began", "reconstruction-errors.memorised", "any more: it is a constant, 1.5. Leave it out"),
        ("began", "vitals.nothing", "It has none"),
    ]
]
WRONG += [  # not 8·2^m
    (("run", model, "--data", "demo:120", "--steps", 0, "--image-size", size), "16, 32, 64, 128, 256")
    for model in ("began", "ebgan")
    for size in (0, -16, 8, 12, 17, 24, 40, 48, 96, 100, 512)
]


FILES = {  # requests that no flag can make
    "odd": ("stepps = 3", "stepps"),
    "broken": ("steps = ", "broken.toml"),
    "pair-as-text": ('networks = "began-autoencoder"', "`networks` in [model]"),
    "no-such-pair": ("[networks.began-autoencodr]\nfilters = 8", "did you mean 'began-autoencoder'"),
    "options-of-nothing": ("datasets = 3", "datasets is 3"),
    "no-such-reaction": ("[reactions.pannic]\nloud = 1", "pannic"),
    "plugins-as-number": ("plugins = 3", "plugins is 3"),
    "losses-as-number": ("losses = 3", "losses is 3"),
    "set-as-list": ("set = ['gamma']", "set is"),
}
WRONG += [(("run", "began", *DATA, "--config", f"{name}.toml"), word) for name, (_, word) in FILES.items()]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: " ".join(map(str, case[0])))
def test_a_wrong_request_is_refused_in_one_line_and_nothing_is_made(gankit: Gankit, tmp_path: Path, case):
    arguments, *words = case
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "note.txt").write_text("no picture")
    for name, (text, _) in FILES.items():
        (tmp_path / f"{name}.toml").write_text(text)
    before = contents(tmp_path)
    refused(gankit(*arguments), *words)
    assert contents(tmp_path) == before


# The commands that read a run.


def test_sample_draws_one_picture_with_all_and_the_seed_decides(gankit: Gankit, run: Path, tmp_path: Path):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert gankit("sample", run, "-n", 5, "--seed", seed, "--out", name).code == 0
    a, b, c = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png", "c.png"))
    assert a.shape == (132, 5 * 130 + 2, 3)  # 8 times 16 pixels, and 2 of padding
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_sample_enlarges_as_asked_in_sharp_squares_or_smoothly(gankit: Gankit, run: Path, tmp_path: Path):
    own, large, smooth = "own.png", "large.png", "smooth.png"
    for name, options in ((own, ()), (large, ("--scale", 3)), (smooth, ("--scale", 3, "--smooth"))):
        assert gankit("sample", run, "-n", 2, "--out", name, *(options or ("--scale", 1))).code == 0
    own, large, smooth = (np.asarray(Image.open(tmp_path / name), int) for name in (own, large, smooth))
    assert own.shape == (20, 38, 3)
    assert large.shape == smooth.shape == (52, 102, 3)
    cell = own[2:18, 2:18]
    assert np.array_equal(large[2:50, 2:50], cell.repeat(3, 0).repeat(3, 1))
    assert np.abs(np.diff(smooth[2:50, 2:50], axis=1)).max() < np.abs(np.diff(large[2:50, 2:50], axis=1)).max()
    middle = smooth[3:50:3, 3:50:3] - cell  # bicubic goes through the pixels' centres
    assert np.abs(middle).max() <= 1
    assert gankit("sample", run, "-n", 2, "--scale", 3, "--out", "each").code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "each" / "00000.png")), large[2:50, 2:50])


def test_the_former_names_of_what_is_written_still_work(gankit: Gankit, run: Path, tmp_path: Path):
    assert gankit("sample", run, "-n", 2, "--grid", "grid.png").code == 0
    assert gankit("sample", run, "-n", 2, "-o", "out.png").code == 0
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert gankit("animate", run, "--output", "film.gif").code == 0
    assert (tmp_path / "film.gif").exists()


def test_a_file_of_the_user_s_is_never_overwritten_and_gankit_s_own_may_be(gankit: Gankit, run: Path, tmp_path: Path):
    photo = Image.new("RGB", (16, 16), "navy")
    for name in ("mine.png", "mine.gif", "seen.png"):
        photo.save(tmp_path / name)
    (tmp_path / "mine.mp4").write_bytes(b"my own")
    films = ["mine.gif"] + ["mine.mp4"] * (importlib.util.find_spec("imageio_ffmpeg") is not None)
    before = contents(tmp_path)
    drawn = (("sample", run), ("invert", run, "seen.png"), ("interpolate", run), ("evaluate", run, "--n", 20))
    asked = [(command, "mine.png") for command in drawn]
    asked += [((command, run), name) for command in ("animate", "interpolate") for name in films]
    for command, name in asked:
        refused(gankit(*command, "-o", name), f"--out {name} exists", "gankit did not write it", "another name")
    with pytest.raises(package.UserError, match=r"mine\.gif exists"):
        package.Run(run).animate("mine.gif")
    assert contents(tmp_path) == before
    for command, name in (*((command, "own.png") for command in drawn), (("animate", run), "own.gif")):
        for _ in range(2):
            assert gankit(*command, "-o", name).code == 0


def test_sample_writes_one_file_a_picture_into_a_new_folder(gankit: Gankit, run: Path, tmp_path: Path):
    assert gankit("sample", run, "-n", 3, "--out", "pictures").code == 0
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    assert Image.open(tmp_path / "pictures" / "00002.png").size == (16, 16)
    before = contents(tmp_path / "pictures")
    refused(gankit("sample", run, "--out", "pictures"), "pictures")
    assert contents(tmp_path / "pictures") == before


def test_sample_alpha_leaves_the_ground_out_and_over_white_is_the_same_picture(gankit: Gankit, undrawn: None):
    assert gankit("run", "began", *TINY, "--out", "r").code == 0
    assert gankit("sample", "r", "-n", 3, "--out", "over").code == 0
    assert gankit("sample", "r", "-n", 3, "--out", "alone", "--alpha").code == 0
    for name in ("00000.png", "00001.png", "00002.png"):
        with Image.open(f"alone/{name}") as alone, Image.open(f"over/{name}") as over:
            assert alone.mode == "RGBA"
            assert alone.getchannel("A").getextrema() != (255, 255)
            laid = Image.alpha_composite(Image.new("RGBA", alone.size, "white"), alone).convert("RGB")
            assert np.abs(np.asarray(laid, int) - np.asarray(over.convert("RGB"), int)).max() <= 2


def test_smooth_colours_take_nothing_from_what_lies_under_transparent_pixels():
    import torch

    from gankit.report.sample_grid import enlarged

    y, x = torch.meshgrid(torch.linspace(0, 3, 12), torch.linspace(0, 3, 12), indexing="ij")
    colours = torch.stack([0.5 * torch.sin(x), 0.5 * torch.cos(y), 0.3 * torch.sin(x + y)])[None]
    opacity, ground = (0.5 + 0.3 * torch.cos(x - y))[None, None], torch.tensor([0.9, -0.4, 0.1]).view(1, 3, 1, 1)

    def laid(picture: torch.Tensor) -> torch.Tensor:
        weight = (picture[:, -1:] + 1) / 2
        return picture[:, :-1] * weight + ground * (1 - weight)

    picture = torch.cat([colours, opacity * 2 - 1], 1)
    whole = enlarged(laid(picture), 4, smooth=True)
    assert torch.allclose(laid(enlarged(picture, 4, smooth=True)), whole, atol=1e-4)
    disc = (torch.hypot(x - 1.5, y - 1.5) < 1).float()[None, None]
    hidden = [torch.cat([colours * disc + place * (1 - disc), disc * 2 - 1], 1) for place in (-1, 1)]
    one, other = (enlarged(picture, 4, smooth=True) for picture in hidden)
    assert torch.equal(one, other)
    assert one[:, -1].max() == 1


def test_sample_alpha_is_refused_where_the_pictures_have_a_ground(gankit: Gankit, run: Path):
    refused(gankit("sample", run, "--alpha"), "--alpha", "no opacity")


def test_sample_without_a_place_puts_the_grid_into_the_run(gankit: Gankit, run: Path):
    said = gankit("sample", run)
    assert said.code == 0
    assert said.out.strip() == str(run / "sample.png")
    assert (run / "sample.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-n", 0), ("-n",)),
        (("--seed", -1), ("--seed",)),
        (("--grid", "a.jpg"), ("a.jpg", ".png")),
        (("--out", "a.jpg"), ("a.jpg", ".png")),
        (("--out", "a.svg"), ("a.svg", ".png")),
        (("--scale", 0), ("--scale",)),
        (("--grid", "a.png", "--out", "b"), ("--grid", "--out")),
        (("--from", 7), ("7", "4, 6, 8")),
    ],
)
def test_sample_refuses_what_it_cannot_do(gankit: Gankit, run: Path, arguments, words):
    refused(gankit("sample", run, *arguments), *words)


def test_sample_can_take_an_earlier_checkpoint(gankit: Gankit, run: Path, tmp_path: Path):
    gankit("sample", run, "--from", 4, "--out", "early.png")
    gankit("sample", run, "--out", "late.png")
    assert (tmp_path / "early.png").read_bytes() != (tmp_path / "late.png").read_bytes()


def test_animate_makes_a_gif_of_the_samples(gankit: Gankit, run: Path, tmp_path: Path):
    assert gankit("animate", run, "-o", "new/film.gif").code == 0
    film = Image.open(tmp_path / "new" / "film.gif")
    assert film.n_frames == 3  # steps 0, 4, 8
    assert film.width == 4 * 146  # eight pictures of 16 pixels, 2 of padding
    for name, options in (("sharp.gif", ()), ("smooth.gif", ("--smooth",))):
        assert gankit("animate", run, "-o", name, "--scale", 2, *options).code == 0
        assert Image.open(tmp_path / name).width == 2 * 146
    sharp, smooth = (
        np.asarray(Image.open(tmp_path / name).convert("RGB"), int) for name in ("sharp.gif", "smooth.gif")
    )
    assert np.array_equal(sharp[::2, ::2][:73], sharp[1::2, 1::2][:73])
    assert not np.array_equal(smooth[::2, ::2][:73], smooth[1::2, 1::2][:73])
    refused(gankit("animate", run, "-o", "film.txt"), ".gif")


def test_report_is_written_anew(gankit: Gankit, run: Path):
    (run / "report.html").unlink()
    (run / "losses.png").unlink()
    said = gankit("report", run)
    assert said.code == 0
    assert "began" in (run / "report.html").read_text()
    assert (run / "losses.png").exists()


# The commands about gankit itself.


def test_plugins_list_says_what_comes_from_where(gankit: Gankit):
    said = gankit("plugins", "list")
    assert said.code == 0
    for word in ("model began", "model ebgan", "loss term pulling-away", "data source demo", "gankit_began"):
        assert word in said.out
    assert gankit("plugins").out == said.out


def test_doctor_names_versions_device_threads_disk_and_plugins(gankit: Gankit):
    said = gankit("doctor")
    assert said.code == 0
    for word in ("torch:", "torchvision:", "device:", "threads:", "GB free", "began", "nothing is wrong"):
        assert word in said.out


def test_doctor_says_what_is_wrong(gankit: Gankit, monkeypatch):
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", "began,ebgan")
    said = gankit("doctor")
    assert said.code == 1
    assert "WRONG: no model" in said.out


def test_help_of_a_model_shows_every_setting_with_its_description(gankit: Gankit):
    from gankit_began.model import BEGAN

    said = gankit("run", "began", "--help")
    shown = " ".join(said.out.split())
    assert said.code == 0
    for name, field in BEGAN.Settings.model_fields.items():
        assert f"{name}=" in shown
        assert field.description.split()[0] in shown
    for word in ("--on-alarm", "paper", "pulling-away", "balance", "(0, 1]"):
        assert word in shown


def test_help_version_and_usage_errors_do_not_import_torch():
    script = (
        "import sys; from gankit.cli import main\n"
        "for words in ('--help', '--version', 'run --help', 'resume --help', 'rum', 'run --frobnicate', 'run'):\n"
        "    sys.argv = ['gankit', *words.split()]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).returncode == 0


def test_a_run_can_be_read_without_torch(run: Path):
    script = (
        "import sys; from gankit import Run\n"
        f"run = Run({str(run)!r}); run.metrics(); run.config; run.samples(); repr(run); run._repr_html_()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).returncode == 0


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m gankit --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


# Controllers by name.


@pytest.mark.parametrize(
    ("asked", "controllers"),
    [
        (("--controller", "balance-pi"), {"balance-pi", "halving"}),
        (("--controller", "pace"), {"balance", "pace"}),  # both drive the learning rates
        (("--controller", "balance-pi", "--controller", "pace"), {"balance-pi", "pace"}),
        (("--set", "balance.floor=0.1", "--set", "lambda_k=1"), {"balance", "halving"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_controller_that_is_named_replaces_the_one_for_its_knobs(
    gankit: Gankit, undrawn, tmp_path, asked, controllers
):
    plain = ("--set", "gamma=0.9", "--set", "edges=0", "--set", "strided-autoencoder.output=linear")  # k rises at once
    assert gankit("run", "began", *TINY, *plain, *asked, "--out", "run").code == 0
    config = read(tmp_path / "run" / "config.json")
    assert config["controllers"].keys() == controllers
    logged = lines(tmp_path / "run")
    assert len(logged) == 6
    for line in logged:
        assert {"began/k", "learning_rate/generator", "learning_rate/discriminator"} <= line.keys()
    ks = [line["began/k"] for line in logged]
    rates = {line["learning_rate/generator"] / line["learning_rate/discriminator"] for line in logged}
    assert ks[-1] != ks[0]
    assert min(ks[2:]) >= (0.1 if "balance.floor=0.1" in asked else 0)
    assert (len(rates) > 1) == ("pace" in asked)
    if "balance.floor=0.1" in asked:
        assert (config["model"]["lambda_k"], config["controllers"]["balance"]) == (1, {"floor": 0.1})


def test_two_controllers_for_k_are_refused(gankit: Gankit, tmp_path: Path):
    both = ("--controller", "balance-pi", "--controller", "balance")
    refused(gankit("run", "began", *DATA, "--steps", 0, *both), "both drive 'k'")
    assert list(tmp_path.iterdir()) == []


# From Python.

SMALL = {"image_size": 16, "batch_size": 4, "precision": "fp32", "set": {"filters": 4, "latent": 8}}


def test_python_has_the_same_words_and_gives_a_run_that_shows_its_last_samples(undrawn, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = package.run("began", data="demo:120", steps=4, log_every=2, out="here", **SMALL)
    assert run.result["outcome"] == "finished"
    assert [line["step"] for line in run.metrics()] == [2, 4]
    assert "samples at step 4" in run._repr_html_()
    assert repr(run) == "Run('here': began, finished at step 4)"
    assert run.sample(3).shape == (3, 3, 16, 16)
    more = package.resume(run, steps=6, gamma=0.6)
    assert more.result["steps"] == 6
    assert more.config["history"] == [{"step": 4, "changed": {"model.gamma": 0.6, "steps": 6}}]


def test_python_takes_settings_of_the_model_as_keywords_and_a_file_of_settings(undrawn, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {key: value for key, value in SMALL.items() if key != "set"}
    own = {"gamma": 0.6, "lr": 0.002, "filters": 4, "latent": 8, "balance.floor": 0.1}
    run = package.run(data="demo:120", steps=1, out="a", **small, **own)
    config = run.config
    assert (config["model"]["name"], config["model"]["gamma"], config["model"]["learning_rate"]) == (
        "began",
        0.6,
        0.002,
    )
    assert config["controllers"]["balance"] == {"floor": 0.1}
    again = package.run(config_file="a/config.json", out="b").config
    assert {**again, "requested": 0} == {**config, "requested": 0}
    with pytest.raises(package.UserError, match="did you mean 'data'"):
        package.run("began", dta="demo", gamma=0.7)
    with pytest.raises(package.UserError, match="learning_rate is given twice"):
        package.run("began", data="demo", lr=0.7, learning_rate=0.6)


def test_a_run_has_the_words_of_the_commands_and_no_other_public_names(gankit: Gankit, run: Path):
    whole = package.Run(run)
    assert {name for name in dir(whole) if not name.startswith("_")} == {
        *("folder", "config", "environment", "data", "result", "metrics", "alarms", "rescues", "samples"),
        *(
            "checkpoints",
            "sample",
            "evaluate",
            "invert",
            "interpolate",
            "animate",
            "report",
            "share",
            "export",
            "score",
            "best",
        ),
    }
    Image.new("RGB", (16, 16), "navy").save(run / "navy.png")
    assert not np.array_equal(whole.sample(2), whole.sample(2, from_step=4))
    inversion = whole.invert([run / "navy.png"], steps=2, starts=2)
    assert (inversion.z.shape, inversion.generated.shape, inversion.errors.shape) == ((1, 8), (1, 3, 16, 16), (1, 2))
    assert whole.interpolate(frames=3).shape == (8, 3, 3, 16, 16)
    assert whole.interpolate(frames=2, between=[(run / "navy.png", run / "navy.png")]).shape == (1, 2, 3, 16, 16)
    told = json.loads(gankit("evaluate", run, "--n", 20, "--json").out)
    assert whole.evaluate(n=20).measures["coverage"].value == told["measures"]["coverage"]["value"]
    (run / "report.html").unlink()
    assert whole.report() == run / "report.html"
    assert (run / "report.html").exists()
    assert Image.open(whole.animate(run / "film.gif", scale=1)).width == 146


ASKED = [
    (lambda run: run.sample(0), "n=0: give a whole number of at least 1"),
    (lambda run: run.sample(-1), "n=-1"),
    (lambda run: run.sample(True), "n=True"),
    (lambda run: run.sample(2, seed=-1), "seed=-1"),
    (lambda run: run.sample(2, seed=2.5), "seed=2.5: give a whole number"),
    (lambda run: run.sample(2, from_step="bets"), "from_step='bets': give the step of a checkpoint"),
    (lambda run: run.score("20"), "from_step='20': give the step of a checkpoint"),
    (lambda run: run.evaluate(n=19), "n=19: give a whole number of at least 20"),
    (lambda run: run.interpolate(frames=0), "frames=0: give a whole number of at least 2"),
    (lambda run: run.interpolate(between=("a.png", "b.png")), "between has 'a.png': give pairs"),
    (lambda run: run.interpolate(mirror=[7]), "mirror=[7]: give the path of a picture file"),
    (lambda run: run.invert([]), "images is empty"),
    (lambda run: run.invert(None), "images=None: give the path of a picture file"),
    (lambda run: run.invert("a.png", starts=0), "starts=0"),
    (lambda run: run.invert("a.png", steps=0), "steps=0"),
    (lambda run: run.invert("a.png"), "there is no file a.png"),
    (lambda run: run.interpolate(mirror="a.png"), "there is no file a.png"),
    (lambda run: run.animate(scale=33), "scale=33: give a whole number from 1 to 32"),
    (lambda run: run.share(from_step=-1), "from_step=-1"),
    (lambda run: run.export(from_step=0.5), "from_step=0.5"),
]


@pytest.mark.parametrize(("ask", "said"), ASKED, ids=[said for _, said in ASKED])
def test_python_has_the_ranges_of_the_commands(finished: Path, ask: Callable[[package.Run], object], said: str):
    with pytest.raises(package.UserError, match=re.escape(said)):
        ask(package.Run(finished))


def test_numbers_of_numpy_are_numbers(finished: Path):
    run = package.Run(finished)
    assert run.sample(np.int64(2), seed=np.int32(1), from_step=np.int64(4)).shape == (2, 3, 16, 16)


def test_python_writes_below_the_home_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert package.Run(run).animate("~/new/film.gif") == tmp_path / "new/film.gif"
    monkeypatch.setattr("gankit.sharing.hub.export", lambda run, folder, *more: folder)
    assert package.Run(run).export("~/out") == tmp_path / "out"
    assert not Path("~").exists()


def test_a_stranger_s_run_is_text_in_a_notebook(run: Path):
    config = read(run / "config.json")
    config["model"]["name"] = "<img src=x onerror=alert(1)>"
    (run / "config.json").write_text(json.dumps(config))
    (run / "result.json").write_text(json.dumps({"outcome": "<script>alert(2)</script>", "steps": 8}))
    for _ in range(2):
        shown = package.Run(run)._repr_html_()
        assert "&lt;img src=x" in shown
        assert "&lt;script&gt;alert(2)" in shown
        assert not re.search("<script|<img src=x", shown)
        shutil.rmtree(run / "samples", ignore_errors=True)


def test_a_run_with_little_in_its_files_is_shown_too(run: Path):
    (run / "result.json").write_text('{"outcome": "finished"}')
    assert repr(package.Run(run)) == f"Run({str(run)!r}: began, finished at step None)"
    for config in ({"x": 1}, {"model": 3}):
        (run / "config.json").write_text(json.dumps(config))
        assert "finished" in repr(package.Run(run))
        assert "samples at step" in package.Run(run)._repr_html_()


def test_python_compares_as_the_command_does(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_few(monkeypatch)
    with pytest.raises(package.UserError, match="needs two models"):
        package.compare(["began"], "demo:200")
    found = package.compare(["began", "ebgan"], "demo:200", seeds=1, samples=50, steps=2, out="c", **SMALL)
    assert (found["folder"], found["state"], len(found["runs"])) == ("c", "finished", 2)
    assert (tmp_path / "c" / "report.html").exists()


TRAINING = (
    "import gankit; gankit.run('began', data='demo:60', steps=2, log_every=1, image_size=16, batch_size=4, filters=4, "
    "{}out='r')"
)


@pytest.mark.parametrize(("watcher", "shown"), [("", True), ("watcher=gankit.Watcher(), ", False)])
def test_python_shows_the_progress_in_a_terminal(tmp_path: Path, watcher: str, shown: bool):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    code = TRAINING.format(watcher)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=theirs, stderr=subprocess.PIPE, timeout=120
    )
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # how Linux says that nobody writes any more
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"began on 54 items" in seen) == shown


def test_python_is_quiet_where_nobody_looks_and_shows_one_line_that_changes_in_a_notebook(
    undrawn, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    package.run("began", data="demo:120", steps=2, log_every=1, out="quiet", **SMALL)
    assert capsys.readouterr() == ("", "")
    first: list[str] = []
    later: list[str] = []

    class ZMQInteractiveShell: ...

    class Handle:
        def update(self, text: dict[str, str], raw: bool) -> None:
            later.append(text["text/plain"])

    def display(text: dict[str, str], raw: bool, display_id: bool) -> Handle:
        first.append(text["text/plain"])
        return Handle()

    shell = SimpleNamespace(get_ipython=ZMQInteractiveShell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    package.run("began", data="demo:120", steps=3, log_every=1, out="shown", **SMALL)
    assert [line.split()[1] for line in (*first, *later)] == ["1/3", "2/3", "3/3"]
    assert len(first) == 1
    assert "began on 108 items" in capsys.readouterr().out


def test_python_gives_the_same_numbers_as_the_command(gankit: Gankit, undrawn, tmp_path: Path):
    gankit("run", "began", *TINY, "--out", "a")
    package.run("began", data="demo:120", steps=6, log_every=1, out="b", **SMALL)
    a, b = ([line["loss/generator"] for line in lines(tmp_path / name)] for name in "ab")
    assert a == b


def test_a_wrong_request_from_python_is_a_user_error(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(package.UserError, match="gamma"):
        package.run("began", data="demo:120", set={"gamma": 7})
    with pytest.raises(package.UserError, match="unknown option 'stepps'"):
        package.run("began", data="demo:120", stepps=7)
    assert os.listdir(tmp_path) == []


def test_a_training_leaves_the_caller_s_random_stream_as_it_was(undrawn, tmp_path: Path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    package.run("began", data="demo:120", steps=2, **SMALL)
    assert torch.equal(torch.rand(3), expected)
