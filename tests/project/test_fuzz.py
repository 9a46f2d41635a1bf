"""Whatever stands in a run folder or a settings file: a result or one clear line, never a traceback."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Gankit, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gankit.errors import UserError

FEW, MANY = 20, 1000  # cases of a test: in the quick suite, in `make evidence`
CASES = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]
OBJECTS = ("config.json", "environment.json", "data.json", "result.json", "neighbours.json")
LINES = ("metrics.jsonl", "alarms.jsonl", "readings.jsonl", "rescues.jsonl")

numbers = st.integers(-(10**20), 10**20) | st.floats() | st.sampled_from([0, 1, 2, -1, 10**18, 10**400, 1e308, -0.0])
texts = st.text(max_size=8) | st.sampled_from(
    ["", "best", "²", "1e999", "../..", "critical", "\ud800", "\0", "$\\frac{"]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a value of JSON, itself first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def replaced(value: Any, at: tuple[Any, ...], by: Any) -> Any:
    if not at:
        return by
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(value[at[0]], at[1:], by)
    return copy


@st.composite
def mutated(draw: Any, whole: bytes) -> bytes:
    """A file of JSON with a few values replaced, or with a few bytes of it."""
    if draw(st.integers(0, 3)) == 0:
        data = bytearray(whole)
        for _ in range(draw(st.integers(1, 4))):
            data[draw(st.integers(0, max(len(data) - 1, 0))) :][:1] = draw(st.binary(max_size=3))
            cut = draw(st.integers(0, len(data)))
            data[cut : cut + draw(st.integers(0, 8))] = draw(st.binary(max_size=6))
        return bytes(data)
    rows = [json.loads(line) for line in whole.splitlines()] if b"\n{" in whole.rstrip() else [json.loads(whole)]
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.integers(0, len(rows) - 1))
        rows[row] = replaced(rows[row], draw(st.sampled_from(places(rows[row]))), draw(values))
    return "\n".join([*map(json.dumps, rows), ""]).encode("utf-8", "surrogatepass")


def many(cases: int) -> Any:
    return settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize("name", [*OBJECTS, *LINES])
def test_a_run_folder_with_a_mutated_file_is_listed_and_reported(
    name: str, cases: int, finished: Path, tmp_path: Path
) -> None:
    """A report is a page, or one line; the list of runs is whole."""
    from gankit.report import run_page
    from gankit.report.story import read
    from gankit.runs.folder import RunFolder
    from gankit.runs.overview import overview

    run = Path(shutil.copytree(finished, tmp_path / "run"))
    whole = (run / name).read_bytes() if (run / name).exists() else b""
    if not whole.strip():
        whole = b'{"step": 4, "severity": "critical", "diagnostic": "vitals", "kind": "a", "message": "b"}\n'

    @many(cases)
    @given(mutated(whole))
    def hold(content: bytes) -> None:
        (run / name).write_bytes(content)
        (row,) = overview(run)
        row.model_dump_json()
        folder = RunFolder(run)
        with suppress(UserError):
            run_page._context(read(folder))
            assert folder.attempt >= 1
            folder.best()

    hold()


@pytest.mark.parametrize("cases", CASES)
def test_a_mutated_config_json_as_a_settings_file_is_a_request_or_one_line(
    cases: int, finished: Path, tmp_path: Path
) -> None:
    from gankit.catalogue import Catalogue
    from gankit.config.file import read_file
    from gankit.config.resolve import resolve

    path, catalogue = tmp_path / "config.json", Catalogue()

    @many(cases)
    @given(mutated((finished / "config.json").read_bytes()))
    def hold(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(UserError):
            request = read_file(path, catalogue=catalogue)
            resolve("began", request, catalogue)

    hold()


def test_a_colour_beyond_255_is_refused(gankit: Gankit) -> None:
    refused(gankit("run", "began", "--data", "demo", "--background", "rgb(999,999,999)"), "is no colour")
