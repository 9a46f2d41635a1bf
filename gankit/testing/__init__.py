"""The conformance kit for plugins: checks that `gankit plugins check` runs, and pytest classes with the same checks.

    from gankit.testing import ModelTests

    class TestMyGAN(ModelTests):
        name = "my-gan"

A class for each kind: `ModelTests`, `NetworkTests`, `LossTests`, `ControllerTests`, `DiagnosticTests`,
`ReactionTests`, `ViewTests`, `ArtifactTests`, `DatasetTests`, `CommandTests`. The fixtures come with the pytest plugin:
`gankit_cli` calls the command line, `gankit_training` builds a training in memory.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {"Subject": "subject", "Failed": "subject", "training": "subject"}  # the others: classes
__all__ = [
    "ArtifactTests",
    "CommandTests",
    "ControllerTests",
    "DatasetTests",
    "DiagnosticTests",
    "Failed",
    "LossTests",
    "ModelTests",
    "NetworkTests",
    "ReactionTests",
    "Subject",
    "ViewTests",
    "training",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gankit.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"gankit.testing.{_HOME.get(name, 'classes')}"), name)
