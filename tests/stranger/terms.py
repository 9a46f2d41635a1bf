"""Two extra terms for models whose discriminator has an encoder."""

from __future__ import annotations

from torch import Tensor

from gankit import LossTerm, Step, hookimpl


class ModeRegulariser(LossTerm):
    """|x − G(Enc(x))|: the generator must be able to draw every real picture.

    Che, Li, Jacob, Bengio, Li 2016, "Mode Regularized Generative Adversarial Networks" (arXiv 1612.02136).
    """

    name = "mode-regulariser"
    summary = "the generator must be able to draw the real pictures from their codes"
    network = "generator"
    needs = frozenset({"code as wide as the latent"})

    def __call__(self, step: Step) -> Tensor:
        code = step.judged_real.code
        assert code is not None
        drawn = step.model.generate(step.networks, code, step.labels)
        return (step.real - drawn).abs().mean()


class LatentClosing(LossTerm):
    """‖z − Enc(G(z))‖: the encoder must find the latents again.

    Chang, Lin, Yu, Chen, Lee, Chuang 2018, "Escaping from Collapsing Modes in a Constrained Space" (BEGAN-CS;
    arXiv 1808.07258). The weight is the paper's α.
    """

    name = "latent-closing"
    summary = "the discriminator's encoder must find the latents again (BEGAN-CS)"
    network = "discriminator"
    needs = frozenset({"code as wide as the latent"})

    def __call__(self, step: Step) -> Tensor:
        code = step.judged_fake.code
        assert code is not None
        return (step.noise - code).norm(dim=1).mean()


@hookimpl
def gankit_losses() -> list[type[LossTerm]]:
    return [ModeRegulariser, LatentClosing]
