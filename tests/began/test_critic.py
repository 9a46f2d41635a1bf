"""The critic against NumPy and finite differences; a term's own network learns separately and is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, SMALL, Gankit, refused, timeless, weights
from gankit_began.critic import Critic, Scores
from test_step import PICTURES, RING, distance, gradient_of, prepare
from test_step import SMALL as SETTINGS
from torch import Tensor

from gankit import Step
from gankit.training.loop import step_once

NAME = Critic.name
WITH = PICTURES | {"set": SETTINGS | {f"{NAME}.filters": 4}}


def asked(term: Critic, critic: Scores, real: Tensor, fake: Tensor, number: int = 1) -> Step:
    """A step with a number and given pictures."""
    made = Step(None, number, (), real, None, torch.empty(0), {NAME: critic}, {}, lambda x: x)  # type: ignore[arg-type]
    made.__dict__["fake"] = fake
    return made


def drawn(**options: float) -> tuple[Critic, Scores, Tensor, Tensor]:
    torch.manual_seed(0)
    term = Critic(Critic.Options(**{"filters": 3, "translation": 0} | options))
    real, fake = torch.randn(2, 3, 2, 8, 8, dtype=torch.double)
    return term, term.build((2, 8, 8)).double(), real, fake


def test_both_losses_are_softplus_of_the_difference_of_each_pair():
    term, critic, real, fake = drawn(penalty=0)
    a, b = (critic(x).detach().numpy() for x in (real, fake))
    assert a.shape == (3,)
    made = asked(term, critic, real, fake)
    assert float(term(made).detach()) == pytest.approx(np.log1p(np.exp(a - b)).mean())
    assert float(term.own_loss(made).detach()) == pytest.approx(np.log1p(np.exp(b - a)).mean())


def test_the_penalties_are_those_of_r3gan_by_finite_differences(monkeypatch):
    """γ/2 of both squared gradients, every third step, three times."""
    monkeypatch.setattr("gankit_began.critic.EVERY", 3)
    term, critic, real, fake = drawn(penalty=0.7)

    @torch.no_grad()
    def squared_gradient(x: Tensor) -> float:
        change = 1e-6 * torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x[0].shape)
        slopes = [(critic(one + change) - critic(one - change)) / 2e-6 for one in x]
        return float(torch.stack(slopes).square().sum(1).mean())

    plain = float(drawn(penalty=0)[0].own_loss(asked(term, critic, real, fake, 3)).detach())
    expected = plain + 3 * 0.7 / 2 * (squared_gradient(real) + squared_gradient(fake))
    for number, value in {3: expected, 4: plain, 5: plain, 6: expected}.items():
        found = float(term.own_loss(asked(term, critic, real, fake, number)).detach())
        assert found == pytest.approx(value, rel=1e-6)


def test_it_sees_both_batches_moved_alike_each_step_by_no_more_than_its_share():
    """All moves of up to two of 16 pixels come, with the border repeated; a step's number alone decides."""
    term, rows, columns = drawn(translation=1 / 8)[0], 16, 24
    real, fake = torch.randn(2, 2, 1, rows, columns)
    taken = []
    for number in range(1, 301):
        seen: list[np.ndarray] = []
        step = asked(term, lambda x, to=seen: to.append(x.numpy()) or x.sum((1, 2, 3)), real, fake, number)  # type: ignore[arg-type]
        term.scores(step), term.scores(step)
        assert len(seen) == 2, "once a step"
        moves = [
            {
                (down, right)
                for down in range(-2, 3)
                for right in range(-3, 4)
                if (
                    np.pad(before, ((0, 0), (0, 0), (2, 2), (3, 3)), mode="edge")[
                        :, :, 2 - down : 2 - down + rows, 3 - right : 3 - right + columns
                    ]
                    == after
                ).all()
            }
            for before, after in zip((real.numpy(), fake.numpy()), seen, strict=True)
        ]
        assert moves[0] == moves[1]
        assert len(moves[0]) == 1
        taken += moves[0]
    assert len(set(taken)) == 5 * 7


@pytest.mark.parametrize("side", [8, 12, 16, 32, 50, 64])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_pictures_of_every_size_have_a_score_each(side, channels):
    critic = Critic(Critic.Options(filters=2)).build((channels, side, side))
    assert critic(torch.randn(5, channels, side, side)).shape == (5,)


