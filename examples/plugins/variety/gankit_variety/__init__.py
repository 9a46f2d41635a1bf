"""Loss terms and a view for any model they fit, as a gankit plugin."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl

GANKIT_HOOKS = 2  # the version of gankit's hooks for this plugin


@hookimpl
def gankit_losses() -> list[Any]:
    from gankit_variety.terms import Consistency, ModeSeeking

    return [ModeSeeking, Consistency]


@hookimpl
def gankit_views() -> list[Any]:
    from gankit_variety.views import InstanceNoise

    return [InstanceNoise]
