"""Two loss terms that call the networks again."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Judged, LossTerm, Step


class ModeSeeking(LossTerm):
    """1 / (d(G(z₁), G(z₂)) / d(z₁, z₂)): two distant latents must give two distant pictures.

    Mao, Lee, Tseng, Ma, Yang 2019, "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis"
    (arXiv 1903.05628). The paper maximises the ratio, its code minimises the inverse; d is the mean absolute difference
    over the batch. The generator draws a second batch with the same labels.
    """

    name = "mode-seeking"
    summary = "two latents apart must give pictures apart (MSGAN; its weight is 1)"
    network = "generator"

    def __call__(self, step: Step) -> Tensor:
        """0-dim; one more pass of the generator."""
        noise = step.model.latents(len(step.noise), step.noise.device)
        pictures = step.model.generate(step.networks, noise, step.labels)
        apart = (step.fake - pictures).abs().mean() / (step.noise - noise).abs().mean()
        return 1 / (apart + 1e-5)


class ConsistencyOptions(gankit.Options):
    shift: int = Field(2, ge=0, description="largest shift in pixels, each way")


class Consistency(LossTerm[ConsistencyOptions]):
    """E[(D(x) − D(T(x)))²]: the discriminator must be invariant to small shifts and mirror images.

    Zhang, Zhang, Odena, Lee 2020, "Consistency Regularization for Generative Adversarial Networks" (arXiv 1910.12027,
    CR-GAN; its weight is 10), on real pictures. D(x) is the energy if the model has one (a reconstruction must move
    with its picture), else the score. As in the paper, T mirrors half of the pictures and shifts all.
    """

    name = "consistency"
    summary = "D must not care about small shifts and mirror images of real pictures (CR-GAN; its weight is 10)"
    network = "discriminator"

    def __call__(self, step: Step) -> Tensor:
        """0-dim; one more pass of the discriminator."""
        changed = moved(step.seen_real, self.options.shift)
        return (
            (verdict(step.judged_real) - verdict(step.model.judge(step.networks, changed, step.labels))).square().mean()
        )


def verdict(judged: Judged) -> Tensor:
    """D's energy of each picture, or its score: (B,)."""
    return judged.output if judged.energy is None else judged.energy


def moved(pictures: Tensor, most: int) -> Tensor:
    """Pictures (B, C, S, S), mirrored or not, and shifted by up to `most` pixels each way; edge pixels are repeated."""
    n, _, height, width = pictures.shape
    device = pictures.device
    down, right = torch.randint(-most, most + 1, (2, n, 1), device=device)
    rows = (torch.arange(height, device=device) + down).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + right).clamp(0, width - 1)
    columns = torch.where(torch.rand(n, 1, device=device) < 0.5, width - 1 - columns, columns)
    each = torch.arange(n, device=device)[:, None, None]
    return pictures.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
