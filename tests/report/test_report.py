"""The promises of the report, the animation and losses.png for any run folder, whole or damaged."""

from __future__ import annotations

import base64
import csv
import functools
import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Gankit, refused
from PIL import Image

from gankit.errors import UserError
from gankit.report import animate, draw_losses, write_report
from gankit.report.curves import panels, rate_drops, thin
from gankit.report.story import evenly, read
from gankit.runs.verdict import of as verdict_of
from gankit.trained.run import Run

# A run folder without a training: plausible numbers and drawn grids.


@functools.cache
def grid(share: float, seed: int = 0, picture: int = 32) -> bytes:
    """A PNG of 8 × 8 pictures on exact white: discs that take their colours as `share` goes from 0 to 1."""
    rng = np.random.default_rng(seed)
    canvas = np.full((8 * (picture + 2) + 2, 8 * (picture + 2) + 2, 3), 255, np.uint8)
    y, x = np.mgrid[:picture, :picture] / picture - 0.5
    colours = np.random.default_rng(7).integers(40, 220, (64, 3))
    for n in range(64):
        disc = np.hypot(x, y * (0.7 + 0.6 * (n % 5) / 5)) < 0.2 + 0.12 * (n % 3) * share
        colour = 128 + (colours[n] - 128) * share + rng.normal(0, 30 * (1 - share) + 4, (picture, picture, 3))
        cell = np.where(disc[..., None], colour, 255).clip(0, 255).astype(np.uint8)
        top, left = 2 + n // 8 * (picture + 2), 2 + n % 8 * (picture + 2)
        canvas[top : top + picture, left : left + picture] = cell
    png = io.BytesIO()
    Image.fromarray(canvas).save(png, "PNG")
    return png.getvalue()


def metrics(step: int, rng: np.random.Generator) -> dict[str, Any]:
    """One line of metrics.jsonl as BEGAN writes it."""
    real = 0.08 + 0.25 * math.exp(-step / 1500) + rng.normal(0, 0.006)
    fake = 0.5 * real + rng.normal(0, 0.006)
    k = 0.12 * (1 - math.exp(-step / 3000)) + 0.01 * math.sin(step / 900)
    rate = 1e-4 * 0.5 ** (step // 3000)
    return {
        "step": step,
        "images": step * 16,
        "seconds": round(step * 0.0515, 2),
        "images_per_second": 310 + rng.normal(0, 8),
        "loss/discriminator": real - k * fake,
        "loss/generator": fake,
        "learning_rate/generator": rate,
        "learning_rate/discriminator": rate,
        "energy/real": real,
        "energy/fake": fake,
        "began/k": k,
        "began/balance": 0.5 * real - fake,
        "began/convergence": real + abs(0.5 * real - fake),
    }


CONFIG: dict[str, Any] = {
    "gankit": "0.1.0",
    "model": {
        "name": "began",
        "gamma": 0.5,
        "filters": 16,
        "latent": 64,
        "learning_rate": 1e-4,
        "lambda_k": 0.001,
    },
    "data": "./pics",
    "image_size": 32,
    "batch_size": 16,
    "seed": 0,
    "steps": 8000,
    "time": None,
    "device": "cpu",
    "precision": "bf16",
    "fit": "pad",
    "background": "#ffffff",
    "mirror": False,
    "holdout": 0.1,
    "log_every": 50,
    "sample_every": 250,
    "checkpoint_every": 1000,
    "losses": {},
    "controllers": {"balance": {"lambda_k": 0.001, "gamma": 0.5}},
    "diagnostics": {},
    "views": {},
    "artifacts": ["grid", "animation", "report"],
    "on_alarm": "stop",
    "plugins": [],
    "requested": {"data": "./pics", "model": {"gamma": 0.5}, "steps": 8000},
    "history": [],
}
ENVIRONMENT: dict[str, Any] = {
    "gankit": "0.1.0",
    "python": "3.11.9",
    "torch": "2.9.0",
    "torchvision": "0.24.0",
    "platform": "Linux-6.1-x86_64",
    "device": "AMD EPYC, 2 threads",
    "threads": 2,
    "plugins": [{"name": "began", "distribution": "gankit", "version": "0.1.0"}],
    "command": "gankit run began --data ./pics --set gamma=0.5 --steps 8000",
    "started": "2026-11-24T21:06:02+00:00",
}
DATA: dict[str, Any] = {
    "name": "./pics",
    "train": 3160,
    "held_out": 351,
    "shape": [3, 32, 32],
    "digest": "sha256:3f9a77c1",
    "labels": ["animals", "food"],
    "skipped": [{"file": f"broken-{n}.png", "reason": "is no picture"} for n in range(25)],
    "warned": [{"file": "tiny.png", "reason": "is 9×9 pixels, enlarged"}],
}
RESULT: dict[str, Any] = {
    "outcome": "finished",
    "reason": "steps",
    "steps": 8000,
    "seconds": 412.3,
    "images_per_second": 310.5,
    "message": "",
}
ALARM: dict[str, Any] = {
    "step": 5200,
    "diagnostic": "mode-collapse",
    "kind": "narrowing",
    "severity": "critical",
    "message": "Coverage fell from 0.41 to 0.12 within 2,000 steps.",
    "advice": ["raise gamma for more variety: gankit resume run --from 5000 --set gamma=0.6 --out run-again"],
    "remedies": [{"why": "raise gamma for more variety", "arguments": ["--set", "gamma=0.6"], "new_run": False}],
    "healthy": 5000,
    "action": "stop",
}


def colours_of(picture: np.ndarray) -> set[int]:
    """The different colours, each as one number."""
    return set(np.unique(picture.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)).tolist())


