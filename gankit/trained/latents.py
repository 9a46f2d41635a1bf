"""Latents of real pictures, and interpolation between latents: section 4.3 of the BEGAN paper, from memory.

The paper maps a picture x to z_r by minimising e_r = |x − G(z_r)| with Adam, and interpolates linearly in z.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gankit.data.batches import seed_of, to_float
from gankit.errors import UserError
from gankit.trained.sampling import BATCH, Rebuilt
from gankit.training.state import LOOKING

# Measured on eight illustrations (BEGAN 32×32, 8,000 steps): mean error 0.272 with one start and 100 steps, 0.262 with
# 4 and 100, 0.259 with 1 and 300, 0.254 with 4 and 300, 0.253 with 8 and 1000.
STARTS, STEPS = 4, 300
RATE = 0.1  # Adam's initial learning rate; it falls to 0 along a cosine
ROWS = 8  # random pairs of an interpolation
DRAWS = 4096  # latents that determine the range of the model's latents


@dataclass(frozen=True)
class Inversion:
    """The latents of n pictures. Errors are means of |·| over the values of pictures in [-1, 1]: 0 to 2."""

    pictures: Tensor  # x: (n, 3, S, S) in [-1, 1]
    z: Tensor  # (n, N_z), of the best start
    generated: Tensor  # G(z), clipped to [-1, 1]
    errors: Tensor  # (n, starts), |x − G(z)| of every start
    reconstructed: Tensor | None  # D(x), if D is an autoencoder of its input
    reconstruction_error: Tensor | None  # (n,), |x − D(x)|

    @property
    def error(self) -> Tensor:
        """(n,), |x − G(z)| of the best start."""
        return self.errors.amin(1)


def invert(
    rebuilt: Rebuilt, pictures: Tensor, starts: int = STARTS, steps: int = STEPS, seed: int = 0, rate: float = RATE
) -> Inversion:
    """The z with the smallest mean |x − G(z)| for each picture (n, 3, S, S) in [-1, 1], and D's reconstruction of x.

    Adam moves `starts` latents of the model, drawn by `seed`, for `steps` steps, and the best one wins. All pictures
    have the same starts, so a picture's result depends on no other picture. After each step z is clipped to the range
    of the model's own latents ([−1, 1] for the paper's z ~ U[−1, 1]), because the generator has not learnt others.
    Raises `UserError` if G does not generate square colour pictures, or needs a class besides z.
    """
    refuse_uncoloured(rebuilt)
    if conditional(rebuilt):
        raise UserError(
            f"{rebuilt.run.folder}: its generator is told a class besides z, and a picture's class is not looked for; "
            "invert pictures with a run whose generator has no classes"
        )
    x = pictures.to(rebuilt.device)
    with rebuilt.stream(seed):
        begin = rebuilt.latents(starts)
        box = rebuilt.latents(DRAWS)
        low, high = torch.minimum(box.amin(0), begin.amin(0)), torch.maximum(box.amax(0), begin.amax(0))
        together = max(1, BATCH // starts)
        results = [_descend(rebuilt, part, begin, steps, rate, low, high) for part in x.split(together)]
        z, errors = (torch.cat(parts) for parts in zip(*results, strict=True))
        best = z[torch.arange(len(x), device=x.device), errors.argmin(1)]
        with torch.no_grad():
            generated = rebuilt.generate(best, no_class(rebuilt, len(x))).clamp(-1, 1)
        reconstructed, reconstruction_error = _reconstruction(rebuilt, x)
    return Inversion(pictures, best.cpu(), generated.cpu(), errors.cpu(), reconstructed, reconstruction_error)


def _descend(
    rebuilt: Rebuilt, x: Tensor, begin: Tensor, steps: int, rate: float, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """The final z (n, starts, N_z) and error (n, starts) of every start for the pictures x."""
    n, starts = len(x), len(begin)
    target = x.repeat_interleave(starts, 0)
    labels = no_class(rebuilt, len(target))
    z = begin.repeat(n, 1).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.enable_grad():
            # A sum over the items, so that a start's gradient does not depend on their number.
            loss = (rebuilt.generate(z, labels) - target).abs().flatten(1).mean(1).sum()
            (z.grad,) = torch.autograd.grad(loss, [z])
        optimizer.step()
        with torch.no_grad():
            z.copy_(z.clamp(low, high))
    z = z.detach()
    with torch.no_grad():
        errors = _error(rebuilt.generate(z, labels).clamp(-1, 1), target)
    return z.view(n, starts, -1), errors.view(n, starts)


def interpolate(rebuilt: Rebuilt, a: Tensor, b: Tensor, frames: int) -> Tensor:
    """G(z) on the straight line from each z of `a` (n, N_z) to that of `b`: (n, frames, C, S, S) in [-1, 1].

    The frames include both ends. With classes, row i has class i, as in `gankit sample`. Raises `UserError` for a run
    of points.
    """
    refuse_points(rebuilt)
    rebuilt.refuse_many(len(a) * frames)
    a, b = a.to(rebuilt.device), b.to(rebuilt.device)
    share = torch.linspace(0, 1, frames, device=a.device)[None, :, None]
    z = torch.lerp(a[:, None], b[:, None], share)
    labels = rebuilt.labels(len(a))
    with rebuilt.stream(0), torch.no_grad():
        pictures = rebuilt.generate(z.flatten(0, 1), None if labels is None else labels.repeat_interleave(frames))
    return pictures.clamp(-1, 1).cpu().unflatten(0, (len(a), frames))


def random_pairs(rebuilt: Rebuilt, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n pairs of the model's latents: two tensors (n, N_z)."""
    with rebuilt.stream(seed):
        a, b = rebuilt.latents(2 * n).chunk(2)
    return a, b


