"""Loss terms that use the encoder of a discriminator as the generator's inverse; for any model that they fit."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

import gankit
from gankit import LossTerm, Step


class LatentClosing(LossTerm):
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

    class Options(gankit.Options):
        norm: Literal["l1", "l2"] = Field("l1", description="mean absolute difference, or mean Euclidean norm")
        network: Literal["discriminator", "generator"] = Field(
            "discriminator", description="whose loss it is added to; the paper's: discriminator"
        )

    def __init__(self, options: Any) -> None:
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
        drawn = step.model.generate(step.networks, step.judged_real.code, step.labels)
        return (step.real - drawn).abs().mean()