def lines_of(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def make_run(folder: Path, steps: int = 8000, every: int = 50, samples: int = 33, **parts: Any) -> Run:
    """A run folder; `parts` replaces config, environment, data, result, metrics or alarms (None: absent)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    whole: dict[str, Any] = {
        "config": CONFIG,
        "environment": ENVIRONMENT,
        "data": DATA,
        "result": RESULT,
    } | parts
    for name in ("config", "environment", "data", "result"):
        if whole[name] is not None:
            (folder / f"{name}.json").write_text(json.dumps(whole[name]), encoding="utf-8")
    entries = whole.get("metrics", [metrics(step, rng) for step in range(every, steps + 1, every)])
    lines_of(folder / "metrics.jsonl", entries)
    lines_of(folder / "alarms.jsonl", whole.get("alarms", []))
    (folder / "samples").mkdir()
    drawn = [grid(n / 11, n) for n in range(12)] if samples else []
    for n in range(samples):
        step = round(n * steps / max(samples - 1, 1))
        (folder / "samples" / f"{step:06d}.png").write_bytes(drawn[n * 12 // samples])
    return Run(folder)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


class Page(HTMLParser):
    """A parsed report: tags, text, embedded JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.words.append(data)

    def ids(self) -> set[str | None]:
        return {attrs.get("id") for _, attrs in self.tags}

    def json(self, name: str) -> Any:
        scripts = [attrs for tag, attrs in self.tags if tag == "script"]
        return json.loads(self.scripts[[attrs.get("id") for attrs in scripts].index(name)])


def report(run: Run) -> Page:
    return Page(write_report(run))


# The report.


def test_a_report_asks_no_other_host_for_anything(run: Run) -> None:
    draw_losses(run)
    animate(run, frames=4)
    page = report(run)
    addresses = [attrs[key] for _, attrs in page.tags for key in ("src", "href", "srcset", "data") if attrs.get(key)]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    style = Path(run.report_path).read_text().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_a_report_tells_the_run_in_words(run: Run) -> None:
    text = report(run).text
    assert "began on ./pics" in text
    assert "3,160 pictures of 32×32 pixels in colour; 351 pictures were held out" in text
    assert "8,000 of 8,000" in text
    assert "6 min 52 s" in text
    assert "AMD EPYC, 2 threads" in text
    assert "It finished: all its steps are done." in text
    assert "gankit run began --data ./pics --set gamma=0.5 --steps 8000" in text
    assert f"gankit resume {run.folder} --steps 16000" in text


def test_a_report_claims_no_variety_that_nothing_measured(run: Run) -> None:
    text = report(run).text
    assert "Variety was not measured in this run." in text
    assert "No diagnostic watched this run" in text
    assert "healthy" not in text
    assert "Not judged yet" in text


def test_measured_variety_is_told_as_numbers_and_not_as_praise(tmp_path: Path) -> None:
    entries = [{"step": 500, "loss/generator": 0.1, "mode-collapse/raw-coverage": 0.4127}]
    text = report(make_run(tmp_path / "run", metrics=entries)).text
    assert "mode-collapse/raw-coverage was 0.4127 at step 500" in text


def test_the_summary_tells_the_variety_of_the_samples_now_and_at_its_best(tmp_path: Path) -> None:
    variety = {500: 0.11, 1000: 0.36, 1500: 0.24}
    entries = [{"step": step, "loss/generator": 0.1, "mode-collapse/variety": value} for step, value in variety.items()]
    text = report(make_run(tmp_path / "run", metrics=entries)).text
    assert "At step 1,500 the samples show 24% of the variety that other real pictures have" in text
    assert "the most was 36%, at step 1,000" in text


def test_how_clean_the_samples_are_is_a_sentence_and_curves_around_1(tmp_path: Path) -> None:
    readings = {"grain": 3.68, "flat": 0.057, "ground": 0.187, "fine": 0.42}
    entries = [
        {"step": step, "loss/generator": 0.1, **{f"cleanliness/{name}": value for name, value in readings.items()}}
        for step in (500, 1000)
    ]
    page = report(make_run(tmp_path / "run", metrics=entries))
    said = "At step 1,000 the samples have 3.7 times the grain of the real pictures, 6% of their flat places, 19% of "
    assert f"{said}their plain ground and 42% of their fine detail." in page.text
    (panel,) = (one for one in page.json("curves")["panels"] if one["title"].startswith("Clean"))
    assert (panel["level"], panel["log"]) == (1, True)
    assert "1 is right" in panel["note"]
    assert [one["name"] for one in panel["series"]] == ["fine", "flat", "grain", "ground"]
    entries = [{key: value for key, value in entry.items() if key != "cleanliness/ground"} for entry in entries]
    assert "6% of their flat places and 42% of" in report(make_run(tmp_path / "scenes", metrics=entries)).text


@pytest.mark.parametrize("outcome", ["stopped", "interrupted", "failed"])
def test_a_run_that_did_not_finish_says_so(tmp_path: Path, outcome: str) -> None:
    result = RESULT | {"outcome": outcome, "reason": "alarm", "steps": 5200, "message": "The disk is full."}
    text = report(make_run(tmp_path / "run", result=result, samples=1)).text
    assert f"{outcome} " in text
    assert "at step 5,200" in text
    assert "The disk is full." in text


def test_a_run_in_progress_has_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", result=None, environment=None, data=None, samples=2)
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 8050, "loss/gen')  # a line under writing
    text = report(run).text
    assert "It has not ended" in text
    assert "environment.json is missing" in text
    assert "data.json is missing" in text
    assert "damaged" not in text


def test_a_run_with_nothing_but_settings_has_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    text = report(make_run(tmp_path / "run", metrics=[], samples=0, result=None)).text
    assert "metrics.jsonl has no lines yet" in text
    assert "There are no samples yet." in text


def test_damage_is_named_and_the_rest_is_still_told(run: Run) -> None:
    (run.folder / "data.json").write_text("{half")
    (run.folder / "config.json").write_text("[1, 2]")
    (run.folder / "samples" / "009000.png").write_bytes(b"")
    lines = run.metrics_path.read_text().splitlines(keepends=True)
    run.metrics_path.write_text("".join([*lines[:80], "\0\0\0\n", *lines[80:]]))
    text = report(run).text
    assert "config.json is damaged" in text
    assert "data.json is damaged" in text
    assert "1 damaged line was left out" in text
    assert "step 8,000" in text


def test_a_malicious_folder_name_stays_text(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&amp; <!--"
    message = "</script><script>alert(2)</script>"
    run = make_run(
        tmp_path / evil,
        config=CONFIG | {"data": evil, "requested": {evil: message}},
        data=DATA | {"name": message, "skipped": [{"file": evil, "reason": message}], "labels": [message]},
        alarms=[
            ALARM | {"message": message, "remedies": [{"why": evil, "arguments": [message]}, {"why": [evil]}, evil]}
        ],
        metrics=[{"step": 1, f"loss/{message}": 1.0, message: 2.0}, {"step": 2, f"loss/{message}": 1.0}],
        samples=2,
    )
    page = report(run)
    assert not [attrs for tag, attrs in page.tags if "onerror" in attrs or (tag == "img" and attrs.get("src") == "x")]
    assert sum(tag == "script" for tag, _ in page.tags) == 4  # grids, curves, plotly, our own
    assert not any("alert(2)" in script and not script.startswith(("{", "[")) for script in page.scripts)
    assert evil in "".join(page.words)
    # Labels that plotly reads as HTML are escaped once more.
    assert (
        page.json("curves")["alarms"][0]["text"]
        == "mode-collapse: &lt;/script&gt;&lt;script&gt;alert(2)&lt;/script&gt;"
    )


def test_a_long_run_gives_a_report_under_ten_megabytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=100_000, every=1, samples=400)
    (run.folder / "animation.gif").write_bytes(b"GIF89a" + bytes(20_000_000))  # too large, and no picture either
    path = write_report(run)
    assert path.stat().st_size < 10_000_000
    page = Page(path)
    [shown] = page.json("grids")
    assert 10 <= len(shown) <= 60
    assert [shown[0]["step"], shown[-1]["step"]] == [0, 100_000]
    assert "animation.gif beside this report shows the way" in page.text


def test_a_large_interpolation_is_embedded_smaller(run: Run) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (400, 400), np.uint8)) for _ in range(20)]
    frames[0].save(run.folder / "interpolation.gif", save_all=True, append_images=frames[1:], duration=100)
    path = write_report(run)
    assert path.stat().st_size < 10_000_000
    assert any((attrs.get("src") or "").startswith("data:image/webp") for _, attrs in Page(path).tags)


