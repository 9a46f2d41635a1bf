"""WGAN-GP as a gankit plugin."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl

GANKIT_HOOKS = 2  # the version of gankit's hooks for this plugin


@hookimpl
def gankit_models() -> list[Any]:
    from gankit_wgan_gp.model import WGANGP

    return [WGANGP]
