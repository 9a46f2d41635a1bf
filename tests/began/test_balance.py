"""k in a closed loop: the controllers on a simulated pair of networks with a known response to k.

The plant: L(x) = 0.12 + 0.3 exp(−t/500). The ratio r = L(G(z)) / L(x) follows r* = 0.2 + 2k with a lag of `lag` steps,
so that k = 0.05, 0.15, 0.25 holds γ = 0.3, 0.5, 0.7. Where noise is on, each step's two energies are off by 5 % and
10 % (normal, multiplicative). Several plants run at once: the controller's buffers are vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gankit_began.balance import Balance, ProportionalIntegral
from gankit_began.model import BEGAN
from torch import Tensor

GAMMAS = (0.3, 0.5, 0.7)
Target = Callable[[int, Tensor], Tensor]  # (t, k) -> r*


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Unclamped(Balance):
    """Planted error: the visible k is clipped, the integrated k is not, and winds up."""

    def value(self, knob: str) -> Tensor:
        return self.k.clamp(0, 1)

    def update(self, number: int, readings: Any) -> None:
        self.k.add_(readings["began/balance"], alpha=self.lambda_k)


def made(what: str, lambda_k: float) -> Any:
    model = BEGAN(BEGAN.Settings(filters=4, latent=4, lambda_k=lambda_k), (3, 16, 16))
    controller, options = {
        "balance": (Balance, {"floor": 0}),
        "balance with a floor": (Balance, {"floor": 0.1}),
        "balance-pi": (ProportionalIntegral, {}),
        "balance-pi, K_p = 2": (ProportionalIntegral, {"proportional": 2}),
        "without the clamp": (Unclamped, {"floor": 0}),
    }[what]
    return controller(controller.Options(**options), model).double()


@dataclass
class Course:
    """(steps, plants) each."""

    k: Tensor
    ratio: Tensor
    real: Tensor
    fake: Tensor

    def held(self, last: int) -> Tensor:
        """E[L(G(z))] / E[L(x)] over the last steps."""
        return self.fake[-last:].mean(0) / self.real[-last:].mean(0)


def follow(t: int, k: Tensor) -> Tensor:
    return 0.2 + 2 * k


@torch.no_grad()
def course(
    what: str,
    steps: int,
    gamma: Any,
    lag: Any = 400,
    noise: bool = True,
    target: Target = follow,
    lambda_k: float = 0.001,
) -> Course:
    controller = made(what, lambda_k)
    gamma, lag = torch.broadcast_tensors(torch.as_tensor(gamma).double(), torch.as_tensor(lag).double())
    plants = gamma.numel()
    for name, buffer in list(controller.named_buffers()):
        setattr(controller, name, buffer.repeat(plants))
    rng = torch.Generator().manual_seed(0)
    normal = noise * torch.randn(2, steps, plants, generator=rng, dtype=torch.float64)
    true = (0.12 + 0.3 * torch.exp(-torch.arange(steps).double() / 500))[:, None]
    real, unit = true * (1 + 0.05 * normal[0]), true * (1 + 0.1 * normal[1])
    ratio = torch.full((plants,), 0.2, dtype=torch.float64)
    ks, ratios, fakes = [], [], []
    for t in range(steps):
        k = controller.value("k").clone()
        ratio = ratio + (target(t, k) - ratio) / lag
        fake = ratio * unit[t]
        controller.update(t + 1, {"began/balance": gamma * real[t] - fake})
        ks.append(k), ratios.append(ratio), fakes.append(fake)
    return Course(torch.stack(ks), torch.stack(ratios), real, torch.stack(fakes))


@pytest.mark.parametrize("what", ["balance", "balance-pi", "balance-pi, K_p = 2"])
def test_the_ratio_of_the_energies_settles_at_gamma_and_k_never_leaves_0_to_1(what):
    got = course(what, 26_000, GAMMAS)
    assert got.held(6_000).tolist() == pytest.approx(GAMMAS, rel=0.02)
    assert got.k.min() >= 0
    assert got.k.max() <= 1


def test_with_a_floor_the_ratio_settles_at_gamma_or_k_at_the_floor():
    """γ = 0.3 asks for k = 0.05; the floor of 0.1 gives a ratio of 0.4."""
    got = course("balance with a floor", 16_000, GAMMAS)
    assert got.held(6_000).tolist() == pytest.approx((0.4, 0.5, 0.7), rel=0.02)
    assert got.k[4_000:].min() >= 0.1
    assert got.k.max() <= 1
    assert got.k[-6_000:, 0].max() < 0.101


OVERSHOOT = {  # of the ratio above γ, for networks that answer after 2,000, 4,000 and 6,000 steps
    "balance": (0.029, 0.103, 0.151),
    "balance-pi": (0.011, 0.075, 0.122),
    "balance-pi, K_p = 2": (0.0, 0.022, 0.061),
}


@pytest.fixture(scope="module")
def overshoot() -> dict[str, list[float]]:
    lags = (2_000, 4_000, 6_000)
    peaks = {what: course(what, 20_000, 0.5, lags, noise=False).ratio.amax(0) for what in OVERSHOOT}
    return {what: (peak / 0.5 - 1).clamp(min=0).tolist() for what, peak in peaks.items()}


@pytest.mark.parametrize("what", OVERSHOOT)
def test_the_swing_around_networks_that_answer_late_is_as_large_as_stated(overshoot, what):
    assert overshoot[what] == pytest.approx(OVERSHOOT[what], abs=0.002)


def test_a_proportional_part_damps_the_swing_around_networks_that_answer_late(overshoot):
    for alone, weakly, strongly in zip(*(overshoot[what] for what in OVERSHOOT), strict=True):
        assert weakly < 0.85 * alone
        assert strongly < 0.45 * alone


# Anti-windup: for 5,000 steps no k reaches the ratio; then the ratio is on the other side of γ.
# With λ_k = 0.01 a balance of ±0.3 · 0.12 moves k by 3.6e-4 a step, so that k lies at its bound after 3,000.

PINNED, AFTER = 5_000, 1_000


def leaves(what: str, bound: float, before: float, after: float) -> int:
    """Steps from the balance's change of sign until k is a hundredth away from the bound."""

    def target(t: int, k: Tensor) -> Tensor:
        return torch.full_like(k, before if t < PINNED else after)

    got = course(what, PINNED + AFTER, 0.5, lag=1, noise=False, target=target, lambda_k=0.01)
    assert got.k[PINNED - 2_000 : PINNED].eq(bound).all()
    left = (got.k[PINNED:, 0] - bound).abs() > 0.01
    return int(left.int().argmax()) if left.any() else AFTER


@pytest.mark.parametrize(("bound", "way"), [(1.0, (0.2, 0.8)), (0.0, (0.8, 0.2))], ids=["pinned at 1", "pinned at 0"])
def test_k_leaves_its_bound_at_once_when_the_balance_changes_its_sign(bound, way):
    """A hundredth takes 28 steps, without any for unwinding."""
    for what in ("balance", "balance-pi", "balance-pi, K_p = 2"):
        assert leaves(what, bound, *way) <= 30
    assert leaves("without the clamp", bound, *way) == AFTER, "planted: still wound up when the others have long left"
