"""What is released: the wheel holds all that gankit needs, and the source distribution builds the same wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("hatchling", reason="no hatchling: pip install 'gankit[dev]'")
TINY = ("--image-size", 16, "--batch-size", 4, "--set", "filters=4", "--steps", 2, "--artifact", "report")


def done(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What a program prints; it must end well."""
    ended = subprocess.run([str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, as `make release` builds them."""
    folder = tmp_path_factory.mktemp("released")
    done(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


def test_the_citation_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_source_distribution_builds_the_same_wheel(released: Path, tmp_path: Path) -> None:
    (wheel,), (source,) = released.glob("*.whl"), released.glob("*.tar.gz")
    with tarfile.open(source) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again", cwd=unpacked)
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_wheel_holds_every_file_of_the_packages(released: Path) -> None:
    (wheel,) = released.glob("*.whl")
    packages = (ROOT / "gankit", *ROOT.glob("plugins/*/gankit_*"))
    held = {
        path.relative_to(package.parent).as_posix()
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == held
    assert {f"{package.name}/py.typed" for package in packages} <= held  # type checkers believe the types of a user's


def test_the_wheel_works_in_an_environment_of_its_own(released: Path, tmp_path: Path) -> None:
    """Nothing of this checkout is on its path; torch and the like are taken from here, as they are not gankit's."""
    done(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (wheel,) = released.glob("*.whl")

    def do(program: str, *arguments: object) -> str:
        return done(tmp_path / "venv" / "bin" / program, *arguments, cwd=tmp_path, env=environment)

    def install(*what: object) -> None:
        alone = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
        do("python", "-m", "pip", "--python", tmp_path / "venv" / "bin" / "python", "install", *alone, *what)

    install(wheel)
    do("gankit", "run", "began", "--data", "demo:60", *TINY, "--out", "run")
    assert "<figure" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        assert "share.html" in do("gankit", "share", "run")
    do("gankit", "plugins", "new", "fresh")
    install("-e", "fresh")
    listed = do("gankit", "plugins", "list")
    assert "fresh  (gankit-fresh 0.1.0, gankit_fresh)\n    model fresh\n" in listed
    do("gankit", "run", "fresh", "--data", "demo:60", *TINY[:-2], "--artifact", "csv", "--out", "fresh-run")
    code = "import gankit, gankit_began, gankit_fresh as f; print(gankit.__file__, gankit_began.__file__, f.__file__)"
    assert do("python", "-c", code).split() == [
        f"{site}/gankit/__init__.py",
        f"{site}/gankit_began/__init__.py",
        f"{tmp_path}/fresh/gankit_fresh/__init__.py",
    ]
    # gankit's pytest plugin is found by its entry point: the new package's tests have their fixtures.
    assert "gankit_cli" in do("python", "-m", "pytest", "--setup-plan", "-p", "no:cacheprovider", "fresh")
