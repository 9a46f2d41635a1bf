"""Loss terms in the code space of a discriminator with an encoder, for any model that they fit.

Two use the encoder as the generator's inverse; two compare the codes of generated and real pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

import gankit
from gankit import LossTerm, Model, Step, UserError
from gankit_began.networks import pixel_error

Chosen = TypeVar("Chosen", bound=gankit.Options)


class LatentClosingOptions(gankit.Options):
    norm: Literal["l1", "l2"] = Field("l1", description="mean absolute difference, or mean Euclidean norm")
    network: Literal["discriminator", "generator"] = Field(
        "discriminator", description="whose loss it is added to; the paper's: discriminator"
    )


class LatentClosing(LossTerm[LatentClosingOptions]):
    """z − Enc(G(z)): the encoder must recover the latents, so that G cannot map all of them to one picture.

    Chang, Lin, Lee, Juan, Wei, Chen 2018, "Escaping from Collapsing Modes in a Constrained Space" (BEGAN-CS, ECCV;
    arXiv 1808.07258): added to the discriminator's loss only, with the weight α = 0.1. The authors' code takes the mean
    of |z − Enc(G(z))| over batch and numbers, the default (l1). The paper, from memory, writes a norm: l2 is the mean
    over the batch of the Euclidean norm, about √N_z times larger. The authors' energy is not BEGAN's mean over pixels
    but a norm of the batch divided by its size, so their α may not fit here.
    """

    name = "latent-closing"
    summary = "the discriminator's encoder must find the latents again (BEGAN-CS; its weight is 0.1)"
    needs = frozenset({"code as wide as the latent"})

    def __init__(self, options: LatentClosingOptions) -> None:
        super().__init__(options)
        self.network = options.network

    def __call__(self, step: Step) -> Tensor:
        """0-dim, from z and codes (B, N_z)."""
        assert step.judged_fake.code is not None
        difference = step.noise - step.judged_fake.code
        return difference.abs().mean() if self.options.norm == "l1" else difference.norm(dim=1).mean()


class ModeRegulariser(LossTerm):
    """|x − G(Enc(x))|, the mean over pixels: the generator must be able to draw every real picture.

    Che, Li, Jacob, Bengio, Li 2016, "Mode Regularized Generative Adversarial Networks" (arXiv 1612.02136), the
    geometric regulariser, with the discriminator's encoder in place of a separate one (from memory). x is the picture
    before the views, Enc(x) the code of the picture after them, so that G need not draw augmented pictures.
    """

    name = "mode-regulariser"
    summary = "the generator must be able to draw the real pictures from their codes (Che et al. 2016)"
    network = "generator"
    needs = frozenset({"code as wide as the latent"})

    def __call__(self, step: Step) -> Tensor:
        """0-dim; one more pass of the generator."""
        assert step.judged_real.code is not None
        drawn = step.redraw(step.judged_real.code, step.labels)
        return (step.real - drawn).abs().mean()


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M) between rows (N, D) and (M, D); the gradient at 0 is 0.

    Unlike `torch.cdist` it has a gradient on every device, and keeps small distances exact.
    """
    return (a[:, None] - b).square().sum(-1).clamp(min=1e-12).sqrt()


def apart(rows: Tensor) -> Tensor:
    """Mean distance over all pairs of different rows (N, D), N ≥ 2: 0-dim."""
    others = 1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return (distances(rows, rows) * others).sum() / (len(rows) * (len(rows) - 1))


def energy_distance(codes: Tensor, real: Tensor) -> Tensor:
    """2 E‖f − r‖ − E‖f − f'‖ − E‖r − r'‖ for `codes` f (N, N_h) and `real` r (M, N_h); N, M ≥ 2.

    0-dim. Székely and Rizzo 2013, "Energy statistics: A class of statistics based on distances", as a U-statistic over
    pairs of different rows: an unbiased estimate, 0 on average for equal distributions, which can be negative.
    """
    return 2 * distances(codes, real).mean() - apart(codes) - apart(real)


class _OfCodes(LossTerm[Chosen]):
    """Base class of terms that compare the codes of the generated batch with those of the real one."""

    network = "generator"
    needs = frozenset({"code"})

    def codes(self, step: Step) -> tuple[Tensor, Tensor]:
        """The codes of the generated batch, and those of the real one, detached: (N, N_h) each, N ≥ 2."""
        assert step.judged_fake.code is not None
        assert step.judged_real.code is not None
        fake, real = step.judged_fake.code.flatten(1), step.judged_real.code.flatten(1).detach()
        if min(len(fake), len(real)) < 2:
            raise UserError(
                f"{self.name} compares the pictures of a batch, and here a batch gives a single code: "
                f"take a larger --batch-size, or leave it out with --loss {self.name}=0"
            )
        return fake, real

    def spread(self, real: Tensor) -> Tensor:
        """Running mean of the distance between two real codes, 0-dim: the unit, which cancels the scale of D's codes.

        One small batch is not enough: with the same picture twice its mean can be 0.
        """
        now = apart(real)
        self.memory["spread"] = self.memory.get("spread", now).lerp(now, 0.01)
        return self.memory["spread"]


