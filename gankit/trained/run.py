"""A run for users: its folder, new samples, and its last samples in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gankit.runs.folder import RunFolder
from gankit.runs.overview import standing_for


class Run(RunFolder):
    """A run folder: its settings, metrics, samples and checkpoints. Shows its last samples in a notebook."""

    def __init__(self, folder: str | Path) -> None:
        """`folder`: that of a run, or `last`: the newest one below runs/."""
        super().__init__(standing_for(folder))

    def sample(self, n: int = 64, seed: int = 0, plugins: Sequence[str] = ()) -> Any:
        """`n` pictures of the averaged generator, a float tensor (n, C, S, S) in [-1, 1]; or points (n, D).

        `plugins`: those of the run, as for `gankit.run`.
        """
        from gankit.trained.sampling import sample  # it imports torch, which reading a run does not need

        return sample(self, n, seed=seed, plugins=plugins)

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
