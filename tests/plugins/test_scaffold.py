"""`gankit plugins new` writes a package that works before a line of it is changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Gankit, contents, lines, read, refused

from gankit import UserError
from gankit.cli import cli
from gankit.scaffold import HOOKS, LONGEST, create
from gankit.testing.check import check

TINY = ("--image-size", 16, "--batch-size", 4, "--steps", 2, "--log-every", 1, "--out", "run")
USED = {  # a first run with a package of each kind, and its trace in the run
    "model": (("run", "fresh", "--data", "demo:60", "--set", "filters=4"), "fresh/margin"),
    "loss": (("run", "began", "--data", "demo:60", "--set", "filters=4", "--loss", "fresh=0.01"), "term/fresh"),
    "controller": (("run", "began", "--data", "demo:60", "--set", "filters=4", "--controller", "fresh"), None),
    "diagnostic": (("run", "began", "--data", "demo:60", "--set", "filters=4", "--diagnostic", "fresh"), None),
    "dataset": (("run", "began", "--data", "fresh:60", "--set", "filters=4"), None),
    "logger": (("run", "began", "--data", "demo:60", "--set", "filters=4", "--artifact", "fresh"), None),
    "networks": (("run", "began", "--data", "demo:60", "--set", "networks=fresh"), None),
    "view": (("run", "began", "--data", "demo:60", "--set", "filters=4", "--view", "fresh"), None),
    "reaction": (("run", "began", "--data", "demo:60", "--set", "filters=4", "--on-alarm", "fresh"), None),
    "command": (("run", "began", "--data", "demo:60", "--set", "filters=4"), None),
}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for new packages; `installed` installs one of them as pip would."""
    vars(cli).pop("_catalogue", None)  # of an earlier test in this process
    yield tmp_path
    vars(cli).pop("_catalogue", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "gankit_fresh"]:
        del sys.modules[name]


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install -e` leaves it: the folder on the path, and the entry point of its pyproject.toml."""
    metadata = folder / "gankit_fresh-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gankit-fresh\nVersion: 0.1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[gankit]\nfresh = gankit_fresh\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.parametrize("kind", HOOKS)
def test_a_new_package_is_installed_and_used_without_an_edit(
    gankit: Gankit, fresh: Path, monkeypatch, undrawn, kind: str
) -> None:
    said = gankit("plugins", "new", "fresh", "--kind", kind)
    assert said.code == 0
    assert "pip install -e fresh" in said.out
    written = [path.relative_to(fresh) for path in (fresh / "fresh").rglob("*.*") if path.is_file()]
    assert len(written) == 5
    assert all(f"  {path}\n" in said.out for path in written)
    installed(fresh / "fresh", monkeypatch)
    command, shown = USED[kind]
    assert " ".join(command[1:2]) in said.out or kind == "command"
    made = gankit(*command, *TINY)
    assert made.code == 0, made.err
    if shown:
        assert shown in lines(fresh / "run")[0]
    if kind == "command":
        assert "loss/generator  " in gankit("fresh", "run").out
    if kind == "logger":
        assert (fresh / "run/fresh.csv").read_text().startswith("1,images,4\n")


def test_parts_of_several_kinds_come_in_one_package_and_work_together(
    gankit: Gankit, fresh: Path, monkeypatch, undrawn
):
    kinds = ("loss", "diagnostic", "model", "controller", "loss")
    said = gankit("plugins", "new", "fresh", *(word for kind in kinds for word in ("--kind", kind)))
    assert said.code == 0
    assert "Change fresh/gankit_fresh/model.py into yours" in said.out
    installed(fresh / "fresh", monkeypatch)
    made = gankit("run", "fresh", "--data", "demo:60", "--set", "filters=4", "--loss", "fresh-r1=0.1", *TINY)
    assert made.code == 0, made.err
    assert {"fresh/margin", "term/fresh-r1"} <= lines(fresh / "run")[0].keys()
    settled = read(fresh / "run" / "config.json")
    assert {"fresh-warm-up", "fresh-spread"} <= {*settled["controllers"], *settled["diagnostics"]}
    said = gankit("plugins", "check", "fresh", "--set", "filters=4")
    assert said.code == 0, said.out


@pytest.mark.parametrize("kind", ["model", "loss"])
def test_a_new_package_says_what_is_in_it_and_is_used_by_its_folder(
    gankit: Gankit, fresh: Path, monkeypatch, undrawn, kind: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    told = {"model": "a small convolutional GAN with the non-saturating loss", "loss": "the gradient penalty R1"}[kind]
    said = gankit("plugins", "new", "fresh", "--kind", kind)
    assert f"not yet what its name says, but {told}" in said.out
    assert "--plugin fresh" in said.out
    assert told in (fresh / "fresh" / "README.md").read_text()
    command, shown = USED[kind]
    hint = "The folder fresh is a plugin that is not installed: add --plugin fresh, or pip install -e fresh"
    refused(gankit(*command, *TINY), hint)
    if kind == "model":
        refused(gankit("run", "fresh"), hint)  # a folder, but none of pictures
    made = gankit(*command, *TINY, "--plugin", "fresh")
    assert made.code == 0, made.err
    assert shown in lines(fresh / "run")[0]
    assert read(fresh / "run" / "config.json")["plugins"] == ["fresh"]
    assert gankit("sample", "run", "-n", 1, "--plugin", "./fresh/").code == 0
    assert "fresh" in gankit("plugins", "list", "--plugin", "fresh").out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "empty is no file"),
        ("[project]\nname = 'empty'\n", "empty is no file"),
        (
            "[project.entry-points.gankit]\nempty = 'no_such_module'\n",
            "No module named 'no_such_module'",
        ),
    ],
)
def test_a_folder_that_is_no_plugin_is_refused_in_one_line(gankit: Gankit, tmp_path: Path, monkeypatch, text, words):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "empty").mkdir()
    if text:
        (tmp_path / "empty" / "pyproject.toml").write_text(text)
    refused(gankit("run", "began", "--data", "demo", "--plugin", "empty"), "--plugin empty cannot be used", words)


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("name", ["a", "my-first-gan", "-".join(["abcdef"] * 5)])
def test_a_new_package_passes_its_own_linting_and_is_formatted(fresh: Path, kind: str, name: str) -> None:
    assert len("-".join(["abcdef"] * 5)) == LONGEST - 1
    folder = create(name, [kind], fresh)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(folder)]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", ["logger", *(pytest.param(kind, marks=pytest.mark.slow) for kind in HOOKS)])
def test_a_new_package_passes_its_own_tests_and_the_conformance_kit(
    fresh: Path, monkeypatch, gankit_cache, kind: str
) -> None:
    folder = create("fresh", [kind], fresh)
    installed(folder, monkeypatch)
    loaded = ["-p", "gankit.testing.plugin"] if not _by_entry_point() else []
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *loaded]
    done = subprocess.run(tests, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said: list[str] = []
    assert check("fresh", (), said.append), "\n".join(said)


def test_a_new_package_is_checked_within_its_own_folder(gankit: Gankit, fresh: Path, monkeypatch) -> None:
    """Where its code's folder has the name of its module."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(create("fresh", ["view"], fresh))
    said = gankit("plugins", "check", ".")
    assert said.code == 0, said.err + said.out


@pytest.mark.parametrize("package", ["new", "examples/plugins/wgan-gp"])
def test_a_package_is_published_without_the_runs_that_were_made_in_it(tmp_path: Path, package: str) -> None:
    folder = create("fresh", ["model"], tmp_path) if package == "new" else tmp_path / "example"
    if package != "new":
        shutil.copytree(ROOT / package, folder)
    (folder / "runs" / "fresh").mkdir(parents=True)
    (folder / "runs" / "fresh" / "config.json").write_text("{}", encoding="utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = [name.partition("/")[2] for name in file.getnames()]
    assert "pyproject.toml" in names
    assert not [name for name in names if name.startswith("runs")]


def _by_entry_point() -> bool:
    from importlib.metadata import entry_points

    return any(entry.value == "gankit.testing.plugin" for entry in entry_points(group="pytest11"))


def test_the_pytest_plugin_is_an_entry_point_of_gankit_s() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"gankit": "gankit.testing.plugin"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My GAN", "'My GAN' is no name for a plugin: write lower-case words joined by hyphens"),
        ("3d-gan", "'3d-gan' is no name for a plugin"),
        ("../gan", "is no name for a plugin"),
        ("x" * (LONGEST + 1), f"at most {LONGEST} letters"),
        ("ebgan", "'ebgan' would be imported as 'gankit_ebgan', which a package here has"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_one_line(gankit: Gankit, tmp_path: Path, name: str, words: str) -> None:
    refused(gankit("plugins", "new", name), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("none", "view", "'none' would make a class 'None', a name that Python or gankit uses"),
        ("losses", "model", "'losses' would make a class 'Losses'"),
        ("autoencoder", "networks", "'autoencoder' would make a class 'Autoencoder'"),
        ("return", "reaction", "'return' would make a class 'Return'"),
        ("run", "command", "command 'run' is gankit's own: choose another name"),
    ],
)
def test_a_name_that_would_hide_another_is_refused(tmp_path: Path, name: str, kind: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        create(name, [kind], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_component_s_name_that_is_taken_is_refused(gankit: Gankit) -> None:
    refused(
        gankit("plugins", "new", "imle", "--kind", "loss"), "loss term 'imle' is there already, of 'began' (gankit "
    )


def test_nothing_is_overwritten(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "mine.txt").write_text("years of work", encoding="utf-8")
    before = contents(tmp_path)
    refused(gankit("plugins", "new", "fresh"), "fresh exists, and nothing is overwritten")
    assert contents(tmp_path) == before


def test_a_package_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    from gankit import UserError

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(UserError, match="fresh cannot be written: No space left on device"):
            create("fresh", ["model"], tmp_path)
    assert list(tmp_path.iterdir()) == []
