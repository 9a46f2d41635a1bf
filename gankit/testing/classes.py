"""A pytest class for each kind of component, with the kit's checks as tests.

Class attributes: `name`; `plugins`, files or modules that are not installed, as for `--plugin`; `model`, the model to
test the component with; `options`, as for `gankit.run`: {"image_size": 32, "set": {"filters": 8}}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from gankit.testing.checks import CHECKS, Check
from gankit.testing.subject import Subject


class _Tests:
    kind: ClassVar[str]
    name: ClassVar[str] = ""
    plugins: ClassVar[Sequence[str]] = ()
    model: ClassVar[str | None] = None
    options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def subject(self, tmp_path: Path, gankit_cache: Path) -> Iterator[Subject]:
        """The component; with one thread, because the networks are tiny."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield Subject(self.kind, self.name, tmp_path, self.plugins, self.model, self.options)
        torch.set_num_threads(threads)


def _test(check: Check) -> Any:
    def test(self: Any, subject: Subject) -> None:
        why_not = check(subject)
        if why_not:
            pytest.skip(why_not)

    test.__doc__ = check.__doc__
    return test


def _class(name: str, kind: str) -> Any:
    tests = {f"test_it_{check.__name__}": _test(check) for check in CHECKS[kind]}
    return type(name, (_Tests,), {"kind": kind, "__doc__": f"What {kind} promise.", "__module__": __name__, **tests})


ModelTests: Any = _class("ModelTests", "models")
NetworkTests: Any = _class("NetworkTests", "networks")
LossTests: Any = _class("LossTests", "losses")
ControllerTests: Any = _class("ControllerTests", "controllers")
DiagnosticTests: Any = _class("DiagnosticTests", "diagnostics")
ReactionTests: Any = _class("ReactionTests", "reactions")
ViewTests: Any = _class("ViewTests", "views")
ArtifactTests: Any = _class("ArtifactTests", "artifacts")
DatasetTests: Any = _class("DatasetTests", "datasets")
CommandTests: Any = _class("CommandTests", "commands")
