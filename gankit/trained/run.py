"""A run for users: its folder, new samples, and its last samples in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

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

        return sample(self, n, seed=seed, step=from_step, plugins=plugins)

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

        return evaluate(self, data=data, step=from_step, n=n, averaged=not raw, fid=fid, plugins=plugins)

    def invert(
        self,
        images: Sequence[str | Path],
        *,
        starts: int = 4,
        steps: int = 300,
        seed: int = 0,
        plugins: Sequence[str] = (),
        from_step: int | Literal["best"] | None = None,
    ) -> Any:
        """The latents whose pictures are nearest to the picture files `images`.

        The result has `z` (n, N_z), `generated` (n, 3, S, S) in [-1, 1] and `error` (n,), the mean |x − G(z)|.
        """
        from gankit.trained.latents import invert, read_pictures

        rebuilt = self._rebuilt(from_step, plugins)
        return invert(rebuilt, read_pictures(rebuilt, images), starts, steps, seed)

    def interpolate(
        self,
        *,
        frames: int = 9,
        between: Sequence[tuple[str | Path, str | Path]] = (),
        mirror: Sequence[str | Path] = (),
        seed: int = 0,
        plugins: Sequence[str] = (),
        from_step: int | Literal["best"] | None = None,
    ) -> Any:
        """Pictures on straight lines between latents, a float tensor (rows, frames, C, S, S) in [-1, 1].

        The ends are eight random pairs; or the latents of pairs of picture files, `between`, and of picture files and
        their mirror images, `mirror`.
        """
        from gankit.trained.latents import ways

        return ways(self._rebuilt(from_step, plugins), between, mirror, frames, seed)[0]

    def animate(self, out: str | Path | None = None, *, scale: int | None = None, smooth: bool = False) -> Path:
        """Write the samples as a .gif or .mp4, by default animation.gif in the run; return its path."""
        from gankit.report import animate

        return animate(self, Path(out) if out else None, scale=scale, smooth=smooth)

    def report(self) -> Path:
        """Rewrite losses.png and report.html; return the latter's path."""
        from gankit.report import draw_losses, write_report
        from gankit.trained.memorisation import draw_neighbours

        if self.has_metrics():
            draw_losses(self)
        draw_neighbours(self)
        return write_report(self)

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

        return write_shared(self, Path(out) if out else None, from_step, plugins, credit, full).path

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

        return export(self, Path(out) if out else None, from_step, plugins, credit)

    def _rebuilt(self, step: int | Literal["best"] | None, plugins: Sequence[str]) -> Any:
        from gankit.device import choose_device
        from gankit.trained.sampling import rebuild

        return rebuild(self, step, plugins, choose_device("auto"))

    def __dir__(self) -> list[str]:
        return [*PUBLIC]

    def __repr__(self) -> str:
        result = self.result
        state = f"{result['outcome']} at step {result['steps']}" if result else "not ended"
        return f"Run({str(self.folder)!r}: {self.config['model']['name']}, {state})"

    def _repr_html_(self) -> str:
        samples = self.samples()
        if not samples:
            return f"<p>{self!r}: no samples yet</p>"
        step, path = samples[-1]
        picture = base64.b64encode(self.read(path)).decode()
        return (
            f'<figure><img alt="samples at step {step}" style="image-rendering:pixelated;min-width:512px" '
            f'src="data:image/png;base64,{picture}"><figcaption>{self!r}</figcaption></figure>'
        )
