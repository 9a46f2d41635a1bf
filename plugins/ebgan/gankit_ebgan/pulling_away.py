"""The pulling-away term: Zhao, Mathieu, LeCun 2016, "Energy-based GAN" (arXiv 1609.03126), section 2.4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gankit import LossTerm, Step, UserError


def pulling_away(codes: Tensor) -> Tensor:
    """f_PT(S) = 1/(N(N−1)) Σ_i Σ_{j≠i} (S_iᵀS_j / (‖S_i‖‖S_j‖))², in [0, 1]. `codes` S: (N, N_h), N ≥ 2.

    0-dim, low for codes in different directions. Raises `gankit.UserError` for a single code.
    """
    n = len(codes)
    if n < 2:
        raise UserError(
            "the pulling-away term compares the pictures of a batch, and here a batch gives a single code: take a "
            "larger --batch-size, or leave it out with --pull-away 0 (where it is a term: --loss pulling-away=0)"
        )
    directions = F.normalize(codes.flatten(1))
    cosines = directions @ directions.T
    others = 1 - torch.eye(n, device=codes.device)
    return (cosines.square() * others).sum() / (n * (n - 1))


class PullingAway(LossTerm):
    """Pushes the codes of a batch's generated pictures apart. The paper's weight is 0.1, on the generator's loss."""

    name = "pulling-away"
    summary = "pushes the codes of generated pictures apart (EBGAN-PT; try a weight of 0.1)"
    network = "generator"
    needs = frozenset({"code"})

    def __call__(self, step: Step) -> Tensor:
        assert step.judged_fake.code is not None
        return pulling_away(step.judged_fake.code)
