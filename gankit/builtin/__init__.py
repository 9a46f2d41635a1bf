"""The core's own components and commands, offered through the hooks of plugins."""

from __future__ import annotations

from typing import Any

from gankit.hookspecs import hookimpl

COMMANDS = {  # name -> what it does; each lives in gankit/cli/NAME.py
    "run": "Train a model on pictures into a new run folder.",
    "resume": "Go on with a run, to the bit with as many threads, or with other settings.",
    "compare": "Compare models on the same pictures, over several seeds.",
    "sweep": "Try many combinations of settings, and tell the best.",
    "sample": "Draw pictures with a run's generator.",
    "interpolate": "Show the way from one latent to another.",
    "invert": "Find the latents of pictures.",
    "share": "Write one page that draws new pictures by itself.",
    "export": "Write a folder to hand on, with a model card.",
    "score": "Order pictures by reconstruction error, outliers first.",
    "explore": "Look at runs in a browser, with pictures of your own.",
    "evaluate": "Measure a run's pictures, or those of any folder.",
    "data": "Look at a folder of pictures before a training.",
    "runs": "List the runs below a folder.",
    "animate": "Make an animation of a run's samples.",
    "report": "Write a run's report.html anew.",
    "plugins": "List the plugins, begin a new one, check one.",
    "doctor": "Say what is here, and what is wrong.",
}


@hookimpl
def gankit_datasets() -> list[Any]:
    from gankit.data import Demo, Folder, StackedDigits

    return [Demo, Folder, StackedDigits]


@hookimpl
def gankit_diagnostics() -> list[Any]:
    from gankit.builtin.cleanliness import Cleanliness
    from gankit.builtin.mode_collapse import ModeCollapse
    from gankit.builtin.reconstruction_errors import ReconstructionErrors
    from gankit.builtin.vitals import Vitals

    return [Cleanliness, ModeCollapse, ReconstructionErrors, Vitals]


@hookimpl
def gankit_networks() -> list[Any]:
    from gankit.builtin.networks import StridedAutoencoder

    return [StridedAutoencoder]


@hookimpl
def gankit_reactions() -> list[Any]:
    from gankit.builtin.reactions import End, Rescue, Warn

    return [End, Rescue, Warn]


@hookimpl
def gankit_views() -> list[Any]:
    from gankit.builtin.views import Augment, Packing

    return [Augment, Packing]


@hookimpl
def gankit_artifacts() -> list[Any]:
    from gankit.builtin.artifacts import Animation, Csv, Losses, Report, TensorBoard

    return [Animation, Csv, Losses, Report, TensorBoard]