class EnergyDistance(_OfCodes[gankit.Options]):
    """The energy distance between the codes of generated pictures and of real ones, on the generator's loss.

    For BEGAN's loss a sample must only be as easy to reconstruct as real pictures, as a few smooth pictures are. This
    term compares the distributions. It pulls equal samples apart as the pulling-away term does, and stops when they are
    as far apart as the real ones. Comparing in an autoencoder's code space is from Li, Swersky, Zemel 2015, "Generative
    Moment Matching Networks" (arXiv 1502.02761); the energy distance as a loss from Bellemare and others 2017, "The
    Cramer Distance as a Solution to Biased Wasserstein Gradients" (arXiv 1705.10743), from memory. The unit is the mean
    distance between real codes; D gets no gradient from it. Measured in docs/evidence/collapse.md.
    """

    name = "energy-distance"
    summary = "codes of generated pictures are to lie as those of the real ones do (try a weight of 0.3)"

    def __call__(self, step: Step) -> Tensor:
        """0-dim: 0 for equal distributions; √2 − 1 for a single picture at the mean of normally distributed codes."""
        fake, real = self.codes(step)
        return energy_distance(fake, real) / self.spread(real)


class ImplicitLikelihoodOptions(gankit.Options):
    absent = {"pixels": 0}

    remembered: int = Field(16_384, ge=1, description="samples of the last steps that the nearest is looked for among")
    pixels: float = Field(
        1,
        ge=0,
        le=1e30,
        description="weight of the errors of pixels and of differences between neighbours, beside those of codes",
    )


class ImplicitLikelihood(_OfCodes[ImplicitLikelihoodOptions]):
    """Each real picture pulls its nearest sample, so that every real picture has a sample near it.

    Li and Malik 2018, "Implicit Maximum Likelihood Estimation" (arXiv 1809.09087), from memory, in the code space of D
    beside pixels, and with the samples of the last steps instead of a new pool. The term keeps `remembered` latents and
    their codes. For each real code of the batch it takes the latent of the nearest code, generates it again, and
    minimises ‖Enc(G(z)) − Enc(x)‖² over the squared mean distance of real codes: a real picture far from every sample
    pulls most. `pixels` weighs mean |e| + mean |∂_x e| + mean |∂_y e| of e = G(z) − x beside it, as codes tell little
    of grain and edges; x is the picture before the views. The term costs one more pass of both networks. The generator
    has changed since, so the new sample is near the old one but not equal. With a class-conditional model the nearest
    sample is one of the same class. D gets no gradient from it. Measured in docs/evidence/pictures.md.
    """

    name = "imle"
    summary = "every real picture pulls the nearest of the last samples, in code space (try a weight of 0.3)"

    def __call__(self, step: Step) -> Tensor:
        """0-dim. Of codes: 0 if every real code has an equal one, about 1 if its nearest is as far as another real one.

        `pixels` times the errors of pixels and edges, a mean over the batch, comes on top. 0 if a generator with batch
        normalisation would draw one latent alone, as can be in a tiny batch.
        """
        fake, real = self.codes(step)
        together = len(step.noise) // len(fake)  # latents for one code: several with a view that stacks items
        labels = step.labels
        by_label = type(step.model).generate is not Model.generate  # the default `generate` ignores the labels
        batch = {"latents": step.noise.unflatten(0, (-1, together)), "codes": fake.detach()}
        if labels is not None and by_label:
            batch["labels"] = classes = labels.unflatten(0, (-1, together))
        self._remember(batch)
        codes = self.memory["codes"]
        far = torch.addmm(codes.norm(dim=1).square(), real, codes.T, alpha=-2)  # squared, without ‖real‖²: as near
        if labels is not None and by_label:
            others = (classes[:, None] != self.memory["labels"]).any(-1)
            far = far.masked_fill(others & ~others.all(1, keepdim=True), torch.inf)  # if one has its class
        nearest = far.argmin(1)
        if labels is not None and by_label:
            labels = self.memory["labels"][nearest].flatten()
        latents = self.memory["latents"][nearest].flatten(0, 1)
        drawn = step.redraw(latents, labels)
        code = step.model.judge(step.networks, step.view(drawn), labels).code
        assert code is not None
        value = (code.flatten(1) - real).square().sum(1).mean() / self.spread(real).square()
        if self.options.pixels:
            value = value + self.options.pixels * pixel_error(drawn - step.real, edges=1).mean()
        # One latent for all: batch normalisation has no variance to divide by, and the gradient would be rounding.
        return value * (latents != latents[:1]).any() if _batch_normalised(step.networks) else value

    def _remember(self, batch: dict[str, Tensor]) -> None:
        """Append the rows of the batch to the memory; once it is full, write them over the oldest ones.

        In place, as a copy of the memory takes a twentieth of a step. `oldest`, 0-dim, is then the place of that row.
        """
        most, oldest = self.options.remembered, self.memory.pop("oldest", None)
        if len(self.memory.get("codes", ())) == most:
            batch = {name: rows[-most:] for name, rows in batch.items()}
            places = torch.arange(len(batch["codes"]), device=batch["codes"].device)
            places = places if oldest is None else (places + oldest) % most
            for name, rows in batch.items():
                self.memory[name].index_copy_(0, places, rows)
            self.memory["oldest"] = (places[-1] + 1) % most
        else:
            first = 0 if oldest is None else int(oldest)  # it is there if a resume has changed `remembered`
            for name, rows in batch.items():
                before = self.memory.get(name, rows[:0])
                self.memory[name] = torch.cat([before[first:], before[:first], rows])[-most:]


def _batch_normalised(networks: Mapping[str, Any]) -> bool:
    generator = networks.get("generator")
    generator = getattr(generator, "module", generator)  # in a step it is a callable around the module
    return isinstance(generator, nn.Module) and any(isinstance(one, nn.BatchNorm2d) for one in generator.modules())
