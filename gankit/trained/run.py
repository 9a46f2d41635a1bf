"""A run for users: its folder, new samples, and its last samples in a notebook."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from gankit.errors import UserError
from gankit.runs.folder import RunFolder
from gankit.runs.overview import standing_for
from gankit.runs.score import SCORE, recorded

PUBLIC = (
    *("folder", "config", "environment", "data", "result"),
    *("metrics", "alarms", "rescues", "samples", "checkpoints"),
    *("score", "best"),
    *("sample", "evaluate", "invert", "interpolate", "animate", "report", "share", "export"),
)


class Run(RunFolder):
    """A run folder: its settings, metrics, samples and checkpoints. Shows its last samples in a notebook.

    `dir(run)` has the names for users; the others belong to a training.
    """

    def __init__(self, folder: str | Path) -> None:
        """`folder`: that of a run, or `last`: the newest one below runs/."""
        super().__init__(standing_for(folder))

    def score(self, from_step: int | Literal["best"] | None = None) -> float | None:
        """The score in [0, 1] (docs/measures.md) that the training recorded at its last look, or at `from_step`.

        None where it recorded none.
        """
        from_step = _checkpoint(from_step)
        looks = {step: float(line[SCORE]) for step, line in recorded(self.looks()).items()}
        if from_step is None:
            return next(reversed(looks.values()), None)
        step = self.best() if from_step == "best" else from_step
        return None if step is None else looks.get(step)

    # In the words of the commands. They import torch, which reading a run does not need.

    def sample(
        self, n: int = 64, seed: int = 0, plugins: Sequence[str] = (), from_step: int | Literal["best"] | None = None
    ) -> Any:
        """`n` pictures of the averaged generator, a float tensor (n, C, S, S) in [-1, 1]; or points (n, D).

        `from_step`: the checkpoint, or "best"; by default the last. `plugins`: those of the run, as for `gankit.run`.
        """
        from gankit.trained.sampling import sample

        n, seed = _whole("n", n, 1), _whole("seed", seed, 0)
        return sample(self, n, seed=seed, step=_checkpoint(from_step), plugins=plugins)

    def evaluate(
        self,
        data: str | Path | None = None,
        *,
        n: int = 2000,
        raw: bool = False,
        fid: bool = False,
        plugins: Sequence[str] = (),
        from_step: int | Literal["best"] | None = None,
    ) -> Any:
        """Measures of `n` samples against held-out pictures of the run's data, or of `data`.

        The result has `measures` by name (docs/measures.md), each with its `value` and the `ceiling` of real pictures,
        and `notes`. `raw`: of the generator itself, not its average.
        """
        from gankit.trained.evaluation import evaluate

        n, step = _whole("n", n, 20), _checkpoint(from_step)
        return evaluate(self, data=data, step=step, n=n, averaged=not raw, fid=fid, plugins=plugins)

    def invert(
        self,
        images: str | Path | Sequence[str | Path],
        *,
        starts: int = 4,
        steps: int = 300,
        seed: int = 0,
        plugins: Sequence[str] = (),
        from_step: int | Literal["best"] | None = None,
    ) -> Any:
        """The latents whose pictures are nearest to the picture files `images`, or to one file.

        The result has `z` (n, N_z), `generated` (n, 3, S, S) in [-1, 1] and `error` (n,), the mean |x − G(z)|.
        """
        from gankit.trained.latents import invert, read_pictures

        starts, steps, seed = _whole("starts", starts, 1), _whole("steps", steps, 1), _whole("seed", seed, 0)
        files = _files("images", images)
        if not files:
            raise UserError("images is empty: give at least one picture file")
        rebuilt = self._rebuilt(from_step, plugins)
        return invert(rebuilt, read_pictures(rebuilt, files), starts, steps, seed)

    def interpolate(
        self,
        *,
        frames: int = 9,
        between: Sequence[tuple[str | Path, str | Path]] = (),
        mirror: str | Path | Sequence[str | Path] = (),
        seed: int = 0,
        plugins: Sequence[str] = (),
        from_step: int | Literal["best"] | None = None,
    ) -> Any:
        """Pictures on straight lines between latents, a float tensor (rows, frames, C, S, S) in [-1, 1].

        The ends are eight random pairs; or the latents of pairs of picture files, `between`, and of picture files and
        their mirror images, `mirror`.
        """
        from gankit.trained.latents import ways

        frames, seed, alone = _whole("frames", frames, 2), _whole("seed", seed, 0), _files("mirror", mirror)
        pairs = [_pair(pair) for pair in (between if isinstance(between, Iterable) else [between])]
        return ways(self._rebuilt(from_step, plugins), pairs, alone, frames, seed)[0]

    def animate(self, out: str | Path | None = None, *, scale: int | None = None, smooth: bool = False) -> Path:
        """Write the samples as a .gif or .mp4, by default animation.gif in the run; return its path."""
        from gankit.report import animate

        scale = None if scale is None else _whole("scale", scale, 1, 32)
        return animate(self, _place(out), scale=scale, smooth=smooth)

    def report(self, from_step: int | Literal["best"] | None = None) -> Path:
        """Rewrite report.html and its pictures, or as the run was at a checkpoint; return the path of the page."""
        from gankit.report import draw_losses, write_report
        from gankit.report.story import read

        until = None
        if (from_step := _checkpoint(from_step)) is not None:
            from gankit.training.checkpoint import choose

            until = choose(self, from_step)
        story = read(self, until)  # first: many lines and torch's features take much memory, and not at once
        from gankit.trained.memorisation import draw_neighbours, draw_real

        draw_neighbours(self)
        draw_real(self)
        if story.metrics:
            draw_losses(self, story)
        return write_report(self, story=story)

    def share(
        self,
        out: str | Path | None = None,
        *,
        credit: str | None = None,
        full: bool = False,
        plugins: Sequence[str] = (),
        from_step: int | Literal["best"] | None = None,
    ) -> Path:
        """Write one HTML file that draws new pictures by itself, by default share.html in the run; return its path.

        `credit`: a line on who made the real pictures. `full`: weights in single precision, at twice the size.
        Needs gankit[share].
        """
        from gankit.sharing.page import write_shared

        return write_shared(self, _place(out), _checkpoint(from_step), plugins, credit, full).path

    def export(
        self,
        out: str | Path | None = None,
        *,
        credit: str | None = None,
        plugins: Sequence[str] = (),
        from_step: int | Literal["best"] | None = None,
    ) -> Path:
        """Write the networks (ONNX, safetensors) and a model card into a new folder, by default export in the run.

        `credit`: a line on who made the real pictures. Returns the folder's path. Needs gankit[share].
        """
        from gankit.sharing.hub import export

        return export(self, _place(out), _checkpoint(from_step), plugins, credit)

    def _rebuilt(self, step: int | Literal["best"] | None, plugins: Sequence[str]) -> Any:
        from gankit.device import choose_device
        from gankit.trained.sampling import rebuild

        return rebuild(self, _checkpoint(step), plugins, choose_device("auto"))

    def __dir__(self) -> list[str]:
        return [*PUBLIC]

    def __repr__(self) -> str:
        result, model = self.result, self.config.get("model")  # anybody's: a run is handed on
        name = model.get("name") if isinstance(model, Mapping) else None
        state = f"{result.get('outcome')} at step {result.get('steps')}" if result else "not ended"
        return f"Run({str(self.folder)!r}: {name}, {state})"

    def _repr_html_(self) -> str:
        samples = self.samples()
        if not samples:
            return f"<p>{html.escape(repr(self))}: no samples yet</p>"
        step, path = samples[-1]
        picture = base64.b64encode(self.read(path)).decode()
        return (
            f'<figure><img alt="samples at step {step}" style="image-rendering:pixelated;min-width:512px" '
            f'src="data:image/png;base64,{picture}"><figcaption>{html.escape(repr(self))}</figcaption></figure>'
        )


# The ranges of the commands, in the words of Python.


def _whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number in a range, also numpy's. Raises `UserError` for any other value."""
    whole = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if whole is not None and least <= whole <= (most or whole):
        return whole
    bound = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise UserError(f"{name}={value!r}: give a whole number {bound}")


def _checkpoint(step: Any) -> int | Literal["best"] | None:
    if step is None or step == "best":
        return step
    if isinstance(step, str):
        raise UserError(f'from_step={step!r}: give the step of a checkpoint as a number, "best", or None for the last')
    return _whole("from_step", step, 0)


def _files(name: str, files: Any) -> list[str | Path]:
    """The paths of files; one path stands for a list of one."""
    alone = isinstance(files, str | os.PathLike) or not isinstance(files, Iterable)
    paths = [files] if alone else [*files]
    if not all(isinstance(path, str | os.PathLike) for path in paths):
        raise UserError(f"{name}={files!r}: give the path of a picture file, or a list of them")
    return paths


def _pair(pair: Any) -> tuple[str | Path, str | Path]:
    files = [] if isinstance(pair, str | os.PathLike) else _files("between", pair)
    if len(files) != 2:
        raise UserError(f'between has {pair!r}: give pairs of picture files, such as [("a.png", "b.png")]')
    return files[0], files[1]


def _place(out: str | Path | None) -> Path | None:
    return Path(os.path.expanduser(out)) if out else None
