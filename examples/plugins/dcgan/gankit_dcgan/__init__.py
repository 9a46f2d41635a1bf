"""DCGAN's networks and the non-saturating loss with R1, as a gankit plugin."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl

GANKIT_HOOKS = 2  # the version of gankit's hooks for this plugin


@hookimpl
def gankit_models() -> list[Any]:
    from gankit_dcgan.model import DCGAN

    return [DCGAN]


@hookimpl
def gankit_networks() -> list[Any]:
    from gankit_dcgan.networks import DCGANPair

    return [DCGANPair]
