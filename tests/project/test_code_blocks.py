"""Every code block of the pages runs, here or where `PYTHON` says; commands are read by the real command line.

A command is not executed, because most would train for minutes: its words are parsed, and the settings of a training
are resolved to the configuration that it would have.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import ROOT, with_few
from PIL import Image

import gankit
from gankit import api
from gankit.catalogue import Catalogue
from gankit.cli import cli
from gankit.cli.run import _model_and_data
from gankit.comparison import arms
from gankit.config.file import read_file
from gankit.config.request import RunRequest
from gankit.config.resolve import resolve

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in sorted(ROOT.glob(pattern))
}
PYTHON = {  # page -> what runs its blocks of Python and TOML
    "README.md": ("tests/project/test_code_blocks.py", "test_the_python_of_the_readme_runs"),
    "README.ja.md": ("tests/project/test_code_blocks.py", "test_the_japanese_readme_has_the_same_python"),
    "docs/settings.md": ("tests/project/test_code_blocks.py", "test_the_file_of_settings_is_one"),
    "docs/plugins/index.md": ("tests/project/test_code_blocks.py", "test_the_blocks_of_the_page_on_plugins_run"),
    "docs/plugins/testing.md": ("tests/project/test_code_blocks.py", "test_the_classes_of_the_page_on_checks_exist"),
    "docs/plugins/tutorial.md": ("tests/plugins/test_cookbook.py", "test_who_follows_the_tutorial_has_a_tidy_package"),
    "docs/plugins/cookbook.md": ("tests/plugins/test_cookbook.py", "test_every_recipe_is_tried"),
    "docs/plugins/reference.md": ("tests/plugins/test_conformance.py", "test_the_example_of_a_base_class"),
}
NOT_GANKIT = {  # first word -> why its lines are not run
    ".": "activates the environment that make has built",
    "eval": "TAB in a shell: tests/cli/test_complete.py",
    "_GANKIT_COMPLETE=fish_source": "TAB in a shell: tests/cli/test_complete.py",
    "pytest": "tests/plugins/test_cookbook.py runs it in the tutorial's package",
    "cd": "the tests of the tutorial write into the package's folder",
    "ruff": "tests/plugins/test_cookbook.py runs it on the tutorial's package",
    "twine": "uploads to a registry",
    "tensorboard": "serves until it is stopped",
}
EXAMPLES = sorted(str(file.parent) for file in ROOT.glob("examples/plugins/*/pyproject.toml"))
OF_A_RECIPE = {"best"}  # commands of recipes, which tests/plugins/test_cookbook.py runs


def fenced(page: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[str]:
    """The command lines of a page: of blocks of `sh`, and those that are set as code by four spaces."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    ((?:OMP_NUM_THREADS=1 )?(?:gankit|python|make) (?:.*\\\n)*.*)", prose, re.MULTILINE)
    for text in [*(text for language, text in fenced(page) if language == "sh"), *indented]:
        for line in text.replace("\\\n", " ").splitlines():
            if words(line):
                yield line.strip()


def words(line: str) -> list[str]:
    """The words of a command, without a comment, an elision at its end and settings of the environment."""
    found = shlex.split(re.sub(r" (…|\(.*\))$", "", line), comments=True)
    return found[1:] if found and found[0].startswith("OMP_NUM_THREADS=") else found


def check(line: str) -> None:
    """Raise for a command line that cannot be run."""
    first, *rest = words(line)
    if first == "gankit":
        parse(rest)
    elif first == "torchrun":
        parse(rest[rest.index("gankit") + 1 :])
    elif first == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in rest if "=" not in word), line
    elif first.startswith("python") and rest[0] != "-m":
        flags = [word for word in rest[1:] if word.startswith("--")]
        code = (ROOT / rest[0]).read_text(encoding="utf-8")
        assert all(f'"{flag}"' in code for flag in flags), line
    elif first == "pip":
        folders = [word for word in rest if word.startswith("examples/")]
        assert all((ROOT / folder / "pyproject.toml").is_file() for folder in folders), line
    else:
        assert first.startswith("python") or first in NOT_GANKIT, f"{line}: say in NOT_GANKIT why it is not run"


def parse(arguments: list[str]) -> None:
    """Raise for arguments of `gankit` that it would refuse before it looks at a run or at pictures."""
    if arguments[0] in OF_A_RECIPE:
        return
    context, command = (
        click.Context(cli, info_name="gankit", **cli.context_settings),
        cli.get_command(click.Context(cli), arguments[0]),
    )
    name, rest = arguments[0], arguments[1:]
    if isinstance(command, click.Group) and rest:
        name, rest = f"{name} {rest[0]}", rest[1:]
        command = command.get_command(context, name.split()[1])
    assert command is not None, f"there is no command {name}"
    if "--help" in rest:
        return
    given = dict(command.make_context(name, rest, parent=context).params)
    plugins = given.pop("plugins", ())
    if name == "run" and not plugins and given["config_file"] is None:
        model, data = _model_and_data(given.pop("words"), given.pop("data"), EXAMPLES)
        settle(model, data, given)
    elif name == "resume":
        settle("began", "demo", given)
    elif name == "compare":
        for arm in arms.parse(given["models"]):
            catalogue().get("models", arm.model)


@cache
def catalogue() -> Catalogue:
    """The installed plugins, and the examples."""
    return Catalogue(EXAMPLES)


