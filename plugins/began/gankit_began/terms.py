"""Loss terms in the code space of a discriminator with an encoder; for any model that they fit.

Two take the encoder for the generator's inverse, two compare the codes of generated pictures with those of real ones.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import LossTerm, Model, Step, UserError

Chosen = TypeVar("Chosen", bound=gankit.Options)


class LatentClosingOptions(gankit.Options):
    norm: Literal["l1", "l2"] = Field("l1", description="mean absolute difference, or mean Euclidean norm")
    network: Literal["discriminator", "generator"] = Field(
        "discriminator", description="whose loss it is added to; the paper's: discriminator"
    )


class LatentClosing(LossTerm[LatentClosingOptions]):
    """z − Enc(G(z)): the encoder must find the latents again, so that G cannot give one picture to all of them.

    Chang, Lin, Lee, Juan, Wei, Chen 2018, "Escaping from Collapsing Modes in a Constrained Space" (BEGAN-CS, ECCV;
    arXiv 1808.07258): α of it on the discriminator's loss, α = 0.1, the generator's as it was. The authors' code takes
    the mean of |z − Enc(G(z))| over batch and numbers, which is the default (l1); the paper writes a norm, as
    remembered: l2 is the mean over the batch of the Euclidean norm, about √N_z times larger. The authors' energy is
    not BEGAN's mean over pixels but a norm of the batch divided by its size, so their α need not fit here.
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

    Che, Li, Jacob, Bengio, Li 2016, "Mode Regularized Generative Adversarial Networks" (arXiv 1612.02136), its first,
    geometric regulariser, with the discriminator's encoder in place of one of its own (as remembered). x is the bare
    picture, and its code that of what D was shown: under a view that augments, G is asked for pictures as they are.
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
    """Euclidean, (N, M), for rows (N, D) and (M, D); its slope at 0 is 0.

    Not `torch.cdist`, whose gradient not every device has and which loses the small ones in a matrix product.
    """
    return (a[:, None] - b).square().sum(-1).clamp(min=1e-12).sqrt()


def apart(rows: Tensor) -> Tensor:
    """Mean distance between two different rows (N, D), N ≥ 2."""
    others = 1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return (distances(rows, rows) * others).sum() / (len(rows) * (len(rows) - 1))


def energy_distance(codes: Tensor, real: Tensor) -> Tensor:
    """2 E‖f − r‖ − E‖f − f'‖ − E‖r − r'‖ for `codes` f (N, N_h) and `real` r (M, N_h); N, M ≥ 2.

    Székely and Rizzo 2013, "Energy statistics: A class of statistics based on distances", as a U-statistic: pairs of
    different rows alone, so that its mean is that of whole distributions at every N, 0 where they are the same, and a
    draw can fall below 0.
    """
    return 2 * distances(codes, real).mean() - apart(codes) - apart(real)


class _OfCodes(LossTerm[Chosen]):
    """What compares the codes of the generated batch with those of the real one."""

    network = "generator"
    needs = frozenset({"code"})

    def codes(self, step: Step) -> tuple[Tensor, Tensor]:
        """Of the generated batch, and of the real one, which nothing is to follow back."""
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
        """Mean distance between two real codes, 0-dim: the unit, so that a D that shrinks all codes changes nothing.

        A running mean, which is remembered: that of one small batch with the same picture twice is 0.
        """
        now = apart(real)
        self.memory["spread"] = self.memory.get("spread", now).lerp(now, 0.01)
        return self.memory["spread"]


class EnergyDistance(_OfCodes[gankit.Options]):
    """The energy distance between the codes of generated pictures and of real ones, on the generator's loss.

    BEGAN asks of a sample only to be as easily reconstructed as the real ones, which a few smooth pictures are; this
    asks that the samples together lie as the real ones do. Where all samples are alike it pulls them apart as the
    pulling-away term does, and stops where they are as far apart as the real ones. The code of an autoencoder
    as the space to compare in is of Li, Swersky, Zemel 2015, "Generative Moment Matching Networks" (arXiv 1502.02761);
    the energy distance as a loss of Bellemare and others 2017, "The Cramer Distance as a Solution to Biased
    Wasserstein Gradients" (arXiv 1705.10743), as remembered. In units of the mean distance between real codes; D does
    not follow it. Measured in docs/evidence/collapse.md.
    """

    name = "energy-distance"
    summary = "codes of generated pictures are to lie as those of the real ones do (try a weight of 0.3)"

    def __call__(self, step: Step) -> Tensor:
        """0-dim: 0 for equal distributions; √2 − 1 for a single picture amid normally distributed real codes."""
        fake, real = self.codes(step)
        return energy_distance(fake, real) / self.spread(real)


class ImplicitLikelihoodOptions(gankit.Options):
    remembered: int = Field(1024, ge=1, description="samples of the last steps that the nearest is looked for among")


class ImplicitLikelihood(_OfCodes[ImplicitLikelihoodOptions]):
    """Every real picture pulls the sample that is nearest to it, so that none is left without one.

    Li and Malik 2018, "Implicit Maximum Likelihood Estimation" (arXiv 1809.09087), as remembered, in the code space of
    D instead of pixels, and with the samples of the last steps in place of a pool that is drawn for it: `remembered`
    latents and their codes are kept, the nearest code to each real one of the batch is chosen, its latent is drawn
    again, and ‖Enc(G(z)) − Enc(x)‖² is lowered, over the squared mean distance of real codes: what is far from every
    sample pulls most. One more pass of both networks; what is drawn again is near what was chosen and not the same,
    since the generator has learnt since. Of a model that draws by label, a picture's nearest sample is looked for among
    those of its class. D does not follow it. Measured in docs/evidence/collapse.md.
    """

    name = "imle"
    summary = "every real picture pulls the nearest of the last samples, in code space (try a weight of 0.3)"

    def __call__(self, step: Step) -> Tensor:
        """0-dim: 0 where every real code is met, about 1 where its nearest sample is as far as another real one."""
        fake, real = self.codes(step)
        together = len(step.noise) // len(fake)  # latents of one code: several where D is shown several items as one
        self._remember("latents", step.noise.unflatten(0, (-1, together)))
        self._remember("codes", fake.detach())
        codes = self.memory["codes"]
        far = codes.square().sum(1) - 2 * real @ codes.T  # the squared distance, but for what all have in common
        labels = step.labels
        by_label = type(step.model).generate is not Model.generate  # or a sample shows nothing of the label beside it
        if labels is not None and by_label:
            classes = labels.unflatten(0, (-1, together))
            self._remember("labels", classes)
            others = (classes[:, None] != self.memory["labels"]).any(-1)
            far = far.masked_fill(others & ~others.all(1, keepdim=True), torch.inf)  # where there is one of its class
        nearest = far.argmin(1)
        if labels is not None and by_label:
            labels = self.memory["labels"][nearest].flatten()
        drawn = step.redraw(self.memory["latents"][nearest].flatten(0, 1), labels)
        code = step.model.judge(step.networks, step.view(drawn), labels).code
        assert code is not None
        return (code.flatten(1) - real).square().sum(1).mean() / self.spread(real).square()

    def _remember(self, name: str, batch: Tensor) -> None:
        """Put the batch behind what is remembered, and let go of the oldest."""
        before = self.memory.get(name, batch[:0])
        self.memory[name] = torch.cat([before, batch])[-self.options.remembered :].clone()