def test_an_interpolation_is_shown_where_there_is_one_and_else_how_to_make_it(run: Run) -> None:
    page = report(run)
    assert f"gankit interpolate {run.folder}" in page.text
    frames = [Image.new("RGB", (40, 10), (n * 40, 0, 0)) for n in range(5)]
    frames[0].save(run.folder / "interpolation.gif", save_all=True, append_images=frames[1:])
    page = report(run)
    assert "gankit interpolate" not in page.text
    assert any("from one latent to another" in (attrs.get("alt") or "") for _, attrs in page.tags)


def told(page: Page, tag: str, **attributes: str) -> list[dict[str, str | None]]:
    return [attrs for name, attrs in page.tags if name == tag and all(attrs.get(k) == v for k, v in attributes.items())]


def test_a_report_begins_with_a_verdict_and_the_next_command_then_alarms_then_pictures(tmp_path: Path) -> None:
    readings = {
        "mode-collapse/variety": 0.47,
        "cleanliness/grain": 3.2,
        "cleanliness/flat": 0.1,
        "cleanliness/fine": 0.4,
    }
    entries = [{"step": step, "loss/generator": 0.1, **readings} for step in (500, 1000)]
    run = make_run(tmp_path / "run", metrics=entries, alarms=[ALARM])
    page = report(run)
    assert page.text.index("Coverage fell from 0.41 to 0.12 within 2,000 steps") < page.text.index("Next:")
    order = [attrs["id"] for tag, attrs in page.tags if tag == "h2" and attrs.get("id")]
    assert order == ["verdict", "alarms", "samples", "neighbours", "curves-title", "details", "again"]
    # An alarm's advice comes before more of the same.
    first = page.text.index("Next:")
    assert page.text[first:].startswith(f"Next: gankit resume {run.folder} --set gamma=0.6")
    assert report(make_run(tmp_path / "calm")).text.count("--steps 16000") == 1  # below
    links = {attrs["href"] for attrs in told(page, "a")}
    assert {f"#{one}" for one in order[1:]} <= links


SCORED = {
    "score": 0.5,
    **{f"mode-collapse/{name}": 0.6 for name in ("variety", "form")},
    **{f"cleanliness/{name}": 0.9 for name in ("flat", "fine")},
    "cleanliness/grain": 1.1,
}
LABORATORY = ("wasserstein", "mean-term", "empirical-w2")
COPIES = {"step": 1000, "looked": 3160, "train": 3160, "held_out": 351, "copies": 5, "samples": 64, "chance": 0.0865}


def test_the_page_says_of_copies_what_the_terminal_says_and_of_older_samples_only_their_step(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", metrics=[{"step": step, **SCORED} for step in (500, 1000)])

    def both(**changed: Any) -> str:
        (run.folder / "neighbours.json").write_text(json.dumps(COPIES | changed), encoding="utf-8")
        said = verdict_of(run)
        text = report(run).text
        assert said.headline in text
        assert all(one in text for one in said.because)
        return said.headline + " ".join(said.because)

    explained = both()
    assert (
        "5 of 64 samples of step 1,000 are as near to a training picture as a copy: no more than chance explains (up "
        "to 9%)" in explained
    )
    assert "8% copies" not in explained
    unknown = both(copies=9, chance=0.1135)  # 14 %, and the interval from 7.6 % holds what chance explains
    assert "copies, " not in unknown
    assert "than chance explains" not in unknown
    assert "a copy: chance explains up to 11%, and so few samples and held-out pictures cannot tell" in unknown
    assert report(run).text.lower().count("look at the pairs") == 2  # in the verdict and in the section
    assert both(chance=0.02).startswith("8% copies, ")
    older = both(chance=0.02, step=500)  # of samples that were there before a resume
    assert "copies," not in older
    assert "5 of 64 samples of step 500 are" in older
    assert "more than chance explains (up to 2%). Look at the pairs." in report(run).text  # without their picture too
    few = both(copies=None, held_out=0)
    assert "Too few pictures are held out to judge whether samples are copies" in few
    assert "obody looked" not in few
    assert "obody looked" not in both(copies=9, held_out=20)
    counted = {"equal": 9, "equal_held_out": 0}
    assert "9 of the samples and 0 of 351 held-out pictures equal a training picture." in both(copies=9, **counted)
    assert "equal a training" not in both(copies=9, equal=9, equal_held_out=49)  # 14 % of either
    assert "look at the pairs. 9 of 64 samples equal a training picture." in both(copies=None, held_out=0, **counted)
    for odd in ({"equal": "9"}, {"equal": 65}, {"equal_held_out": None}, {"equal_held_out": 400}):
        assert "equal a training" not in both(copies=9, **(counted | odd))
    for odd in ({"copies": 1, "samples": 10**400}, {"copies": True, "samples": True}, {"copies": 9, "samples": 4}):
        assert "Nobody looked for copies of training pictures yet." in both(**odd)
    assert "(up to 1%)" in both(copies=0, samples=100, chance=-5.0)


def test_a_report_up_to_a_step_tells_the_alarm_that_held_there(tmp_path: Path) -> None:
    entries = [{"step": step, **SCORED} for step in (500, 1000, 1500, 2000)]
    run = make_run(tmp_path / "run", metrics=entries, samples=0, alarms=[ALARM | {"step": 1000, "attempt": 1}])
    for step, healthy in ((1000, False), (2000, True)):
        place = run.checkpoint_path(step)
        place.mkdir(parents=True)
        state = {"step": step, "attempt": 1, "verdicts": {"mode-collapse": healthy}}
        (place / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert "Coverage fell" not in verdict_of(run).headline  # healed since
    text = Page(write_report(run, story=read(run, until=1000))).text
    assert "Coverage fell from 0.41 to 0.12 within 2,000 steps" in text[: text.index("Alarms")]
    assert "Steps 1,000" in text
    assert "finished" not in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("neighbours.json", {**COPIES, "samples": None}),
        ("alarms.jsonl", {**ALARM, "remedies": [{"why": "a", "arguments": 5}]}),
        ("state.json", {"step": "x", "attempt": [], "verdicts": {"mode-collapse": False}}),
        (
            "metrics.jsonl",
            {"step": 500, "loss/g": 0.1, **{f"reconstruction-errors/{name}": -1.0 for name in LABORATORY}},
        ),
        (
            "metrics.jsonl",
            {"step": 500, "loss/generator": sys.float_info.max, "loss/discriminator": -sys.float_info.max},
        ),
    ],
)
def test_an_odd_value_in_a_strangers_folder_leaves_the_rest_of_the_page(
    name: str, content: dict[str, Any], tmp_path: Path
) -> None:
    lines_to_be = {name.partition(".")[0]: [content]} if name.endswith("jsonl") else {}
    run = make_run(tmp_path / "run", samples=2, **{"alarms": [ALARM], **lines_to_be})
    if name == "state.json":
        run.checkpoint_path(5000).mkdir(parents=True)
        (run.checkpoint_path(5000) / name).write_text(json.dumps(content), encoding="utf-8")
    elif name == "neighbours.json":
        (run.folder / name).write_text(json.dumps(content), encoding="utf-8")
    page = report(run)
    assert page.json("curves")["panels"]
    draw_losses(run)


