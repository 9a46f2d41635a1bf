"""What the core itself offers, through the same hooks as a stranger's plugin."""

from __future__ import annotations

from typing import Any

from gankit.hookspecs import hookimpl


@hookimpl
def gankit_datasets() -> list[Any]:
    from gankit.data import Demo, Folder, StackedDigits

    return [Demo, Folder, StackedDigits]


@hookimpl
def gankit_diagnostics() -> list[Any]:
    from gankit.cleanliness import Cleanliness
    from gankit.reconstruction import ReconstructionErrors
    from gankit.vitals import Vitals

    return [Cleanliness, ReconstructionErrors, Vitals]


@hookimpl
def gankit_networks() -> list[Any]:
    from gankit.networks import StridedAutoencoder

    return [StridedAutoencoder]


@hookimpl
def gankit_reactions() -> list[Any]:
    from gankit.reactions import Rescue, Stop, Warn

    return [Rescue, Stop, Warn]


@hookimpl
def gankit_views() -> list[Any]:
    from gankit.views import Augment, Packing

    return [Augment, Packing]


@hookimpl
def gankit_artifacts() -> list[Any]:
    from gankit.report.artifacts import Animation, Csv, Losses, Report, TensorBoard

    return [Animation, Csv, Losses, Report, TensorBoard]
