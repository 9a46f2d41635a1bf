"""EBGAN as a gankit plugin: the model, its margin, and the pulling-away term for any model."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl


@hookimpl
def gankit_models() -> list[Any]:
    from gankit_ebgan.model import EBGAN

    return [EBGAN]


@hookimpl
def gankit_losses() -> list[Any]:
    from gankit_ebgan.pulling_away import PullingAway

    return [PullingAway]


@hookimpl
def gankit_controllers() -> list[Any]:
    from gankit_ebgan.model import Margin

    return [Margin]
