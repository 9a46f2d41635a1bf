"""R3GAN and a cosine schedule of learning rates, as a gankit plugin."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl

GANKIT_HOOKS = 2  # the version of gankit's hooks for this plugin


@hookimpl
def gankit_models() -> list[Any]:
    from gankit_r3gan.model import R3GAN

    return [R3GAN]


@hookimpl
def gankit_controllers() -> list[Any]:
    from gankit_r3gan.schedule import Cosine

    return [Cosine]
