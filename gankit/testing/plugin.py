"""The fixtures of the pytest plugin. Every pytest run on the machine imports it, so it imports little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Said:
    """A command's exit code and output."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def gankit_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A picture cache for the session, without the user's environment variables."""
    folder = tmp_path_factory.mktemp("gankit-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANKIT_CACHE", str(folder))
        patch.delenv("GANKIT_DISABLE_PLUGINS", raising=False)
        patch.delenv("GANKIT_STRICT", raising=False)
        yield folder


@pytest.fixture
def gankit_cli(
    gankit_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Said]:
    """`gankit_cli("run", "began", …)` calls the command line in this process, in the test's empty folder.

    An uncaught exception fails the test.
    """
    import sys

    from gankit.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["gankit", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, out, err)

    return call


@pytest.fixture
def gankit_training(gankit_cache: Path) -> Callable[..., Any]:
    """`gankit_training(model, plugins, options)`: a training in memory at step 0, and its batches."""
    from gankit.testing.subject import training

    return training