def test_the_samples_open_at_the_last_step_in_one_player_beside_real_pictures(run: Run) -> None:
    page = report(run)
    assert not any(
        "real pictures that the model learns from" in (attrs.get("alt") or "") for attrs in told(page, "img")
    )
    (run.folder / "real.png").write_bytes(grid(1.0, 99))
    animate(run, frames=2)
    page = report(run)
    samples, real = told(page, "img")
    assert samples["alt"] == "Grid of samples at step 8,000"
    assert "real pictures that the model learns from" in (real["alt"] or "")
    assert real["src"] == f"data:image/png;base64,{base64.b64encode(grid(1.0, 99)).decode()}"
    (slider,) = told(page, "input", type="range")
    assert slider["value"] == slider["max"] == str(len(page.json("grids")[0]) - 1)
    assert page.json("grids")[0][-1] == {"step": 8000, "source": None}  # which the page already shows
    (run.folder / "real.png").write_bytes(b"no picture")
    assert len(told(report(run), "img")) == 1


def test_variety_form_and_copies_are_shown_with_the_level_of_real_pictures_and_the_rest_is_folded(
    tmp_path: Path,
) -> None:
    names = (
        "variety",
        "form",
        "coverage",
        "recall",
        "precision",
        "density",
        "duplicates",
        "raw-variety",
        "raw-coverage",
        "left",
    )
    readings = {f"mode-collapse/{name}": 0.4 for name in names} | {
        f"cleanliness/{name}": 0.5 for name in ("grain", "flat", "ground", "fine")
    }
    entries = [metrics(step, np.random.default_rng(0)) | readings for step in (500, 1000, 1500)]
    path = write_report(make_run(tmp_path / "run", metrics=entries))
    panels = Page(path).json("curves")["panels"]
    shown = [(one["title"].partition(":")[0], len(one["series"]), one["level"]) for one in panels[:4]]
    assert shown == [("Variety", 1, 1.0), ("Form", 1, 1.0), ("Twins", 1, 0.01), ("Clean", 4, 1.0)]
    assert all(one["note"] for one in panels[:4])
    assert {one["kind"] for one in panels[4:]}.isdisjoint({"judged"})
    page = path.read_text(encoding="utf-8").partition("</main>")[0]
    curves = page[page.index('id="curves-title"') :]
    visible, folded = curves[: curves.index("<details")], curves[curves.index("<details") :]
    assert visible.count('class="plot"') == 4
    assert folded.count('class="plot"') == len(panels) - 4


def test_where_scripts_do_not_run_each_chart_is_a_table_of_its_course(tmp_path: Path) -> None:
    entries = [{"step": n, "energy/real": n / 100, "energy/fake": None if n < 50 else 0.5} for n in range(1, 102)]
    page = write_report(make_run(tmp_path / "run", metrics=entries)).read_text(encoding="utf-8")
    (table,) = re.findall(r"<noscript>.*?(<table>.*?</table>)", page, re.DOTALL)
    cells = [re.sub("<[^>]+>", " ", row).split() for row in re.findall("<tr>.*?</tr>", table, re.DOTALL)]
    assert cells == [
        ["Step", "1", "26", "51", "76", "101"],
        ["real", "0.01", "0.26", "0.51", "0.76", "1.01"],
        ["fake", "0.5", "0.5", "0.5"],
    ]


def test_a_rescue_stands_in_the_first_sentences(tmp_path: Path) -> None:
    def short(*actions: str) -> str:
        alarms = [ALARM | {"step": 1000 * n, "action": action} for n, action in enumerate(actions, 1)]
        return report(make_run(tmp_path / str(len(list(tmp_path.iterdir()))), alarms=alarms, samples=1)).text

    first, second = (
        "rescue 1 of 4: back to step 500, and on with --set gamma=0.7",
        "rescue 2 of 4: back to step 500, and on",
    )
    assert "It was rescued once at step 1,000 (narrowing): back to step 500, and on with --set gamma=0.7." in short(
        first
    )
    assert "It was rescued 2 times, the last time at step 2,000 (narrowing): back to" in short(first, second)
    assert "rescued" not in short("warned", "stopped: no remedy is left to try")


def test_advice_names_a_checkpoint_that_is_still_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", alarms=[ALARM])
    for step in (3000, 6000, 8000):
        (run.folder / "checkpoints" / f"{step:06d}").mkdir(parents=True)
    text = report(run).text.replace("  ", " ")
    assert "--from 6000 --set gamma=0.6" in text
    assert "--from 5000" not in text


def test_the_alarm_of_a_step_that_a_later_attempt_went_over_again_is_marked_as_such(tmp_path: Path) -> None:
    metrics = [{"step": s, "energy/real": 0.1} for s in (50, 100, 150)]
    metrics += [{"step": s, "energy/real": 0.1, "attempt": 2} for s in (100, 150, 200)]
    alarms = [ALARM | {"step": 50}, ALARM | {"step": 150}, ALARM | {"step": 200, "attempt": 2}]
    page = report(make_run(tmp_path / "run", metrics=metrics, alarms=alarms, samples=1))
    assert [mark["replaced"] for mark in page.json("curves")["alarms"]] == [False, True, False]


