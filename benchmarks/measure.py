"""Compares the samples of runs with their training pictures: the tables of docs/evidence.

    python benchmarks/measure.py RUN... [--step N]... [--n 2000] [--raw|--bare-statistics]
                                 [--plugin FILE]...

A row for every checkpoint. The first row gives the scale: one half of the training pictures against the other half.

precision, recall, coverage  Naeem et al. 2020, k = 5, of `n` samples against `n` training pictures, by the pixels
                             averaged to 16×16 and by all pixels; `gankit evaluate` takes held-out ones
grain, flat, ground, fine    gankit/metrics/cleanliness.py, over the real pictures' own: 1 is right
KID                          by EfficientNet-Lite0 where it is installed, against the held-out pictures
copies                       as `gankit evaluate` counts them, near copies too (gankit/trained/memorisation.py)

`--raw` takes the bare generator and not the averaged one, `--bare-statistics` the averaged weights with the batch
statistics of the bare generator (`gankit.training.pictures.Showing.settle` says why they are not shown).
"""

from __future__ import annotations

import click
from torch import Tensor

from gankit import Run
from gankit.catalogue import Catalogue
from gankit.metrics import cleanliness
from gankit.metrics.distances import kernel_distance
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import neighbours
from gankit.metrics.spaces import Space, deep
from gankit.trained.evaluation import NEIGHBOURS, SIDE
from gankit.trained.memorisation import copies
from gankit.trained.real_and_generated import Real, generated, open_for
from gankit.trained.sampling import rebuild

HEAD = (
    "run", "step", "16×16: precision", "recall", "coverage", "all pixels: precision", "recall", "coverage",
    "grain", "flat", "ground", "fine", "KID", "copies",
)  # fmt: skip


class Table:
    """Training and held-out pictures, with values that are computed once."""

    def __init__(self, train: Real, held_out: Real, n: int, space: Space) -> None:
        self.train, self.held_out, self.real, held = train, held_out, train[:n], held_out[: len(held_out)]
        self.space, self.features = space, space.features(held)
        self.colour = cleanliness.ground_colour(cleanliness.edge(self.real))
        self.clean = cleanliness.cleanliness(self.real, self.colour)

    def row(self, samples: Tensor, half: int | None = None) -> str:
        """The cells after run and step; with `half` only of the first so many training pictures."""
        real = self.real if half is None else self.train[:half]
        cells: list[str] = []
        for by in (lambda some: pixels(some, SIDE), lambda some: some.flatten(1)):
            found = neighbours(by(real), by(samples), NEIGHBOURS)
            cells += [f"{value:.3f}" for value in (found.precision, found.recall, found.coverage)]
        clean = cleanliness.over_real(cleanliness.cleanliness(samples, self.colour), self.clean)
        cells += [f"{clean[name].value:.2f}" if name in clean else "–" for name in ("grain", "flat", "ground", "fine")]
        cells.append(f"{kernel_distance(self.features, self.space.features(samples)).value:.3f}")
        found = copies(samples, self.train, self.held_out, half or len(self.train), len(self.held_out))
        return " | ".join([*cells, f"{found.share:.3f}"])


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--step", "steps", type=int, multiple=True, help="Of these checkpoints alone.")
@click.option("--n", default=2000, show_default=True, help="Pictures of each side, at most those trained on.")
@click.option("--raw", is_flag=True, help="Of the bare generator.")
@click.option("--bare-statistics", is_flag=True, help="Of the bare generator, for the averaged weights.")
@click.option("--plugin", "plugins", multiple=True, help="What the runs were made with.")
def main(
    runs: tuple[str, ...], steps: tuple[int, ...], n: int, raw: bool, bare_statistics: bool, plugins: tuple[str, ...]
) -> None:
    data = open_for(rebuild(Run(runs[0]), plugins=plugins), None, Catalogue(plugins))
    train, held_out = Real(data.train), Real(data.held_out)
    table = Table(train, held_out, min(n, len(train)), deep(data.shape[0]))
    half = min(n, len(train) // 2)
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    print(f"| real against real, {half:,} | | {table.row(train[half : 2 * half], half)} |", flush=True)
    for name in runs:
        run = Run(name)
        for step in run.checkpoints():
            if step in steps or (step and not steps):
                rebuilt = rebuild(run, step, plugins, averaged=not raw)
                if bare_statistics:
                    bare = rebuild(run, step, plugins, averaged=False).networks["generator"]
                    rebuilt.networks["generator"].load_state_dict(dict(bare.named_buffers()), strict=False)
                samples = generated(rebuilt, data, n)
                print(f"| {run.folder.name} | {step:,} | {table.row(samples)} |", flush=True)


if __name__ == "__main__":
    main()
