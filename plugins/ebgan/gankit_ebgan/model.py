"""EBGAN: Zhao, Mathieu, LeCun 2016, "Energy-based Generative Adversarial Network" (arXiv 1609.03126)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import gankit
from gankit import Controller, Curve, Judged, Losses, Machine, Model, Remedy, Step
from gankit_ebgan.pulling_away import pulling_away


class EBGAN(Model):
    """Energy-based GAN: an autoencoder's reconstruction error as energy, a hinge with a margin, the pulling-away term.

    The energy measures the reconstruction error e = Dec(Enc(v)) − v over the N = C·S·S numbers of a picture: the
    paper's norm ‖e‖ (energy=norm), by default ‖e‖/√N, which does not depend on the picture's size (rms), or ‖e‖²/N as
    in most public implementations (mse). A margin m of the norm is m/√N as rms and m²/N as mse. pull_away is the weight
    for the norm and shrinks with the energy's scale, so that the term does not dominate the energy.
    """

    name = "ebgan"
    summary = "Energy-based GAN (arXiv 1609.03126)"
    controllers = ("margin",)
    diagnostics = ("reconstruction-errors",)
    needs = frozenset({"reconstruction"})
    shown = {"m": "ebgan/margin"}
    curves = {
        "ebgan/margin": Curve(
            letter="m", note="The energy above which the discriminator no longer pushes generated pictures up."
        )
    }
    presets = {"paper": {"model": {"energy": "norm", "hinge": "picture", "pull_away": 0.1, "updates": "alternating"}}}

    class Settings(gankit.Settings):
        energy: Literal["norm", "rms", "mse"] = Field(
            "rms", description="norm of the error as in the paper, the root of its mean square, or its mean square"
        )
        margin: Annotated[float, Field(gt=0, le=1e30)] | Literal["auto"] = Field(
            "auto", description="m, in the unit of `energy`; auto: follows the real energy as it falls"
        )
        hinge: Literal["batch", "picture"] = Field(
            "picture", description="on each picture's energy, as in the paper, or on the batch's mean"
        )
        pull_away: float = Field(
            0.1, ge=0, le=1e30, description="weight of the pulling-away term beside the norm; 0: plain EBGAN"
        )
        filters: Annotated[int, Field(ge=4)] | Literal["auto"] = Field(
            "auto", description="filters of the first convolution; auto: 40 on a CPU, 64 on a GPU"
        )
        latent: int = Field(64, ge=1, description="numbers in a latent and in a code")
        mapping: int = Field(
            0,
            ge=0,
            le=100,
            description="hidden layers of the generator before its first feature map (strided-autoencoder); "
            "with two it was seen to draw one picture",
        )
        output: Literal["linear", "opacity"] = Field(
            "linear",
            description="plain numbers, or colours and an opacity over the background (strided-autoencoder), "
            "with which EBGAN was not measured",
        )
        networks: str = Field("strided-autoencoder", description="the generator/discriminator pair, by name")

    @classmethod
    def resolve(cls, settings: Any, machine: Machine) -> Any:
        if settings.filters != "auto":
            return settings
        return settings.model_copy(update={"filters": 40 if machine.device == "cpu" else 64})

    def remedies(self, alarm: str) -> Sequence[Remedy]:
        """Against a collapse: a stronger pulling-away term, then a lower learning rate."""
        if alarm in ("not-finite", "exploded", "memorises", "rate-vanished", "grainy", "blurred"):
            return super().remedies(alarm)
        stronger = max(self.settings.pull_away, 5.5)  # docs/evidence/ebgan.md
        return (Remedy("the codes of fakes are kept apart", {"pull_away": stronger}), *super().remedies(alarm))

    def latents(self, n: int, device: torch.device) -> Tensor:
        """z ~ U[−1, 1]^N_z."""
        return torch.rand(n, self.settings.latent, device=device) * 2 - 1

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        """D(v) = ‖Dec(Enc(v)) − v‖, section 2.3, in the unit of the setting `energy`."""
        judged = networks["discriminator"](seen)
        judged.energy = mse = (judged.output - seen).square().flatten(1).mean(1)
        if self.settings.energy != "mse":
            judged.energy = rms = (mse + 1e-12).sqrt()  # 1e-12, because the root has no gradient at 0
            if self.settings.energy == "norm":
                judged.energy = rms * math.sqrt(seen[0].numel())
        return judged

    def slope(self, energy: Tensor, numbers: int) -> Tensor:
        """d energy / d ‖e‖, 0-dim, for a picture of `numbers` values: the factor of `pull_away` for this energy."""
        per_norm = {"norm": 1.0, "rms": numbers**-0.5, "mse": 2 * numbers**-0.5}[self.settings.energy]
        return per_norm * (energy.detach().sqrt() if self.settings.energy == "mse" else torch.ones_like(energy))

    def losses(self, step: Step) -> Losses:
        """L_D = D(x) + [m − D(G(z))]⁺, L_G = D(G(z)) + pull_away · f_PT(Enc(G(z))): sections 2.1 and 2.4.

        The hinge is the paper's (equation 1), the mean of [m − D(G(z))]⁺ over the pictures; with hinge=batch it is
        [m − mean D(G(z))]⁺, which lets go of all pictures at once.
        """
        m = step.knobs["margin"]
        D_x = step.energy_real
        D_Gz = step.energy_fake
        readings = {"energy/real": D_x, "energy/fake": D_Gz, "ebgan/margin": m}
        generator = D_Gz
        if self.settings.pull_away > 0:
            code = step.judged_fake.code
            if code is None:
                raise gankit.UserError(
                    f"networks={self.settings.networks}: they give no code for the pulling-away term; set pull_away=0"
                )
            readings["ebgan/pull-away"] = f_PT = pulling_away(code)
            generator = generator + self.settings.pull_away * self.slope(D_Gz, step.seen_fake[0].numel()) * f_PT
        energies = step.judged_fake.energy if self.settings.hinge == "picture" else D_Gz
        assert energies is not None
        return Losses({"discriminator": D_x + F.relu(m - energies).mean(), "generator": generator}, readings)


class MarginOptions(gankit.Options):
    now_written = {"fixed": "margin=0.5"}

    ratio: float = Field(1.5, gt=1, le=1e30, description="the margin in real energies")
    memory: int = Field(100, ge=1, description="steps that the running mean remembers")


class Margin(Controller[MarginOptions]):
    """m = ratio × the running mean of the real energy; it only falls.

    The margin must be of the size of the real energy: a margin from another data set is the usual reason for failure.
    A number as the model's setting `margin` keeps it constant.
    """

    name = "margin"
    summary = "EBGAN's margin, from the real energy"
    margin: Tensor
    energy: Tensor

    def __init__(self, options: MarginOptions, model: Model) -> None:
        super().__init__(options, model)
        margin = getattr(self.model_settings, "margin", "auto")
        self.fixed = None if margin == "auto" else float(margin)
        self.register_buffer("margin", torch.zeros(()))  # no hinge before the first energy
        self.register_buffer("energy", torch.full((), float("nan")))

    @property
    def drives(self) -> tuple[str, ...]:
        return ("margin",)

    def value(self, knob: str) -> Tensor:
        return torch.full_like(self.margin, self.fixed) if self.fixed else self.margin

    def update(self, number: int, readings: Mapping[str, Tensor]) -> None:
        if self.fixed:
            return
        real = readings["energy/real"]
        first = self.energy.isnan()
        mean = torch.where(first, real, self.energy + (real - self.energy) / self.options.memory)
        self.energy.copy_(mean)
        target = self.options.ratio * mean
        self.margin.copy_(torch.where(first, target, torch.minimum(self.margin, target)))