def test_alarms_stand_in_words_with_their_advice_ready_to_paste(tmp_path: Path) -> None:
    alarms = [ALARM, ALARM | {"step": 6000}]
    page = report(make_run(tmp_path / "my run", alarms=alarms, samples=1))
    assert "Coverage fell from 0.41 to 0.12" in page.text
    assert "2 times since step 5,200" in page.text
    assert f"gankit resume '{tmp_path / 'my run'}' --set gamma=0.6" in page.text.replace("  ", " ")
    assert [alarm["step"] for alarm in page.json("curves")["alarms"]] == [5200, 6000]


def test_settings_that_were_asked_for_are_marked(tmp_path: Path) -> None:
    config = CONFIG | {"history": [{"step": 4000, "changed": {"model": {"gamma": 0.6}}}]}
    text = report(make_run(tmp_path / "run", config=config, samples=1)).text
    assert "gamma 0.5 requested" in text
    assert "filters 16 requested" not in text
    assert "From step 4,000: model.gamma = 0.6" in text


def test_skipped_files_are_counted_and_the_first_are_named(run: Run) -> None:
    text = report(run).text
    assert "25 files were skipped" in text
    assert "Data: 3,160 pictures, 25 files skipped, 1 file with a warning" in text
    assert "broken-19.png is no picture" in text
    assert "broken-20.png" not in text
    assert "and 5 more" in text


def test_a_report_can_be_read_without_eyes_and_by_keyboard(run: Run) -> None:
    page = report(run)
    assert ("html", {"lang": "en"}) in page.tags
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("class") == "plot")
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert any(tag == "input" and attrs.get("type") == "range" for tag, attrs in page.tags)
    linked = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a" and attrs["href"]}
    assert linked <= page.ids()


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(run: Run) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run, run.folder / "config.json" / "report.html")
    write_report(run)
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")]


# Curves.


def test_metrics_of_a_model_nobody_has_heard_of_appear(tmp_path: Path) -> None:
    entries = [
        {"step": n, "loss/critic": 1 / n, "zebra/stripes": n, "odour/musk": 0.1 * n, "odd": 3} for n in (1, 2, 3)
    ]
    run = make_run(tmp_path / "run", config={"model": {"name": "zebra"}}, metrics=entries, samples=1)
    kinds = {panel["title"]: panel["kind"] for panel in report(run).json("curves")["panels"]}
    assert kinds == {"Losses": "losses", "zebra/stripes": "control", "odour": "diagnostic", "odd": "other"}
    assert draw_losses(run).exists()


CURVES = {
    "began/k": {"letter": "k_t", "note": "How much fakes weigh.", "bounds": [0, 1]},
    "odour/musk": {"letter": "µ_0", "note": "How strong it smells.", "bounds": [-2.5, None]},
}


def test_a_metric_is_shown_as_who_gives_it_says_in_the_folder(tmp_path: Path) -> None:
    entries = [{"step": n, "began/k": 0.1 * n, "began/balance": 0.5, "odour/musk": -n} for n in (1, 2, 3)]
    run = make_run(tmp_path / "run", environment=ENVIRONMENT | {"curves": CURVES}, metrics=entries, samples=1)
    page = report(run)
    shown = {panel["title"]: panel for panel in page.json("curves")["panels"]}
    k, plain, musk = shown["began/k"], shown["began/balance"], shown["odour"]
    assert (k["letter"], k["note"], k["bounds"]) == ("k_t", "How much fakes weigh.", [0, 1])
    assert k["series"][0]["name"] == "k<sub>t</sub>"
    assert (plain["letter"], plain["note"], plain["bounds"]) == ("", "", [None, None])
    assert (musk["note"], musk["bounds"]) == ("How strong it smells.", [-2.5, None])
    assert "How much fakes weigh." in page.text
    assert "How strong it smells." in page.text
    assert draw_losses(run).exists()


def test_a_chart_has_the_title_and_the_scale_that_are_declared_beside_its_readings(tmp_path: Path) -> None:
    told = {
        "odour/musk": {"title": "How it smells", "log": True},
        "odour/rose": {"title": "How it smells", "log": True},
        "odour/dung": {"title": "A logarithm has no 0", "log": True},
        "warmth": {"title": "Warmth", "note": "In degrees."},
        "zebra/stripes": {"title": "Stripes", "log": True},
    }
    values = {
        "odour/musk": 1.0,
        "odour/rose": 500.0,
        "odour/dung": 0.0,
        "odour/plain": 2.0,
        "warmth": 3.0,
        "zebra/stripes": 4,
    }
    entries = [{"step": n, **values} for n in (1, 2)]
    environment = ENVIRONMENT | {"curves": told}
    run = make_run(tmp_path / "run", config={"model": {"name": "zebra"}}, environment=environment, metrics=entries)
    shown = {panel["title"]: panel for panel in report(run).json("curves")["panels"]}
    assert shown.keys() == {"How it smells", "A logarithm has no 0", "odour: plain", "Warmth", "Stripes"}
    assert [one["name"] for one in shown["How it smells"]["series"]] == ["musk", "rose"]
    logs = {title: panel["log"] for title, panel in shown.items()}
    assert {title for title, log in logs.items() if log} == {"How it smells", "Stripes"}
    assert shown["Warmth"]["note"] == "In degrees."


def test_the_latest_numbers_have_every_metric_those_of_one_line_too(tmp_path: Path) -> None:
    entries = [{"step": n, "learning_rate/generator": 1e-4, "learning_rate/discriminator": 1e-4} for n in (1, 2)]
    text = report(make_run(tmp_path / "run", metrics=entries)).text
    latest = text[text.index("The latest numbers") :]
    assert "learning_rate/ generator 0.0001 2" in latest
    assert "learning_rate/ discriminator 0.0001 2" in latest


def test_a_folder_of_an_older_version_which_says_nothing_of_its_metrics_is_drawn_under_their_names(run: Run) -> None:
    shown = {panel["title"]: panel for panel in report(run).json("curves")["panels"]}
    for name in ("began/k", "began/balance", "began/convergence"):
        assert (shown[name]["letter"], shown[name]["note"]) == ("", "")
    assert [one["name"] for one in shown["Energies"]["series"]] == ["real L(x)", "fake L(G(z))"]
    assert draw_losses(run).exists()