def ways(
    rebuilt: Rebuilt,
    between: Sequence[tuple[str | Path, str | Path]],
    mirror: Sequence[str | Path],
    frames: int,
    seed: int,
    tell: Callable[[Inversion, list[str]], None] = lambda inversion, names: None,
) -> tuple[Tensor, Tensor | None]:
    """Interpolations (rows, frames, C, S, S) between pairs of pictures and from pictures to their mirror images.

    Second, these pictures (rows, 2, C, S, S). Without any the ends are ROWS random pairs, and there are no pictures.
    `tell` receives the inversion of the pictures, and their names.
    """
    if not between and not mirror:
        return interpolate(rebuilt, *random_pairs(rebuilt, ROWS, seed), frames), None
    files = [path for pair in between for path in pair]
    pictures = mirrored(read_pictures(rebuilt, [*files, *mirror]), len(mirror))
    inversion = invert(rebuilt, pictures, seed=seed)
    tell(inversion, [*map(str, files), *(end for path in mirror for end in (str(path), f"{path}, mirrored"))])
    a, b = inversion.z.unflatten(0, (-1, 2)).unbind(1)
    return interpolate(rebuilt, a, b, frames), pictures.unflatten(0, (-1, 2))


def read_pictures(rebuilt: Rebuilt, paths: Sequence[str | Path]) -> Tensor:
    """Picture files with the run's size, fit and background: (n, 3, S, S) in [-1, 1].

    Raises `UserError` for a file without a usable picture, and if the run does not generate square colour pictures.
    """
    from gankit.data import decode
    from gankit.data.colour import Unusable
    from gankit.data.source import Request

    refuse_uncoloured(rebuilt)
    config = rebuilt.config
    request = Request(rebuilt.model.shape[-1], config.fit, config.background_rgb)
    read = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's: `decode` handles their causes
        for path in paths:
            file = Path(os.path.expanduser(path))
            if not file.exists():
                raise UserError(f"there is no file {path}: give a picture file (PNG, JPEG, WebP, GIF, BMP or TIFF)")
            if file.is_dir():
                raise UserError(f"{path} is a folder: give the picture files themselves, such as {path}/*.png")
            try:
                read.append(torch.from_numpy(decode.read(file, request)[0].copy()))
            except Unusable as reason:
                raise UserError(f"{path}: {reason}; give a PNG, JPEG, WebP, GIF, BMP or TIFF picture") from None
    return to_float(torch.stack(read))


def mirrored(pictures: Tensor, last: int) -> Tensor:
    """The pictures, with each of the last `last` followed by its mirror image, left to right."""
    head, tail = pictures[: len(pictures) - last], pictures[len(pictures) - last :]
    return torch.cat([head, torch.stack([tail, tail.flip(-1)], 1).flatten(0, 1)])


def refuse_points(rebuilt: Rebuilt) -> None:
    """Raise `UserError` unless the run generates pictures."""
    if not rebuilt.makes_pictures:
        raise UserError(f"{rebuilt.run.folder} makes points, not pictures: give a run that was trained on pictures")


def refuse_uncoloured(rebuilt: Rebuilt) -> None:
    """Raise `UserError` unless the run generates square colour pictures, as picture files are read."""
    refuse_points(rebuilt)
    shape = rebuilt.model.shape
    if shape[0] != 3 or shape[1] != shape[2]:
        raise UserError(
            f"{rebuilt.run.folder} makes items of shape {shape}: give a run of square colour pictures (3, S, S)"
        )


def conditional(rebuilt: Rebuilt) -> bool:
    """Whether the class changes G(z)."""
    with rebuilt.stream(0):
        z = rebuilt.latents(1)
    return told_apart(rebuilt, lambda labels: rebuilt.generate(z.expand(len(labels), -1), labels))


def told_apart(rebuilt: Rebuilt, given: Callable[[Tensor], Tensor]) -> bool:
    """Whether any class changes what `given` makes of labels (n,) and n equal items.

    All classes are tried: one without a picture in the data has learnt nothing of its own.
    """
    classes = len(rebuilt.model.classes)
    if classes < 2:
        return False

    def made(labels: Tensor) -> Tensor:
        with rebuilt.stream(0), torch.no_grad():  # one stream, for a network that draws random numbers
            return given(labels)

    first: dict[int, Tensor] = {}  # of the first class, by the number of items
    for labels in torch.arange(classes, device=rebuilt.device).split(BATCH):
        n = len(labels)
        if n not in first:
            first[n] = made(torch.zeros_like(labels))
        if not torch.equal(made(labels), first[n]):
            return True
    return False


def no_class(rebuilt: Rebuilt, n: int) -> Tensor | None:
    """Labels for a generator that ignores them."""
    return torch.zeros(n, dtype=torch.long, device=rebuilt.device) if rebuilt.model.classes else None


def _reconstruction(rebuilt: Rebuilt, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """D(x) and its error, or None and None if D's output has not the shape of x."""
    if rebuilt.view.together > 1:
        return None, None
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, LOOKING))  # for a random view
        seen = rebuilt.view(x)
        output = torch.cat([rebuilt.judge(some, no_class(rebuilt, len(some))).output for some in seen.split(BATCH)])
    if output.shape != x.shape or seen.shape != x.shape:
        return None, None
    output = output.clamp(-1, 1)
    return output.cpu(), _error(output, seen).cpu()


def _error(output: Tensor, x: Tensor) -> Tensor:
    """The mean |output − x| of each item, (n,)."""
    return (output - x).abs().flatten(1).mean(1)
