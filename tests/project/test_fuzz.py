"""Whatever a run folder, a comparison, a settings file, flags or a picture hold: a result or one clear line."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Gankit, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gankit.config.schema import RunConfig
from gankit.errors import UserError
from gankit.runs.folder import RunFolder
from gankit.runs.overview import overview

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


@pytest.fixture(autouse=True)
def _counted(request: pytest.FixtureRequest, record_property: Any) -> None:
    if "cases" in request.fixturenames:
        record_property("bad inputs that gave a result or one line", request.getfixturevalue("cases"))


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


# Settings files, flags, comparisons, checkpoints, pictures.

KEYS = st.sampled_from([*RunConfig.model_fields, "gamma", "filters", "set", "preset", "edges", "x", "", "a.b", "²"])


def toml_of(value: Any) -> str:
    """A value as it stands in a TOML file, or as something like it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml_of(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return {None: "none", True: "true", False: "false"}.get(value, json.dumps(value)) if value != 1 else "1"


@st.composite
def settings_files(draw: Any) -> bytes:
    """A TOML file of known and unknown names with values of all kinds, at times with a few bytes replaced."""
    rows = draw(st.lists(st.tuples(KEYS, values), max_size=5))
    head = draw(
        st.sampled_from(["", "", "[model]\n", "[losses.imle]\n", "[[losses]]\n", "[diagnostics.mode-collapse]\n"])
    )
    text = head + "".join(f"{json.dumps(key)} = {toml_of(value)}\n" for key, value in rows)
    whole = bytearray(text.encode("utf-8", "surrogatepass"))
    if whole and draw(st.booleans()):
        cut = draw(st.integers(0, len(whole) - 1))
        whole[cut : cut + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(whole)


@pytest.mark.parametrize("cases", CASES)
def test_any_settings_file_is_a_request_or_one_line(cases: int, tmp_path: Path) -> None:
    from gankit.catalogue import Catalogue
    from gankit.config.file import read_file
    from gankit.config.resolve import resolve

    path, catalogue = tmp_path / "settings.toml", Catalogue()

    @many(cases)
    @given(settings_files())
    def hold(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(UserError):
            resolve("began", read_file(path, catalogue=catalogue), catalogue)

    hold()


FLAGS = ("--steps", "--time", "--image-size", "--batch-size", "--seed", "--device", "--precision", "--preset", "--set")
FLAGS += (
    "--loss",
    "--controller",
    "--diagnostic",
    "--view",
    "--artifact",
    "--on-alarm",
    "--fit",
    "--background",
    "--out",
)
FLAGS += (
    "--mirror",
    "--holdout",
    "--log-every",
    "--sample-every",
    "--checkpoint-every",
    "--data",
    "--gamma",
    "--config",
)
words = (
    texts | numbers.map(str) | st.sampled_from(["auto", "gamma=2", "imle=1", "a.b=c", "=", "2h", "red", "1e-3", "-1"])
)


@pytest.mark.parametrize("cases", CASES)
def test_any_flags_are_a_training_or_one_line(
    cases: int, gankit: Gankit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where the pictures are opened: nothing exists by then."""

    def opened(*_: Any) -> None:
        raise UserError("as far as that")

    monkeypatch.setattr("gankit.api.open_data", opened)

    @many(cases)
    @given(
        st.lists(st.tuples(st.sampled_from(FLAGS), words), max_size=5), st.sampled_from(["began", "ebgan", "", "bega"])
    )
    def hold(flags: list[tuple[str, str]], model: str) -> None:
        said = gankit("run", model, "--data", "demo:60", *(part for flag in flags for part in flag))
        assert said.code == 2
        assert len(said.err.splitlines()) == 1

    hold()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cases", CASES)
def test_a_mutated_comparison_is_a_page_or_one_line(
    cases: int, comparison: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gankit.report import comparison_page

    folder = Path(shutil.copytree(comparison, tmp_path / "c"))
    monkeypatch.setattr(
        comparison_page, "still", lambda run, sample: {"step": sample[0], "source": ""} if sample else {}
    )

    @many(cases)
    @given(mutated((comparison / "comparison.json").read_bytes()))
    def hold(content: bytes) -> None:
        (folder / "comparison.json").write_bytes(content)
        with suppress(UserError):
            comparison_page.write_comparison(folder)

    hold()


def test_a_mutated_sweep_is_a_page_or_one_line(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gankit.report import sweep_page

    folder = Path(shutil.copytree(swept, tmp_path / "s"))
    monkeypatch.setattr(sweep_page, "still", lambda run, sample: {"step": sample[0], "source": ""} if sample else {})

    @many(20)
    @given(mutated((swept / "sweep.json").read_bytes()))
    def hold(content: bytes) -> None:
        (folder / "sweep.json").write_bytes(content)
        with suppress(UserError):
            sweep_page.write_sweep(folder)

    hold()


@pytest.mark.parametrize("cases", CASES)
def test_a_mutated_checkpoint_with_the_right_checksum_is_loaded_or_refused(
    cases: int, finished: Path, tmp_path: Path
) -> None:
    from gankit.api import prepare
    from gankit.training import checkpoint

    run = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    training = prepare("began", config_file=finished / "config.json")[2]
    path = run.checkpoint_path(8) / "state.json"

    @many(cases)
    @given(mutated(path.read_bytes()))
    def hold(content: bytes) -> None:
        with suppress(ValueError, UnicodeDecodeError):
            state = json.loads(content)
            if isinstance(state, dict):
                state.pop("checksum", None)
                state["checksum"] = checkpoint._checksum(state)
                content = json.dumps(state).encode()
        path.write_bytes(content)
        with suppress(UserError):
            checkpoint.load(run, 8, training)
            assert training.best is None or training.best[0] >= 0
            assert training.attempt >= 1
        overview(run.folder)

    hold()


def pictures() -> dict[str, bytes]:
    """A small picture in each format."""
    made = {}
    for kind, mode in (
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("JPEG", "RGB"),
        ("GIF", "P"),
        ("WEBP", "RGB"),
        ("BMP", "RGB"),
        ("TIFF", "L"),
    ):
        buffer = io.BytesIO()
        Image.effect_noise((24, 20), 60).convert(mode).save(buffer, kind)
        made[f"{kind} {mode}"] = buffer.getvalue()
    return made


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize("kind", list(pictures()))
def test_a_mutated_picture_is_decoded_or_skipped_with_a_reason(kind: str, cases: int, tmp_path: Path) -> None:
    from gankit.data.decode import Unusable, read
    from gankit.data.source import Request

    path, whole = tmp_path / "x", pictures()[kind]

    @many(cases)
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(max_size=4)), max_size=4),
        st.integers(0, len(whole)),
    )
    def hold(changes: list[tuple[int, bytes]], end: int) -> None:
        data = bytearray(whole)
        for place, piece in changes:
            data[place : place + len(piece)] = piece
        path.write_bytes(bytes(data[:end] if end % 3 == 0 else data))
        with suppress(Unusable), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as the folder does
            pixels, content = read(path, Request(16))
            assert (pixels.shape, len(content)) == ((16, 16, 3), 32)

    hold()


def test_a_colour_beyond_255_is_refused(gankit: Gankit) -> None:
    refused(gankit("run", "began", "--data", "demo", "--background", "rgb(999,999,999)"), "is no colour")