def test_the_critic_follows_its_own_loss_alone_and_the_generator_feels_it():
    taken = {}
    for weight in (0.5, 5.0):
        training, batches = prepare("began", [], WITH | {"losses": WITH["losses"] | {NAME: weight}})
        before = [p.clone() for p in training.networks[NAME].parameters()]
        readings = step_once(training, batches)
        assert any(not torch.equal(p, was) for p, was in zip(training.networks[NAME].parameters(), before, strict=True))
        assert {f"loss/{NAME}", f"term/{NAME}", f"learning_rate/{NAME}"} <= readings.keys()
        taken[weight] = {name: gradient_of(made) for name, made in training.networks.items()}
    for name, felt in {"generator": True, "discriminator": False, NAME: False}.items():
        assert (distance(taken[0.5][name], taken[5.0][name]) > 1e-3) == felt, name


def test_other_networks_begin_as_they_do_without_it():
    plain, _ = prepare("began", [], PICTURES | {"set": SETTINGS})
    with_it, _ = prepare("began", [], WITH | {"losses": WITH["losses"] | {NAME: 1}})
    for name, network in plain.networks.items():
        for parameter, same in zip(network.parameters(), with_it.networks[name].parameters(), strict=True):
            assert torch.equal(parameter, same)


TRAINED = ("run", "began", *DATA, *SMALL, "--log-every", "1", "--loss", f"{NAME}=0.2")


@pytest.mark.usefixtures("undrawn")
def test_a_run_with_it_that_was_stopped_is_as_if_it_was_not(gankit: Gankit, monkeypatch) -> None:
    monkeypatch.setattr("gankit_began.critic.EVERY", 2)
    gankit(*TRAINED, "--steps", 6, "--out", "whole")
    gankit(*TRAINED, "--steps", 3, "--out", "stopped")
    gankit("resume", "stopped", "--steps", 6)
    assert weights(Path("stopped"), 6) == weights(Path("whole"), 6)
    assert timeless(Path("stopped")) == timeless(Path("whole"))


@pytest.mark.usefixtures("undrawn")
def test_it_can_join_and_leave_a_training(gankit: Gankit) -> None:
    gankit("run", "began", *DATA, *SMALL, "--steps", 3, "--loss", f"{NAME}=0", "--out", "r")
    assert gankit("resume", "r", "--steps", 6, "--loss", f"{NAME}=0.2").code == 0
    assert f"loss/{NAME}" in timeless(Path("r"))[-1]
    assert gankit("resume", "r", "--steps", 8, "--loss", f"{NAME}=0").code == 0
    assert f"loss/{NAME}" not in timeless(Path("r"))[-1]
    assert gankit("sample", "r", "-n", 4).code == 0


def test_points_have_no_critic(gankit: Gankit) -> None:
    said = gankit("run", "began", "--plugin", RING, "--data", "ring:256", "--set", "networks=dense", "--steps", 1,
                  "--set", "latent=2", "--loss", f"{NAME}=1", "--loss", "imle=0", "--out", "r")  # fmt: skip
    refused(said, NAME, "points")
    assert not Path("r").exists()


NAMESAKE = """
import gankit
from torch import nn

class Generator(gankit.LossTerm):
    name = "generator"
    def build(self, seen):
        return nn.Linear(1, 1)
    def __call__(self, step):
        return step.fake.mean()

@gankit.hookimpl
def gankit_losses():
    return [Generator]
"""


def test_a_term_whose_network_has_the_name_of_the_models_is_refused(gankit: Gankit) -> None:
    Path("namesake.py").write_text(NAMESAKE)
    said = gankit(
        "run", "began", *DATA, *SMALL, "--steps", 1, "--plugin", "namesake.py", "--loss", "generator=1", "--out", "r"
    )
    refused(said, "generator", "name")
    assert not Path("r").exists()


def test_a_network_without_a_loss_is_told_before_anything_is_written(gankit: Gankit) -> None:
    Path("idle.py").write_text(NAMESAKE.replace('"generator"', '"idle"'))
    said = gankit("run", "began", *DATA, *SMALL, "--steps", 1, "--plugin", "idle.py", "--loss", "idle=1", "--out", "r")
    assert said.code == 1
    assert "own_loss" in said.err
    assert not Path("r").exists()
