"""BEGAN as a gankit plugin: the model, its networks and controllers, diagnostics, and loss terms for any model."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl


@hookimpl
def gankit_models() -> list[Any]:
    from gankit_began.model import BEGAN

    return [BEGAN]


@hookimpl
def gankit_networks() -> list[Any]:
    from gankit_began.networks import BeganAutoencoder

    return [BeganAutoencoder]


@hookimpl
def gankit_losses() -> list[Any]:
    from gankit_began.critic import Critic
    from gankit_began.terms import EnergyDistance, ImplicitLikelihood, LatentClosing, ModeRegulariser

    return [Critic, EnergyDistance, ImplicitLikelihood, LatentClosing, ModeRegulariser]


@hookimpl
def gankit_diagnostics() -> list[Any]:
    from gankit_began.k_alarms import Equilibrium

    return [Equilibrium]


@hookimpl
def gankit_controllers() -> list[Any]:
    from gankit_began.balance import Balance, Halving, Pace, ProportionalIntegral

    return [Balance, ProportionalIntegral, Halving, Pace]
