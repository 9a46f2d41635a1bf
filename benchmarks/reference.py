"""The plain loop, the reference of gankit's speed: BEGAN as public implementations train it. Do not make it faster.

Eager float32 in torch's default memory layout; the generator's step, then the discriminator's, with three
discriminator passes in all, D(G(z)), D(x) and D(G(z).detach()); `torch.optim.Adam` with its defaults; `.item()`
of the losses, k and M_global at every step; torchvision's `ImageFolder` and a `DataLoader` with two workers, which
decode, resize and normalise every picture anew each epoch (transparent ones composited on white by the loader).

The networks are plain versions of gankit_began's, with torch's own `F.elu` (gankit's is faster on CPUs): same layers,
same widths. `same_networks` checks that both compute the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

WORKERS = 2
LATENT = 64
GAMMA, LAMBDA_K = 0.5, 0.001


def on_white(path: str) -> Image.Image:
    """The picture, RGB; transparency is white."""
    with Image.open(path) as image:
        layered = image.convert("RGBA")
    page = Image.new("RGBA", layered.size, (255, 255, 255, 255))
    return Image.alpha_composite(page, layered).convert("RGB")


def loader(folder: str, size: int, batch: int) -> DataLoader[Any]:
    """Shuffled batches (B, 3, S, S) in [-1, 1] and labels, of a folder with a subfolder for each class."""
    steps = [
        transforms.Resize(size),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ]
    pictures = ImageFolder(folder, transform=transforms.Compose(steps), loader=on_white)
    return DataLoader(
        pictures, batch_size=batch, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True
    )


def endless(batches: DataLoader[Any]) -> Iterator[Tensor]:
    """Epoch after epoch."""
    for _ in itertools.count():
        for pictures, _ in batches:
            yield pictures


def convolutions(inputs: int, filters: int) -> nn.Sequential:
    """Two 3×3 convolutions with ELU."""
    return nn.Sequential(
        nn.Conv2d(inputs, filters, 3, padding=1), nn.ELU(), nn.Conv2d(filters, filters, 3, padding=1), nn.ELU()
    )


class Decoder(nn.Module):
    """Code (B, 64) -> picture (B, 3, S, S). The generator is one."""

    def __init__(self, size: int, n: int) -> None:
        super().__init__()
        self.n = n
        self.linear = nn.Linear(LATENT, n * 8 * 8)
        scales = (size // 8).bit_length()
        self.blocks = nn.ModuleList(convolutions(2 * n if i else n, n) for i in range(scales))
        self.picture = nn.Conv2d(n, 3, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        h0 = self.linear(code).view(-1, self.n, 8, 8)
        x = self.blocks[0](h0)
        for block in self.blocks[1:]:
            x = F.interpolate(x, scale_factor=2)
            x = block(torch.cat([x, F.interpolate(h0, size=x.shape[-2:])], dim=1))
        return self.picture(x)


class Encoder(nn.Module):
    """Picture (B, 3, S, S) -> code (B, 64)."""

    def __init__(self, size: int, n: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, n, 3, padding=1)
        scales = (size // 8).bit_length() - 1
        self.blocks = nn.ModuleList(convolutions(i * n, i * n) for i in range(1, scales + 1))
        self.wider = nn.ModuleList(nn.Conv2d(i * n, (i + 1) * n, 1) for i in range(1, scales + 1))
        self.linear = nn.Linear((scales + 1) * n * 8 * 8, LATENT)

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.first(x))
        for block, wider in zip(self.blocks, self.wider, strict=True):
            x = wider(F.avg_pool2d(block(x), 2))
        return self.linear(x.flatten(1))


class Discriminator(nn.Module):
    """Picture (B, 3, S, S) -> its reconstruction."""

    def __init__(self, size: int, n: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(size, n), Decoder(size, n)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Loop:
    """The training loop, a step at a time."""

    def __init__(self, folder: str, size: int, n: int, batch: int) -> None:
        self.batch = batch
        self.generator = Decoder(size, n)
        self.discriminator = Discriminator(size, n)
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=1e-4, betas=(0.5, 0.999))
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=(0.5, 0.999))
        self.batches = endless(loader(folder, size, batch))
        self.k = 0.0
        self.log: list[tuple[float, ...]] = []

    def step(self) -> None:
        x = next(self.batches)
        z = torch.rand(self.batch, LATENT) * 2 - 1

        self.optimizer_g.zero_grad()
        fake = self.generator(z)
        loss_g = torch.mean(torch.abs(fake - self.discriminator(fake)))
        loss_g.backward()
        self.optimizer_g.step()

        self.optimizer_d.zero_grad()
        fake = fake.detach()
        loss_real = torch.mean(torch.abs(x - self.discriminator(x)))
        loss_fake = torch.mean(torch.abs(fake - self.discriminator(fake)))
        loss_d = loss_real - self.k * loss_fake
        loss_d.backward()
        self.optimizer_d.step()

        balance = GAMMA * loss_real.item() - loss_fake.item()
        self.k = min(max(self.k + LAMBDA_K * balance, 0.0), 1.0)
        self.log.append((loss_d.item(), loss_g.item(), self.k, loss_real.item() + abs(balance)))


@torch.no_grad()
def written_plainly(networks: Mapping[str, nn.Module], size: int, n: int) -> tuple[Decoder, Discriminator]:
    """These networks with the weights of gankit's (float32, on the CPU); raises if weights are missing."""
    generator, discriminator = Decoder(size, n), Discriminator(size, n)
    for plain, fast in ((generator, networks["generator"]), (discriminator, networks["discriminator"])):
        theirs = dict(fast.named_parameters())
        for name, parameter in plain.named_parameters():
            parameter.copy_(theirs.pop(name_of(name)))
        if theirs:
            raise AssertionError(f"gankit's networks have weights that the reference lacks: {', '.join(theirs)}")
    return generator, discriminator


def name_of(name: str) -> str:
    """gankit's name of a weight: blocks.0.0 here is blocks.0.layers.0 there, and 2, the second of a pair, is 1."""
    head, _, tail = name.partition("blocks.")
    if not tail:
        return name
    block, layer, kind = tail.split(".")
    return f"{head}blocks.{block}.layers.{int(layer) // 2}.{kind}"


@torch.no_grad()
def same_networks(networks: Mapping[str, nn.Module], size: int, n: int) -> None:
    """Raise unless gankit's networks and these compute the same from the same weights."""
    generator, discriminator = written_plainly(networks, size, n)
    z = torch.rand(4, LATENT) * 2 - 1
    fake, fast_fake = generator(z), networks["generator"](z)
    torch.testing.assert_close(fast_fake, fake, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(networks["discriminator"](fake).output, discriminator(fake), rtol=1e-3, atol=1e-4)