def settle(model: str | None, data: str | None, options: dict[str, Any]) -> None:
    """The whole configuration of a run, as before its data are read."""
    settings = {name: value for name, value in options.items() if name in RunRequest.model_fields}
    model, request, _ = api._requested(model or api.MODEL, data, None, EXAMPLES, settings)
    resolve(model, request, catalogue())


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if list(commands(text))])
def test_the_commands_of_every_page_are_understood(page: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("gankit.cluster.connection.reachable", lambda address: None)  # no cluster is here
    for line in commands(PAGES[page]):
        try:
            check(line)
        except (click.ClickException, gankit.UserError) as error:
            raise AssertionError(f"{line}: {error}") from error


@pytest.mark.parametrize(
    "line",
    [
        "gankit nosuch",
        "gankit sample RUN --nosuch",
        "gankit sample",
        "gankit plugins nosuch",
        "gankit run began --data ./x --gama 0.7",
        "gankit run began --data ./x --set balance.flor=0.1",
        "OMP_NUM_THREADS=1 gankit run began --data ./x --loss nosuch=1   # a comment",
        "gankit run nosuch --data ./x",
        "gankit resume RUN --gamma 7",
        "gankit compare began:gamma",
        "gankit compare nosuch began",
        "torchrun --standalone -m gankit run began --data ./x --nosuch 1",
        "make nosuch",
        "python benchmarks/nosuch.py",
        "python benchmarks/speed.py --nosuch",
        "pip install examples/plugins/nosuch",
        "curl something",
    ],
)
def test_a_command_that_cannot_be_run_is_seen(line: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    (found,) = commands(f"```sh\n{line}\n```\n")
    with pytest.raises((click.ClickException, gankit.UserError, AssertionError, OSError)):
        check(found)


def test_every_block_has_a_language_and_something_that_runs_it():
    for page, text in PAGES.items():
        languages = {language for language, _ in fenced(text)}
        assert languages <= {"sh", "python", "toml", "text", "md"} or page == "docs/plugins/reference.md", page
        assert (page in PYTHON) == bool(languages & {"python", "toml"}), page
    for file, test in PYTHON.values():
        assert f"\ndef {test}" in (ROOT / file).read_text(encoding="utf-8"), test


def blocks(page: str, language: str) -> list[str]:
    return [text for one, text in fenced(PAGES[page]) if one == language]


def test_the_python_of_the_readme_runs(monkeypatch, tmp_path: Path, undrawn):
    """As it stands, but for settings that make it small."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "irasutoya").mkdir()
    for place in range(220):
        Image.new("RGB", (20, 20), (place, 255 - place, 90)).save(tmp_path / f"irasutoya/{place}.png")
    small = {"steps": 4, "batch_size": 4, "precision": "fp32", "log_every": 1, "set": {"filters": 4, "latent": 8}}
    run, compare = gankit.run, gankit.compare
    monkeypatch.setattr(gankit, "run", lambda *given, **more: run(*given, **more | small))
    few = {**small, "seeds": 1, "samples": 50, "image_size": 16}
    monkeypatch.setattr(gankit, "compare", lambda *given, **more: compare(*given, **more | few))
    with_few(monkeypatch)
    (code,) = blocks("README.md", "python")
    space: dict[str, Any] = {}
    exec(code, space)
    assert space["run"].config["model"]["gamma"] == 0.7
    shape = re.search(r"\((\d.*?)\)", code.partition("a tensor")[2])
    assert shape
    assert str(tuple(space["run"].sample(16).shape)) == f"({shape[1]})"
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_the_japanese_readme_has_the_same_python():
    english, japanese = (
        [re.sub(r" *#.*", "", text) for text in blocks(page, "python")] for page in ("README.md", "README.ja.md")
    )
    assert english == japanese


def test_the_file_of_settings_is_one(tmp_path: Path):
    (text,) = blocks("docs/settings.md", "toml")
    file = tmp_path / "mine.toml"
    file.write_text(text)
    config = resolve("began", read_file(file, (), catalogue(), None, lambda: "began"), catalogue())
    assert (config.steps, config.losses["imle"]["weight"], config.controllers["balance"]["floor"]) == (40_000, 0.2, 0.1)
    assert "augment" in config.views


def test_the_blocks_of_the_page_on_plugins_run():
    model, options, curves = blocks("docs/plugins/index.md", "python")
    space: dict[str, Any] = {}
    exec(f"import gankit\nfrom pydantic import Field\n{options}\nclass Shown(gankit.Model):\n{curves}", space)
    assert space["Blur"].Options is space["BlurOptions"]
    assert all(f'"{name}"' in model for name in space["Shown"].curves)  # readings of the model above
    (table,) = blocks("docs/plugins/index.md", "toml")
    ((name, module),) = tomllib.loads(table)["project"]["entry-points"]["gankit"].items()
    assert f'name = "{name}"' in model
    assert model.startswith(f'"""{module}.py')


def test_the_classes_of_the_page_on_checks_exist():
    (code,) = blocks("docs/plugins/testing.md", "python")
    space: dict[str, Any] = {}
    exec(code, space)
    made = [one for name, one in space.items() if name.startswith("TestMy")]
    assert len(made) == 2
    for one in made:
        assert all(hasattr(one.__base__, name) for name in vars(one) if not name.startswith("__"))
