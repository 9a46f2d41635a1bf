"""BEGAN: Berthelot, Schumm, Metz 2017, "Boundary Equilibrium Generative Adversarial Networks" (arXiv 1703.10717).

Equation numbers (1)–(5) are those of the article that gankit starts from; symbols are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

import gankit
from gankit import Curve, Judged, Losses, Machine, Model, Remedy, Step
from gankit_began.networks import reconstruction_error

# For the quick networks (docs/evidence/pictures.md); the paper's networks have the paper's rate for both.
LEARNING_RATE, GENERATOR_RATE = 3e-4, "2.5x"
PAPER_RATE = 1e-4


def _rate(value: Any) -> Any:
    """The generator's learning rate: a number, a multiple of the other ("2.5x"), "auto", or none: the same."""
    if value is None or value == "none":
        return None
    text = str(value)
    try:
        number = float(text.removesuffix("x"))
    except ValueError:
        number = 0.0
    if value == "auto" or (0 < number <= 1e30 and not isinstance(value, bool)):
        return value if text.endswith("x") or value == "auto" else number
    raise ValueError("it must be a number in (0, 1e+30], a multiple of learning_rate such as 2.5x, auto or none")


class BEGAN(Model):
    """Boundary Equilibrium GAN: an autoencoder as discriminator, which k_t keeps in balance with the generator.

    gamma sets the trade-off between sharpness (low) and variety (high).
    """

    name = "began"
    summary = "Boundary Equilibrium GAN (arXiv 1703.10717)"
    controllers = ("balance", "halving")
    diagnostics = ("equilibrium", "reconstruction-errors")
    needs = frozenset({"reconstruction"})
    terms = {"energy-distance": 0.3, "imle": 0.3, "critic": 0.1}
    knobs = ("gamma",)
    shown = {"k": "began/k", "M": "began/convergence"}
    curves = {
        "began/k": Curve(
            letter="k_t",
            note="How much the generated pictures weigh in the discriminator's loss, between 0 and 1.",
            bounds=(0, 1),
        ),
        "began/balance": Curve(
            letter="γL(x) − L(G(z))",
            note="Above 0, generated pictures have less energy than γ asks for, and k grows.",
        ),
        "began/convergence": Curve(
            letter="M_global",
            note="How far both sides have converged: L(x) + |γL(x) − L(G(z))| of the energies L. It knows no variety.",
        ),
        "gamma": Curve(letter="γ", note="The ratio of energies to hold, where a controller drives it.", bounds=(0, 1)),
    }
    presets = {  # section 4.1 of the paper, from memory; it does not give `betas`
        "paper": {
            "model": {
                "gamma": 0.5,
                "lambda_k": 0.001,
                "eta": 1,
                "edges": 0,
                "latent": 64,
                "learning_rate": PAPER_RATE,
                "learning_rate_generator": None,
                "skip_connections": True,
                "vanishing_residuals": True,
                "updates": "simultaneous",
                "networks": "began-autoencoder",
            },
            "losses": {"energy-distance": 0, "imle": 0, "critic": 0},
            "set": {"balance.floor": 0, "halving.patience": 10, "halving.floor": 2e-5},
            "batch_size": 16,
        }
    }

    class Settings(gankit.Settings):
        absent = {"edges": 0}
        now_written = {"generator_pace": f"learning_rate_generator={GENERATOR_RATE}"}

        learning_rate: Annotated[float, Field(gt=0, le=1e30)] | Literal["auto"] = Field(  # type: ignore[assignment]
            "auto", description="Adam's learning rate; auto: 3e-4 with strided-autoencoder, 1e-4 with other networks"
        )
        learning_rate_generator: Annotated[float | str | None, BeforeValidator(_rate)] = Field(  # type: ignore[assignment]
            "auto",
            description="learning rate of the generator alone: a number; a multiple of learning_rate such as "
            "2.5x, which follows it; none: the same; auto: 2.5x with strided-autoencoder, none with other networks",
        )
        gamma: float = Field(
            1,
            gt=0,
            le=1,
            description="γ, the ratio E[L(G(z))] / E[L(x)] to hold: lower is sharper, higher more diverse",
        )
        lambda_k: float = Field(0.001, gt=0, le=1e30, description="λ_k, the gain of k in equation (5)")
        eta: Literal[1, 2] = Field(1, description="η, the power of the error in L(v) = |v − D(v)|^η")
        edges: float = Field(
            2, ge=0, le=1e30, description="weight in L(v) of the errors of differences between neighbouring pixels"
        )
        filters: Annotated[int, Field(ge=4)] | Literal["auto"] = Field(
            "auto",
            description="n, filters of the first convolution; auto: 40 on a CPU (the paper's networks 16), 64 on a GPU",
        )
        latent: int = Field(128, ge=1, description="N_z = N_h, numbers in a latent and in a code")
        skip_connections: bool = Field(
            True, description="h0 up-sampled and concatenated after every up-sampling (began-autoencoder)"
        )
        vanishing_residuals: bool = Field(
            False, description="convolutions start as the identity, over 16,000 steps (began-autoencoder)"
        )
        networks: str = Field(
            "auto",
            description="the generator/discriminator pair, by name; auto: strided-autoencoder, or began-autoencoder "
            "where a setting is given that is its own",
        )

        @classmethod
        def from_stored(cls, table: Mapping[str, Any]) -> dict[str, Any]:
            """`generator_pace`, a former setting, becomes the generator's learning rate: 2.5 is "2.5x"."""
            kept, pace = super().from_stored(table), table.get("generator_pace", 1)
            if pace != 1 and kept.get("learning_rate_generator") is None:
                kept["learning_rate_generator"] = f"{pace!r}x"
            return kept

    @classmethod
    def resolve(cls, settings: Any, machine: Machine) -> Any:
        """Resolve `auto`: the quick networks, unless a setting of the paper's networks is given; n; the rates."""
        networks, n = settings.networks, settings.filters
        rate, generator = settings.learning_rate, settings.learning_rate_generator
        if networks == "auto":
            paper = {"skip_connections", "vanishing_residuals"} & settings.model_fields_set
            networks = "began-autoencoder" if paper else "strided-autoencoder"
        if n == "auto":
            n = 64 if machine.device != "cpu" else 16 if networks == "began-autoencoder" else 40
        if rate == "auto":
            rate = LEARNING_RATE if networks == "strided-autoencoder" else PAPER_RATE
        if generator == "auto":
            generator = GENERATOR_RATE if networks == "strided-autoencoder" else None
        resolved = {"networks": networks, "filters": n, "learning_rate": rate, "learning_rate_generator": generator}
        return settings.model_copy(update=resolved)

    def learning_rate(self, network: str) -> float:
        """The initial learning rate; the generator's is a number, a multiple of the other, or the same."""
        rate, generator = self.settings.learning_rate, self.settings.learning_rate_generator
        rate = PAPER_RATE if rate == "auto" else rate  # `auto` before `resolve`
        if network != "generator" or generator in (None, "auto"):
            return rate
        return min(float(generator[:-1]) * rate, 1e30) if isinstance(generator, str) else generator

    def remedies(self, alarm: str) -> Sequence[Remedy]:
        """Against a collapse: the default terms, a floor of k, more of `energy-distance`, a lower learning rate.

        Measured in docs/evidence/collapse.md; against grain and blur in docs/evidence/pictures.md.
        """
        gamma = self.settings.gamma
        floor = Remedy("k does not sink to 0, so that fakes stay pushed away", {"balance.floor": 0.15})
        if alarm in ("k-at-0", "k-sinks"):
            follow = Remedy("a ratio that the generator can follow", {"gamma": min(gamma + 0.2, 1)})
            return (floor, follow, *super().remedies(alarm))
        if alarm == "outrun":
            less = Remedy("fakes are pushed away less", {"balance.floor": 0}, lowers=True)
            return (less, *super().remedies(alarm))
        if alarm in ("grainy", "blurred"):
            critic = Remedy("a critic asks for edges that look real", losses={"critic": 0.1})
            edges = Remedy("errors of differences count more", {"edges": max(self.settings.edges, 3)})
            return (edges, critic) if alarm == "grainy" else (critic,)
        if alarm == "rate-vanished":
            return (Remedy("it learns on, at a rate that stays", {"halving.floor": 2e-5}),)
        if alarm == "k-at-1":
            return (Remedy("a ratio that the discriminator can follow", {"gamma": min(gamma, max(gamma - 0.2, 0.1))}),)
        if alarm not in ("one-mode", "one-colour", "narrowing", "mode-collapse"):
            return super().remedies(alarm)
        return (
            Remedy(
                "the discriminator looks at fakes more, terms ask for codes like the real ones', a critic for edges",
                {"gamma": 1},
                dict(self.terms),
            ),
            floor,
            Remedy("more variety for less form", losses={"energy-distance": 1}),
            *super().remedies(alarm),
        )

    def latents(self, n: int, device: torch.device) -> Tensor:
        """z ~ U[−1, 1]^N_z."""
        return torch.rand(n, self.settings.latent, device=device) * 2 - 1

    def judge(self, networks: Mapping[str, Any], seen: Tensor, labels: Tensor | None) -> Judged:
        """The energy of a picture is its reconstruction error L(v)."""
        judged = networks["discriminator"](seen)
        judged.energy = reconstruction_error(seen, judged, self.settings.eta, self.settings.edges)
        return judged

    def losses(self, step: Step) -> Losses:
        """Equations (3) and (4). With simultaneous updates both use one batch of latents: z_D = z_G.

        Then the two versions of equation (5), with z_D in the article and z_G in the paper, agree. With alternating
        updates k follows the generator's batch, z_G.
        """
        k, gamma = step.knobs["k"], step.knobs["gamma"]
        L_x = step.energy_real
        L_Gz = step.energy_fake
        balance = gamma * L_x - L_Gz
        # At k = 0 the gradient of k L(G(z)) is 0, and would cost a seventh of the step.
        return Losses(
            {
                "discriminator": L_x if step.at_zero("k") else L_x - k * L_Gz,  # (3)
                "generator": L_Gz,  # (4)
            },
            {
                "energy/real": L_x,
                "energy/fake": L_Gz,
                "began/k": k,  # the k_t that this step used
                "began/balance": balance,
                "began/convergence": L_x + balance.abs(),  # M_global
            },
        )
