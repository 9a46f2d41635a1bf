"""Trains the discriminator's autoencoder without a generator, for docs/evidence/pictures.md.

    python benchmarks/autoencoder.py DIR [--learning-rate 1e-4]... [--filters 32]... [--latent 128]... [--steps 3000]

A row for each combination: energy of training and held-out pictures, their reconstructions' cleanliness over the real
pictures' own, and KID by EfficientNet-Lite0 against the held-out pictures. Samples can hardly be better than that:
BEGAN's generator learns to draw pictures that D reconstructs. The time is processor time of the training alone.
"""

from __future__ import annotations

import itertools
import time

import click
import torch
from gankit_began.networks import reconstruction_error
from torch import Tensor

from gankit.builtin.networks import StridedAutoencoder
from gankit.catalogue import Catalogue
from gankit.data.batches import to_float
from gankit.data.open import open_source
from gankit.data.source import Request
from gankit.metrics import cleanliness
from gankit.metrics.distances import kernel_distance
from gankit.metrics.spaces import deep
from gankit.trained.real_and_generated import Real

EDGES, BATCH = 2, 16


@click.command()
@click.argument("data")
@click.option("--image-size", default=32, show_default=True)
@click.option("--learning-rate", "rates", type=float, multiple=True, default=(1e-4, 3e-4, 1e-3), show_default=True)
@click.option("--filters", type=int, multiple=True, default=(32,), show_default=True)
@click.option("--latent", "latents", type=int, multiple=True, default=(128,), show_default=True)
@click.option("--steps", default=3000, show_default=True)
def main(
    data: str,
    image_size: int,
    rates: tuple[float, ...],
    filters: tuple[int, ...],
    latents: tuple[int, ...],
    steps: int,
) -> None:
    torch.set_num_threads(1)
    opened = open_source(data, Request(image_size), Catalogue())
    shown, held_out = Real(opened.train)[:1000], Real(opened.held_out)[:1000]
    space = deep(opened.shape[0])
    features = space.features(held_out)
    colour = cleanliness.ground_colour(cleanliness.edge(shown))
    real = cleanliness.cleanliness(shown, colour)
    print("| learning rate | n | N_h | seconds | energy | of held-out | grain | flat | ground | fine | KID |")
    print("|" + "---|" * 11)
    for rate, n, latent in itertools.product(rates, filters, latents):
        torch.manual_seed(0)
        options = StridedAutoencoder.Options(filters=n, latent=latent)
        network = StridedAutoencoder(options).build(opened.shape, opened.shape)["discriminator"]
        network = network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999), fused=True)
        began = time.process_time()
        for _ in range(steps):
            places = torch.randint(len(opened.train), (BATCH,)).numpy()
            x = to_float(torch.from_numpy(opened.train[places]))
            with torch.autocast("cpu", torch.bfloat16):
                judged = network(x)
            judged.output = judged.output.float()
            optimizer.zero_grad()
            reconstruction_error(x, judged, edges=EDGES).mean().backward()
            optimizer.step()
        seconds = time.process_time() - began

        @torch.no_grad()
        def drawn(pictures: Tensor, network: torch.nn.Module = network) -> tuple[Tensor, float]:
            judged = [network(some) for some in pictures.split(100)]
            energies = [
                reconstruction_error(x, one, edges=EDGES) for x, one in zip(pictures.split(100), judged, strict=True)
            ]
            return torch.cat([one.output for one in judged]).clamp(-1, 1), float(torch.cat(energies).mean())

        (made, energy), (_, others) = drawn(shown), drawn(held_out)
        clean = cleanliness.over_real(cleanliness.cleanliness(made, colour), real)
        parts = [f"{clean[name].value:.2f}" if name in clean else "–" for name in ("grain", "flat", "ground", "fine")]
        kid = kernel_distance(features, space.features(made)).value
        cells = [f"{rate:g}", n, latent, f"{seconds:.0f}", f"{energy:.3f}", f"{others:.3f}", *parts, f"{kid:.3f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