def test_what_a_strangers_folder_says_of_its_metrics_is_text_or_left_out(tmp_path: Path) -> None:
    evil = "</script><script>alert(3)</script>"
    curves = {
        "began/k": {"letter": evil, "note": evil, "bounds": [5, 9]},  # nor is it true
        "began/balance": {"letter": "\\frac{", "note": "of another version", "colour": "red"},
        "began/convergence": {"letter": "x_a_b_", "bounds": [-1e30, 1e30]},
        "loss/generator": {"letter": "a" * 41},
        "loss/discriminator": {"note": "a" * 301},
        "energy/real": {"letter": ["L"]},
        "energy/fake": {"letter": "\u202eL"},
        "learning_rate/generator": {"bounds": [-1e308, None]},
        "learning_rate/discriminator": {"bounds": [2, 1]},
        "images_per_second": "fast",
        evil: {"letter": "x"},
    }
    run = make_run(tmp_path / "run", environment=ENVIRONMENT | {"curves": curves}, samples=1)
    page = report(run)
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert evil in "".join(page.words)
    shown = {panel["title"]: panel for panel in page.json("curves")["panels"]}
    assert shown["began/k"]["series"][0]["name"] == "&lt;/script&gt;&lt;script&gt;alert(3)&lt;/script&gt;"
    assert shown["began/balance"]["note"] == "of another version"
    assert [one["name"] for one in shown["Losses"]["series"]] == [
        "discriminator L<sub>D</sub>",
        "generator L<sub>G</sub>",
    ]
    assert [one["name"] for one in shown["Energies"]["series"]] == ["real L(x)", "fake L(G(z))"]
    assert draw_losses(run).exists()
    for damaged in (None, [], "k_t", 7):
        (run.folder / "environment.json").write_text(json.dumps(ENVIRONMENT | {"curves": damaged}), encoding="utf-8")
        assert report(run).json("curves")["panels"]


def test_a_null_is_a_gap_and_an_absent_reading_is_none() -> None:
    entries = [{"step": 1, "a/x": 1.0, "a/y": 1}, {"step": 2, "a/x": None}, {"step": 3, "a/x": 2.0, "a/y": 2}]
    [panel] = panels(entries, "began")
    x, y = panel.series
    assert x.line.values == [1.0, None, 2.0]
    assert y.line.steps == [1, 3]


def test_an_abandoned_attempt_is_set_apart_from_what_took_its_place() -> None:
    first = [{"step": n, "loss/generator": 1.0} for n in range(1, 11)]
    second = [{"step": n, "loss/generator": 2.0, "attempt": 2} for n in range(6, 13)]
    [panel] = panels(first + second, "began")
    series = panel.series[0]
    assert series.line.steps == list(range(1, 13))
    assert series.line.values == [1.0] * 5 + [2.0] * 7
    assert series.abandoned[0].steps == [5, 6, 7, 8, 9, 10]


def test_thinning_loses_no_extreme_and_no_gap() -> None:
    points = [(n, math.sin(n / 500)) for n in range(100_000)]
    points[40_123], points[70_321], points[90_000] = (40_123, 9.0), (70_321, -9.0), (90_000, math.nan)
    line = thin(points, 2000)
    assert len(line.steps) <= 2000
    assert {40_123, 70_321, 90_000, 0, 99_999} <= set(line.steps)
    assert line.values[line.steps.index(90_000)] is None


