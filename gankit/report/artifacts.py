"""What the core draws at the end of every run."""

from __future__ import annotations

from pathlib import Path

from gankit.components import Artifact


class Losses(Artifact):
    """losses.png: losses and energies, controllers, learning rates."""

    name = "losses"
    summary = "losses.png: losses, energies, controllers and learning rates over the steps"

    def finish(self) -> Path | None:
        from gankit.report import draw_losses

        return draw_losses(self.run) if self.run.metrics() else None


class Animation(Artifact):
    """animation.gif: the sample grids, one after the other."""

    name = "animation"
    summary = "animation.gif: the same latents over the steps"

    def finish(self) -> Path | None:
        from gankit.report import animate

        return animate(self.run) if self.run.samples() else None


class Report(Artifact):
    """report.html: the whole run in one file. It comes last, since it shows the others."""

    name = "report"
    summary = "report.html: the run in one self-contained page"

    def finish(self) -> Path | None:
        from gankit.memorisation import draw_neighbours
        from gankit.report import write_report

        try:
            draw_neighbours(self.run)
        finally:
            path = write_report(self.run)
        return path
