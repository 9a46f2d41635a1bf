"""Shared by all tests: a private cache, a private folder, and `gankit` as a user types it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from gankit.testing import plugin
from gankit.testing.plugin import Said

os.environ.setdefault("OMP_NUM_THREADS", "1")  # results are equal to the bit for one number of threads

# The fixtures of gankit's pytest plugin, even if this checkout was installed before they existed.
gankit_cache, gankit_cli, gankit_training = plugin.gankit_cache, plugin.gankit_cli, plugin.gankit_training

ROOT = Path(__file__).parents[1]
STRANGER = ROOT / "tests" / "stranger"  # a plugin package as somebody else writes it

# A training that takes a tenth of a second, on pictures that gankit draws itself.
DATA = ("--data", "demo:120", "--image-size", "16", "--batch-size", "4", "--precision", "fp32")
SMALL = ("--set", "filters=4", "--set", "latent=8")
TINY = (*DATA, *SMALL, "--steps", "6", "--log-every", "1")
CLOCK = ("seconds", "images_per_second")  # the only metrics that the clock decides


@pytest.fixture(scope="session", autouse=True)
def _isolated(gankit_cache: Path) -> None:
    """A cache for this session, and none of the user's environment."""


Gankit = Callable[..., Said]


@pytest.fixture
def gankit(gankit_cli: Gankit) -> Gankit:
    """The command line in this process, in an empty folder; an uncaught error fails the test."""
    return gankit_cli


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out losses.png, animation.gif and report.html, which take longer than the tiny trainings."""
    draw_nothing(monkeypatch)


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """See `undrawn`."""
    from gankit.builtin import artifacts

    for artifact in (artifacts.Losses, artifacts.Animation, artifacts.Report):
        patch.setattr(artifact, "finish", lambda self: None)
    patch.setattr(artifacts.Report, "refresh", lambda self: None)


def process(*arguments: object, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """Start `gankit` as a separate process."""
    return subprocess.Popen(
        [sys.executable, "-m", "gankit", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def strict_json(text: str) -> Any:
    """Parse strict JSON, without NaN and Infinity."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


def read(path: Path) -> Any:
    """A file of one JSON object."""
    return strict_json(path.read_text(encoding="utf-8"))


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; the last line must be whole too."""
    text = (run / name).read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [strict_json(line) for line in text.splitlines()]


def timeless(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the metrics of the clock."""
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines(run)]


def weights(run: Path, step: int) -> dict[str, bytes]:
    """The tensors' files of a checkpoint, byte for byte."""
    files = sorted((run / "checkpoints" / f"{step:06d}").glob("*.safetensors"))
    assert files
    return {file.name: file.read_bytes() for file in files}


def checkpoints(run: Path) -> list[int]:
    """The steps that have a checkpoint."""
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with a hash of what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def refused(said: Said, *words: str) -> None:
    """A refused request: exit code 2 and one line on stderr with the words, nothing else."""
    assert said.code == 2
    (line,) = said.err.splitlines()
    assert line.startswith("gankit: ")
    assert "Traceback" not in said.out
    for word in words:
        assert word in line


def quietly(*arguments: object, cwd: Path) -> int:
    """The command line in this process, for fixtures that outlive a test; returns the exit code."""
    from gankit.cli import main

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["gankit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of BEGAN with everything drawn. It is shared: copy it before you change it."""
    folder = tmp_path_factory.mktemp("finished")
    options = ("--steps", 8, "--sample-every", 4, "--checkpoint-every", 2)
    # k reaches 1 within the eight steps: untrained pictures that are linear have the lower energy.
    moving = ("--set", "lambda_k=0.3", "--set", "gamma=0.9", "--set", "edges=0")
    moving += ("--set", "strided-autoencoder.output=linear")
    assert quietly("run", "began", *TINY, *options, *moving, "--out", "run", cwd=folder) == 0
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the whole run, in the test's own folder, which the test may change."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


# A comparison.

COMPARED = (  # the request of the shared comparison
    *("began:lambda_k=0.1", "ebgan", "--seeds", "1", "--samples", "50"),
    *("--data", "demo:200", "--image-size", "16", "--batch-size", "4", "--precision", "fp32", *SMALL),
    *("--steps", "60", "--log-every", "1", "--sample-every", "10", "--checkpoint-every", "5"),
)


class InProcess:
    """Stands for `subprocess.Popen`: the same command line, in this process, where torch is imported already."""

    def __init__(self, command: list[str], **_: Any) -> None:
        self.returncode = quietly(*command[4:], cwd=Path.cwd())

    def poll(self) -> int:
        return self.returncode


def with_few(patch: pytest.MonkeyPatch) -> None:
    """Comparisons whose runs stay in this process, and whose features cost nothing."""
    from gankit.metrics.features import pixels
    from gankit.metrics.spaces import Space
    from gankit.runs import launch as work
    from gankit.trained import evaluation

    patch.setattr(work, "Popen", InProcess)
    patch.setattr(evaluation, "deep", lambda channels: Space("pixels-4", lambda some: pixels(some, 4)))


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole comparison of two models with everything drawn. It is shared: copy it before you change it."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        with_few(patch)
        assert quietly("compare", *COMPARED, "--out", "c", cwd=folder) == 0
    return folder / "c"


# A sweep.

GOAL = ("--goal", "min:began/convergence")  # a few steps have no score above 0
SWEPT = ("began", *DATA, *SMALL, "--steps", "6", "--log-every", "1", *GOAL)


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole sweep of four trials, two seeds each. It is shared: copy it before you change it."""
    folder = tmp_path_factory.mktemp("swept")
    vary = ("--vary", "gamma=0.3,0.7", "--vary", "learning_rate=1e-4,1e-3")
    with pytest.MonkeyPatch.context() as patch:
        with_few(patch)
        draw_nothing(patch)
        assert quietly("sweep", *SWEPT, *vary, "--seeds", 2, "--out", "s", cwd=folder) == 0
    return folder / "s"
