"""The package's hooks for gankit. Every command imports this file, so import torch inside the hooks."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl

GANKIT_HOOKS = 2  # the version of gankit's hooks for this plugin


@hookimpl
def gankit_models() -> list[Any]:
    from gankit_wgan_gp.model import WganGp

    return [WganGp]
