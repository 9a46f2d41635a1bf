"""Does the measure `copies` find copies, and does it leave other samples alone?

    python benchmarks/copies.py FOLDER [--size 32] [--n 2000]

40 % of the folder's pictures are held out: half of them for the measure, the other half are the good samples, which
are no copies. Copies of training pictures replace 1, 5 and 30 % of the samples. They are exact, noisy, shifted, of
other brightness, contrast or colour, blurred, or mirrored; the last are searched as in a run with `--mirror`. The
other samples are the good pictures (drawn again and again if there are fewer than `n`), means of two of them, the same
blurred, or uniform noise.

A cell has the measured share, and * where its interval lies above that of the held-out pictures: "some are copies".
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import adjust_hue

from gankit.catalogue import Catalogue
from gankit.data.open import open_source
from gankit.data.source import Request
from gankit.trained.memorisation import Copies, copies
from gankit.trained.real_and_generated import Real

SHARES = (0.0, 0.01, 0.05, 0.3)
STREAM = torch.Generator().manual_seed(0)


def noisy(pictures: Tensor, of_255: float) -> Tensor:
    return (pictures + torch.randn(pictures.shape, generator=STREAM) * of_255 / 127.5).clamp(-1, 1)


def shifted(pictures: Tensor, right: int, down: int) -> Tensor:
    margin, side = max(abs(right), abs(down)), pictures.shape[-1]
    wide = F.pad(pictures, (margin,) * 4, mode="replicate")
    return wide[..., margin - down : margin - down + side, margin - right : margin - right + side]


def blurred(pictures: Tensor, size: int) -> Tensor:
    return F.avg_pool2d(F.pad(pictures, (size // 2,) * 4, mode="replicate"), size, 1)


COPIES: dict[str, Callable[[Tensor], Tensor]] = {
    "exact": lambda x: x,
    "noise, σ 4 of 255": lambda x: noisy(x, 4),
    "noise, σ 8": lambda x: noisy(x, 8),
    "noise, σ 13": lambda x: noisy(x, 13),
    "shifted by 1 pixel": lambda x: shifted(x, 1, 0),
    "shifted by 2 and 2": lambda x: shifted(x, 2, -2),
    "shifted, and noise of σ 4": lambda x: noisy(shifted(x, -1, 2), 4),
    "darker, less contrast": lambda x: x * 0.8 - 0.1,
    "a cast of colour": lambda x: x * 0.8 + torch.tensor([0.15, 0.0, -0.15])[: x.shape[1]].view(-1, 1, 1),
    "another hue": lambda x: adjust_hue((x + 1) / 2, 0.3) * 2 - 1,
    "blurred, 3×3": lambda x: blurred(x, 3),
    "mirrored": lambda x: x.flip(3),
    "mirrored and shifted": lambda x: shifted(x.flip(3), 1, 1),
}


def row(title: str, found: list[Copies]) -> str:
    cells = [f"{one.share:.3f}{'*' * one.beyond_chance}" for one in found]
    return f"| {title} | " + " | ".join([*["–"] * (len(SHARES) - len(cells)), *cells]) + " |"


@click.command()
@click.argument("folder")
@click.option("--size", default=32, show_default=True)
@click.option("--n", default=2000, show_default=True, help="Samples.")
def main(folder: str, size: int, n: int) -> None:
    data = open_source(folder, Request(size, holdout=0.4), Catalogue())
    train, rest = Real(data.train), Real(data.held_out)
    half = len(rest) // 2
    held_out = Real(rest.pictures[rest.order[:half]])
    good = rest[half:][torch.arange(n) % (len(rest) - half)]
    means = (good + good[torch.randperm(n, generator=STREAM)]) / 2
    noise = torch.rand(good.shape, generator=STREAM) * 2 - 1
    others = {"good": good, "means of two": means, "blurred, 5×5": blurred(good, 5), "noise": noise}
    copied = train[:n][torch.arange(n) % min(n, len(train))]

    print(f"{len(train):,} training and {len(held_out):,} held-out pictures at {size}×{size}, {n:,} samples\n")
    for mirror in (False, True):
        print(f"With mirrored pictures: {mirror}\n")
        print("| copies | among | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |")
        print("|---|---|" + "---:|" * len(SHARES))
        began = time.perf_counter()
        for kind, change in COPIES.items():
            if kind.startswith("mirrored") is not mirror and kind != "exact":
                continue
            for among, samples in others.items():
                found = []
                for share in SHARES if kind == "exact" or among == "good" else SHARES[2:]:
                    count = round(share * n)
                    mixed = torch.cat([change(copied[:count]), samples[count:]])
                    found.append(copies(mixed, train, held_out, len(train), half, mirror))
                print(row(f"{kind} | {among}", found), flush=True)
        real = found[0].real
        print(f"\nHeld-out pictures themselves: {real:.3f}. {time.perf_counter() - began:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
