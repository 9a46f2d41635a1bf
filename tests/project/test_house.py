"""Promises of the code's structure: imports go one way, and no file or function is too long."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

HOUSE = ROOT / "gankit"
FILES_AT_THE_ROOT, LINES_OF_A_FUNCTION, LINES_OF_A_FILE = 12, 60, 400

# Exceptions that are too long. A shortened one must leave this list.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


def sources(house: Path) -> dict[str, str]:
    """The text of each file of the package, by its path there; without the templates of `plugins new`."""
    files = sorted(path for path in house.rglob("*.py") if "templates" not in path.parts)
    return {path.relative_to(house).as_posix(): path.read_text(encoding="utf-8") for path in files}


def imports(house: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports: at its top, in a function, or for type checkers alone.

    The package itself is left out: its `__init__` only lists public names, resolved at their first use.
    """
    texts = {module(house.name, path): text for path, text in sources(house).items()}
    arrows: dict[str, set[str]] = {}
    for here, text in texts.items():
        found = arrows[here] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{here}: `from {'.' * node.level}` hides what is imported"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {name if name in texts else node.module or "" for name in names}
        found &= texts.keys() - {here, house.name}
    arrows.pop(house.name, None)
    return arrows


def module(package: str, path: str) -> str:
    parts = (package, *path.removesuffix(".py").split("/"))
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle, the first one again at the end; [] where there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def long_files(house: Path) -> set[str]:
    return {path for path, text in sources(house).items() if len(text.splitlines()) > LINES_OF_A_FILE}


def long_functions(house: Path) -> set[str]:
    return {
        f"{path}: {node.name}"
        for path, text in sources(house).items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LINES_OF_A_FUNCTION
    }


def test_no_import_leads_back_to_where_it_began():
    arrows = imports(HOUSE)
    assert sum(map(len, arrows.values())) > 200
    assert circle(arrows) == []


def test_few_files_stand_at_the_root():
    assert len([path for path in sources(HOUSE) if "/" not in path]) <= FILES_AT_THE_ROOT


def test_no_file_and_no_function_is_too_long_but_those_that_are_named():
    assert long_files(HOUSE) == LONG_FILES
    assert long_functions(HOUSE) == LONG_FUNCTIONS


# The checks above can fail.


@pytest.fixture
def house(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "room").mkdir(parents=True)
    for name in ("__init__", "a", "b", "room/__init__", "room/c"):
        (folder / f"{name}.py").write_text("")
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "import home.b",
        "from home import b",
        "from home.b import name",
        "def f():\n    from home.b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from home.b import name",
    ],
)
@pytest.mark.parametrize("way", ["from home.a import name", "from home.room.c import name"])
def test_a_circle_is_seen_however_it_is_imported(house: Path, text: str, way: str):
    (house / "a.py").write_text(text)
    (house / "room/c.py").write_text("from home import a, b")
    assert circle(imports(house)) == []
    (house / "b.py").write_text(way)
    assert {"home.a", "home.b"} <= set(circle(imports(house)))


def test_a_room_is_a_module_as_well(house: Path):
    (house / "room/__init__.py").write_text("from home.a import name")
    (house / "a.py").write_text("from home.room import c, name")
    assert set(circle(imports(house))) == {"home.a", "home.room"}


def test_the_names_of_the_whole_package_are_no_arrow(house: Path):
    (house / "__init__.py").write_text("from home.a import name")
    (house / "a.py").write_text("import home\nfrom home import name")
    assert circle(imports(house)) == []


def test_one_line_more_is_too_long(house: Path):
    (house / "a.py").write_text("\n" * LINES_OF_A_FILE)
    (house / "b.py").write_text("def f():\n" + "    pass\n" * (LINES_OF_A_FUNCTION - 1))
    assert (long_files(house), long_functions(house)) == (set(), set())
    (house / "a.py").write_text("\n" * (LINES_OF_A_FILE + 1))
    (house / "room/c.py").write_text("class A:\n    async def f(self):\n" + "        pass\n" * LINES_OF_A_FUNCTION)
    assert (long_files(house), long_functions(house)) == ({"a.py"}, {"room/c.py: f"})
