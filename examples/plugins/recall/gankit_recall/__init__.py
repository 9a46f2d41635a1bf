"""A controller of gamma by what a diagnostic measures, as a gankit plugin."""

from __future__ import annotations

from typing import Any

from gankit import hookimpl

GANKIT_HOOKS = 2  # the version of gankit's hooks for this plugin


@hookimpl
def gankit_controllers() -> list[Any]:
    from gankit_recall.controller import RecallGamma

    return [RecallGamma]