def test_a_halved_learning_rate_is_found_at_its_step() -> None:
    entries = [{"step": n, "learning_rate/generator": 1e-4 * 0.5 ** (n // 40)} for n in range(100)]
    drawn = panels(entries, "began")
    assert drawn[0].log
    assert rate_drops(drawn) == [40, 80]


def test_samples_are_thinned_evenly_in_steps_and_keep_both_ends() -> None:
    # Sampled ten times as often at first.
    samples = [(step, Path(str(step))) for step in [*range(0, 100, 10), *range(100, 1001, 100)]]
    assert [step for step, _ in evenly(samples, 11)] == list(range(0, 1001, 100))
    assert [step for step, _ in evenly(samples, 3)] == [0, 500, 1000]
    assert len(evenly(samples, 1)) == 1


# Long runs.

TOOK = """
import os, sys
from gankit.cli import main
try:
    main()
finally:
    times, status = os.times(), open("/proc/self/status").read()  # getrusage counts the parent's memory too
    print(times.user + times.system, status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def long_run(folder: Path, count: int, **more: Any) -> Run:
    """A run folder of `count` metric lines of 18 keys."""
    run = make_run(folder, samples=2, metrics=[])
    rng, critics = np.random.default_rng(0), ("loss/critic", "energy/critic", "term/critic", "term/imle", "term/other")
    some = [metrics(step, rng) | {name: rng.random() for name in critics} for step in range(1000)]
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        for n in range(count):
            file.write(json.dumps(some[n % 1000] | {"step": n + 1} | more) + "\n")
    return run


def took(command: str, folder: Path) -> tuple[float, float]:
    """Seconds of a processor and the most memory, in GB, of `gankit report` or `gankit runs` for one run folder."""
    said = subprocess.run(
        [sys.executable, "-c", TOOK, command, "run" if command == "report" else "."],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert "run" in said.stdout
    seconds, kilobytes = map(float, said.stderr.split()[-2:])
    return seconds, kilobytes / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "runs"])
def test_a_million_metric_lines_take_30_s_of_a_processor_and_300_mb_beside_the_libraries(
    command: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Regression: 72 s and 3 GB, a dictionary for every line."""
    long_run(tmp_path / "long/run", 1_000_000)
    long_run(tmp_path / "short/run", 10)
    (seconds, memory), (_, libraries) = took(command, tmp_path / "long"), took(command, tmp_path / "short")
    words = f"{seconds:.1f} s, {memory:.2f} GB; of them libraries {libraries:.2f} GB"
    record_property(f"a million metric lines: `gankit {command}`", words)
    assert seconds < 30
    assert memory - libraries < 0.3


def test_the_memory_of_a_report_holds_numbers_and_no_lines(tmp_path: Path) -> None:
    run, count = long_run(tmp_path / "run", 20_000), 20_000
    read(make_run(tmp_path / "imports"))
    tracemalloc.start()
    story = read(run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < count * 18 * 32  # 12 bytes a number and the points of the curves, where a dictionary has 90 and more
    assert story.series["loss/generator"].last == (count, story.metrics[-1]["loss/generator"])
    assert story.metrics[-1]["step"] == count
    assert len(story.metrics) == 20


def test_a_resume_of_a_long_run_holds_no_lines_in_memory_and_keeps_them_to_the_byte(tmp_path: Path) -> None:
    run, count = long_run(tmp_path / "run", 5_000), 5_000
    before = run.metrics_path.read_bytes()
    tracemalloc.start()
    run.drop_lines(lambda step: step > count - 1)
    assert run.attempt == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(before) / 10
    assert run.metrics_path.read_bytes() == b"".join(before.splitlines(keepends=True)[:-1])


def test_a_point_of_a_curve_among_a_hundred_thousand_is_drawn_where_it_is(tmp_path: Path) -> None:
    entries = [{"step": n, "loss/generator": math.sin(n / 900)} for n in range(1, 100_001)]
    entries[70_320]["loss/generator"], entries[12_344]["loss/generator"] = 9.0, None
    story = read(make_run(tmp_path / "run", metrics=entries, samples=0))
    [panel] = story.panels
    line = panel.series[0].line
    assert (line.steps[0], line.steps[-1], len(line.steps) <= 2000) == (1, 100_000, True)
    assert line.values[line.steps.index(70_321)] == 9.0
    assert line.values[line.steps.index(12_345)] is None
    assert panel.series[0].last == (100_000, entries[-1]["loss/generator"])


def test_of_many_looks_at_the_samples_a_checkpoints_score_is_never_left_out(tmp_path: Path) -> None:
    entries = [{"step": n, "score": n / 50_000, "mode-collapse/variety": 0.5} for n in range(1, 45_001)]
    entries += [{"step": n, "loss/generator": 0.5} for n in range(45_001, 45_101)]
    run = make_run(tmp_path / "run", metrics=entries, samples=0)
    for step in (17, 22_223, 45_000):
        (run.folder / "checkpoints" / f"{step:06d}").mkdir(parents=True)
    assert run.scores() == {17: 17 / 50_000, 22_223: 22_223 / 50_000, 45_000: 0.9}
    assert run.best() == 45_000
    kept = [line["step"] for line in run.looks()]
    assert kept == sorted(set(kept))
    assert kept[-20:] == list(range(45_081, 45_101))
    assert 5_000 <= len(kept) <= 10_100


def test_few_looks_are_all_kept(tmp_path: Path) -> None:
    entries = [{"step": n} | ({"cleanliness/grain": 1.5} if n % 50 == 0 else {}) for n in range(1, 1001)]
    run = make_run(tmp_path / "run", metrics=entries, samples=0)
    assert run.looks() == [*entries[49:980:50], *entries[980:]]


def test_a_million_attempts_are_no_million_lines_in_the_page(tmp_path: Path) -> None:
    entries = [{"step": 1, "loss/generator": 0.5, "attempt": n} for n in range(1, 20_001)]
    [panel] = panels(entries, "began")
    assert panel.series[0].line.steps == [1]
    assert len(panel.series[0].abandoned) == 100


# losses.png.


def test_losses_png_shows_curves(tmp_path: Path) -> None:
    entries = [metrics(step, np.random.default_rng(step)) for step in range(50, 4001, 50)]
    entries[30]["loss/generator"] = None
    path = draw_losses(make_run(tmp_path / "run", metrics=entries, alarms=[ALARM], samples=0))
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] >= 1000
    assert len(colours_of(pixels)) > 100
    for colour in ([0, 114, 178], [213, 94, 0], [176, 0, 32]):  # discriminator, generator, a critical alarm
        assert (abs(pixels.astype(int) - colour) < 40).all(-1).sum() > 100


def test_losses_png_of_a_run_without_metrics_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no losses yet") as error:
        draw_losses(make_run(tmp_path / "run", metrics=[], samples=0))
    assert "\n" not in str(error.value)


# The animation.


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(path) as gif:
        frames, durations = [], []
        for n in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(n)
            frames.append(np.asarray(gif.convert("RGB")))
            durations.append(gif.info["duration"])
    return frames, durations


def test_an_animation_has_a_frame_a_sample_loops_and_holds_the_last(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", samples=30)
    path = animate(run, seconds=3)
    frames, durations = frames_of(path)
    assert path == run.animation_path
    assert len(frames) == 30
    assert durations == [100] * 29 + [2100]
    assert frames[0].shape[1] >= 512
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0


def test_an_animation_shows_no_more_frames_than_asked_for(run: Run) -> None:
    assert len(frames_of(animate(run, run.folder / "short.gif", frames=5))[0]) == 5


def test_every_frame_has_its_own_caption(run: Run) -> None:
    frames, _ = frames_of(animate(run, frames=4))
    width = frames[0].shape[1]
    captions = [frame[width:] for frame in frames]
    assert all(caption.shape[0] >= 28 and len(np.unique(caption)) > 4 for caption in captions)
    assert len({caption.tobytes() for caption in captions}) == 4


def test_a_white_background_stays_exactly_white_in_every_frame(run: Run) -> None:
    frames, _ = frames_of(animate(run))
    assert {tuple(frame[0, 0]) for frame in frames} == {(255, 255, 255)}
    # A cell's corner lies outside of its disc.
    assert {tuple(frame[8, 8]) for frame in frames} == {(255, 255, 255)}
    assert len(set().union(*(colours_of(frame) for frame in frames))) <= 256


def test_a_picture_cut_short_is_left_out(run: Run) -> None:
    path = run.samples()[3][1]
    path.write_bytes(path.read_bytes()[:1000])
    assert len(frames_of(animate(run))[0]) == 32


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.webm", "a"])
def test_what_cannot_be_animated_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run", samples=0)
    with pytest.raises(UserError) as error:
        animate(run, tmp_path / name)
    assert "\n" not in str(error.value)
    assert not (tmp_path / name).exists()


def test_an_mp4_without_ffmpeg_is_refused_with_the_way_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gankit.report.animation.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install imageio-ffmpeg"):
        animate(run, run.folder / "a.mp4")


@pytest.mark.skipif(importlib.util.find_spec("imageio_ffmpeg") is None, reason="imageio-ffmpeg is not installed")
def test_an_mp4_is_written_where_ffmpeg_is_there(run: Run) -> None:
    assert animate(run, run.folder / "a.mp4", frames=4).read_bytes()[4:8] == b"ftyp"


# While it trains.


def test_a_report_can_be_looked_at_from_the_first_sample_on_and_the_terminal_says_where(
    gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gankit.builtin.artifacts import Report

    seen = []
    refresh = Report.refresh

    def watched(self: Report) -> None:
        refresh(self)
        seen.append(Page(Path(self.run.report_path)))

    monkeypatch.setattr(Report, "refresh", watched)
    monkeypatch.setattr("gankit.builtin.artifacts.SHARE", 100.0)
    said = gankit("run", "began", *TINY, "--sample-every", 3, "--artifact", "report", "--out", "run").out
    first = said.partition("step 1/6")[0]
    assert f"look at it while it trains: {(tmp_path / 'run' / 'report.html').as_uri()}" in first
    assert "    k: How much the generated pictures weigh in the discriminator's loss" in first
    assert "    M: How far both sides have converged: L(x)" in first
    assert said.count("    real, fake: ") == 1
    begun, third, sixth = seen
    assert told(begun, "body", **{"data-live": None})[0] == {"data-live": None}
    assert "Grid of samples at step 0" in {attrs.get("alt") for attrs in told(begun, "img")}
    assert any("real pictures that the model learns from" in (attrs["alt"] or "") for attrs in told(begun, "img"))
    assert "It is at step 3." in third.text
    assert "Next:" not in third.text
    assert "Grid of samples at step 6" in {attrs.get("alt") for attrs in told(sixth, "img")}
    ended = Page(tmp_path / "run" / "report.html")
    assert told(ended, "body") == [{}]
    assert "It finished" in ended.text


def test_a_report_of_a_training_that_goes_on_takes_no_more_than_its_share_of_the_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gankit.builtin import artifacts

    now, cost, written = [0.0], 0.5, []

    def write(run: Run, live: bool) -> None:
        written.append(now[0])
        now[0] += cost

    monkeypatch.setattr(artifacts, "perf_counter", lambda: now[0])
    monkeypatch.setattr("gankit.report.write_report", write)
    (run.folder / "real.png").write_bytes(grid(1.0))
    report = artifacts.Report(artifacts.Options(), run)
    for second in range(200):  # a sample each second
        now[0] = max(now[0], second)
        report.sampled(second, run.folder)
    assert written[0] == 0
    assert all(later - earlier - cost >= cost / 0.02 for earlier, later in pairwise(written))
    assert len(written) >= 7
    written.clear()
    for second in range(1000, 1200, 10):  # lines only
        now[0] = second
        report.line({})
    assert written == [1000, 1070, 1140]


def test_a_disk_that_is_full_in_between_leaves_the_report_of_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from gankit.builtin.artifacts import Options, Report

    def full(run: Run, live: bool = False) -> None:
        raise UserError("report.html cannot be written")

    artifact = Report(Options(), run)
    with monkeypatch.context() as patch:
        patch.setattr("gankit.report.write_report", full)
        with pytest.raises(UserError):  # the recorder names it and asks again
            artifact.sampled(8000, run.folder)
    assert not run.report_path.exists()
    assert artifact.finish() == run.report_path


# As a table, and in TensorBoard.

ALARMING = """
import gankit

class Alarming(gankit.Diagnostic):
    name, every = "alarming", 2

    def read(self, snapshot):
        alarm = gankit.Alarm("looked", "warning", f"at step {snapshot.number}")
        return gankit.Reading({"twice": 2 * snapshot.number}, [alarm])

@gankit.hookimpl
def gankit_diagnostics():
    return [Alarming]
"""


def test_metrics_csv_is_metrics_jsonl_as_one_table_after_a_resume_as_well(
    gankit: Gankit, tmp_path: Path, undrawn: None
) -> None:
    (tmp_path / "alarming.py").write_text(ALARMING)
    begun = (*TINY, "--artifact", "csv", "--diagnostic", "alarming")
    assert gankit("run", "began", *begun, "--plugin", "alarming.py", "--out", "run").code == 0
    assert gankit("resume", "run", "--plugin", "alarming.py", "--steps", 8).code == 0
    with open("run/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = Run("run").metrics()
    assert len(rows) == len(lines) == 8
    assert [row["alarming/twice"] for row in rows] == ["", "4.0", "", "8.0", "", "12.0", "", "16.0"]
    told = [{name: float(cell) for name, cell in row.items() if cell} for row in rows]
    assert told == [{name: value for name, value in line.items() if value is not None} for line in lines]


def test_tensorboard_has_every_line_grid_and_alarm_once_and_a_return_is_a_curve_of_its_own(
    gankit: Gankit, tmp_path: Path, undrawn: None
) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    (tmp_path / "alarming.py").write_text(ALARMING)
    plugin = ("--plugin", "alarming.py")

    def read(attempt: int = 1) -> Any:
        folder = tmp_path / "run" / "tensorboard" / f"attempt-{attempt}"
        return reading.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()

    begun = (*TINY, *plugin, "--diagnostic", "alarming", "--sample-every", 2, "--artifact", "tensorboard")
    assert gankit("run", "began", *begun, "--steps", 3, "--out", "run").code == 0
    assert gankit("resume", "run", *plugin, "--steps", 6).code == 0
    run, events = Run("run"), read()
    lines = run.metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    names = {name for line in lines for name in line} - {"step"}
    assert {"began/k", "loss/generator", "energy/real", "learning_rate/discriminator"} <= names
    assert set(events.Tags()["scalars"]) == names
    for name in names:
        scalars = [(event.step, event.value) for event in events.Scalars(name)]
        assert scalars == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line]
    drawn = {event.step: event for event in events.Images("samples")}
    assert {step for step, _ in run.samples()} == set(drawn) == {0, 2, 3, 4, 6}
    assert (drawn[6].width, drawn[6].height) == (8 * 18 + 2, 8 * 18 + 2)
    alarms = events.Tensors("alarms/alarming/text_summary")
    assert [event.step for event in alarms] == [2, 4, 6]
    assert b"at step 4" in alarms[1].tensor_proto.string_val[0]

    assert gankit("resume", "run", *plugin, "--steps", 4, "--from", 3, "--set", "gamma=0.9").code == 0
    assert [event.step for event in read().Scalars("began/k")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in read(2).Scalars("began/k")] == [4]


@pytest.mark.parametrize("asked", [("run", "began"), ("compare", "began", "ebgan")])
def test_tensorboard_that_is_not_installed_is_refused_before_anything_is_written(
    asked: tuple[str, ...], gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gankit.builtin import artifacts

    monkeypatch.setattr(artifacts, "find_spec", lambda name: None)
    said = gankit(*asked, *TINY, "--artifact", "tensorboard", "--out", "out")
    refused(said, "--artifact tensorboard", "pip install 'gankit[tensorboard]'")
    assert not (tmp_path / "out").exists()


# The whole command line.


def test_importing_the_report_imports_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "PIL", "matplotlib", "plotly", "jinja2", "imageio"]
    code = f"import gankit.report, sys; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_drawing_needs_no_torch(run: Run) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from gankit import Run; from gankit.report import *\n"
        "run = Run(sys.argv[1]); draw_losses(run); animate(run, frames=2); print(write_report(run))"
    )
    subprocess.run([sys.executable, "-c", code, str(run.folder)], check=True, capture_output=True)
