"""A class-conditional GAN as a gankit plugin."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl

GANKIT_HOOKS = 2  # the version of gankit's hooks for this plugin


@hookimpl
def gankit_models() -> list[Any]:
    from gankit_class_conditional.model import ClassConditional

    return [ClassConditional]
