"""Requests for a run: every source has one form, and later requests override earlier ones."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gankit import UserError
from gankit.catalogue import Catalogue
from gankit.cli.flags import flags
from gankit.config.file import read_file
from gankit.config.request import FLAGS, RESUMED, RunRequest, merge
from gankit.config.schema import RunConfig

# One form.


@pytest.mark.parametrize(
    ("asked", "table"),
    [
        ({"controllers": "pace"}, {"controllers": {"pace": {}}}),
        ({"controllers": ["pace", "balance-pi"]}, {"controllers": {"pace": {}, "balance-pi": {}}}),
        ({"views": ("packing",)}, {"views": {"packing": {}}}),
        ({"diagnostics": {"cleanliness": {"pictures": 50}}}, {"diagnostics": {"cleanliness": {"pictures": 50}}}),
        ({"losses": ["imle"]}, {"losses": {"imle": {}}}),
        (
            {"losses": {"imle": 0.3, "critic": {"weight": 1}}},
            {"losses": {"imle": {"weight": 0.3}, "critic": {"weight": 1}}},
        ),
        ({"set": {"gamma": 0.3}}, {"model": {"gamma": 0.3}}),
        ({"set": {"gamma": 0.3}, "model": {"gamma": 0.5, "eta": 2}}, {"model": {"gamma": 0.3, "eta": 2}}),
        ({"set": {"balance": {"floor": 0.1}}}, {"set": {"balance.floor": 0.1}}),
        ({"set": {"balance.floor": 0.1, "eta": 1}}, {"set": {"balance.floor": 0.1}, "model": {"eta": 1}}),
        ({"time": "1h30m"}, {"time": 5400.0}),
        ({"time": 90}, {"time": 90}),
        (
            {"background": "navy", "holdout": 0, "image_size": "auto"},
            {"background": "navy", "holdout": 0, "image_size": "auto"},
        ),
    ],
    ids=str,
)
def test_every_form_of_a_request_becomes_one_and_that_stays_as_it_is(asked: dict[str, Any], table: dict[str, Any]):
    request = RunRequest(**asked)
    assert request.table() == table
    assert request.model_fields_set == table.keys()
    assert RunRequest(**request.table()) == request
    assert RunRequest(**json.loads(json.dumps(table))) == request  # it comes back from config.json


def test_what_asks_for_nothing_is_not_asked():
    request = RunRequest(steps=None, losses={}, views=(), set={}, mirror=False)
    assert request.model_fields_set == {"mirror"}
    assert (request.steps, request.losses, request.table()) == (None, {}, {"mirror": False})


def test_a_request_keeps_nothing_of_the_tables_that_it_was_made_of():
    given: dict[str, Any] = {"controllers": {"balance": {"floor": 0.1}}}
    request = RunRequest(**given)
    request.table()["controllers"]["balance"]["floor"] = 9
    given["controllers"]["balance"]["floor"] = 9
    assert request.controllers == {"balance": {"floor": 0.1}}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"stepps": 3}, "unknown option 'stepps' (did you mean 'steps'?)"),
        ({"history": []}, "unknown option 'history'"),
        ({"set": ["gamma"]}, "set is ['gamma']: it must be a table of settings"),
        ({"model": "began"}, "model is 'began': it must be a table of settings"),
        ({"views": {"packing": 2}}, "views is {'packing': 2}: it must be a list of names, or a table of tables"),
        ({"controllers": [1]}, "controllers is [1]: it must be a list of names"),
        ({"losses": 3}, "losses is 3: it must be a table of weights by name"),
        ({"networks": "began-autoencoder"}, "`networks` in [model] says which is used"),
        ({"reactions": ["stop"]}, "`on_alarm` says which is used"),
        ({"device": 3}, "device is 3: it must be a text"),
        ({"preset": ["paper"]}, "preset is ['paper']: it must be a text"),
        ({"set": {1: 2}}, "set is {1: 2}"),
        ({"controllers": {1: {}}}, "controllers is {1: {}}"),
        ({"data": "a\0b"}, "no name has a NUL in it"),
        ({"time": "soon"}, "--time soon: write it like 90s"),
        ({"background": "nocolour"}, "--background nocolour is refused: 'nocolour' is no colour"),
    ],
    ids=str,
)
def test_what_has_no_form_is_refused_in_one_line(asked: dict[str, Any], words: str):
    with pytest.raises(UserError) as refused:
        RunRequest(**asked)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_asks_what_flags_ask(tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text('steps = 3\nlosses = ["imle"]\nset.balance.floor = 0.2\n[model]\ngamma = 0.5\n')
    flags_too = RunRequest(steps=3, losses=["imle"], set={"balance.floor": 0.2, "gamma": 0.5})
    assert read_file(path) == flags_too
    path.write_text('plugins = ["mine.py"]\n')
    with pytest.raises(UserError, match=r"--plugin mine\.py"):
        read_file(path)
    assert read_file(path, ["mine.py"]) == RunRequest()


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("image-size = 64", {"image_size": 64}),
        ("image_size = 64", {"image_size": 64}),
        ("resolution = 64", {"image_size": 64}),
        ("gamma = 0.5", {"set": {"gamma": 0.5}}),
        ("lambda-k = 0.5", {"set": {"lambda_k": 0.5}}),
        ("lr = 0.001", {"set": {"learning_rate": 0.001}}),
        ("[model]\nlambda-k = 0.5", {"set": {"lambda_k": 0.5}}),
        ("gamma = 0.5\n[set]\neta = 2", {"set": {"gamma": 0.5, "eta": 2}}),
        ('"balance.floor" = 0.5', {"set": {"balance.floor": 0.5}}),
        ("[controllers.halving]\nsome-field = 3", {"controllers": {"halving": {"some_field": 3}}}),
        ('model = "began"\ngamma = 0.5', {"model": {"name": "began", "gamma": 0.5}}),
        ('[model]\nname = "began"', {"model": {"name": "began"}}),
    ],
)
def test_a_file_spells_a_setting_as_people_do(tmp_path, text: str, asked: dict[str, Any]):
    path = tmp_path / "asked.toml"
    path.write_text(text)
    assert read_file(path, (), Catalogue(), "began") == RunRequest(**asked)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image-size = 64\nimage_size = 32", "image_size is given twice, once as 'image_size'"),
        ("gama = 0.5", "unknown option 'gama'"),
        ('model = "begn"', "did you mean 'began'?"),
        ("model = {name = 5}", "model.name is 5"),
        ("[3", "is no TOML file"),
        ('{"model": "began"}', "is no config.json of a run"),
        ('{"model": {"name": "began"}, "losses": 3}', "is no config.json of a run"),
        ('{"model": {"name": "began", "gamma": 7}}', "(0, 1]"),
        ('{"model": ', "is no TOML file"),
        ("{" * 100_000, "is no TOML file"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
    ids=lambda text: text[:40],
)
def test_a_file_that_cannot_be_meant_is_refused_in_one_line(tmp_path, text: str, words: str):
    path = tmp_path / "asked.toml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        RunRequest(**read_file(path, (), Catalogue()).table())
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


# One over another.


@pytest.mark.parametrize(
    ("before", "after", "both"),
    [
        ({"steps": 3, "seed": 1}, {"steps": 4}, {"steps": 4, "seed": 1}),
        ({"set": {"gamma": 0.5, "eta": 2}}, {"set": {"gamma": 0.3}}, {"model": {"gamma": 0.3, "eta": 2}}),
        # A component's table overrides an earlier COMPONENT.FIELD, field by field; in one request COMPONENT.FIELD wins.
        (
            {"set": {"halving.floor": 0, "halving.patience": 1}},
            {"controllers": {"halving": {"floor": 0.2}}},
            {"set": {"halving.patience": 1}, "controllers": {"halving": {"floor": 0.2}}},
        ),
        (
            {"controllers": {"balance": {"floor": 0.2}}},
            {"set": {"balance.floor": 0}},
            {"controllers": {"balance": {"floor": 0.2}}, "set": {"balance.floor": 0}},
        ),
        ({"losses": {"imle": 0.3}}, {"losses": {"critic": 0.1}}, {"losses": {"imle": 0.3, "critic": 0.1}}),
        ({"losses": {"imle": 0}}, {"losses": ["imle"]}, {"losses": ["imle"]}),  # requested, at its own weight
        ({"losses": {"imle": 0.2}}, {"losses": ["imle"]}, {"losses": {"imle": 0.2}}),
        ({"losses": {"imle": 0.2}}, {"losses": {"imle": 0}}, {"losses": {"imle": 0}}),
        ({"views": ["packing"]}, {"views": ["augment"]}, {"views": ["packing", "augment"]}),
        ({}, {"mirror": True}, {"mirror": True}),
    ],
    ids=str,
)
def test_a_later_request_is_over_those_before_it(before, after, both):
    first, second = RunRequest(**before), RunRequest(**after)
    assert second.over(first) == RunRequest(**both)
    assert (first, second) == (RunRequest(**before), RunRequest(**after))  # both are unchanged


def test_three_requests_are_one_whichever_pair_is_joined_first():
    preset = RunRequest(set={"gamma": 0.5, "balance.floor": 0}, losses={"imle": 0})
    file = RunRequest(controllers={"balance": {"floor": 0.2}}, losses=["imle"], steps=3)
    given = RunRequest(set={"balance.floor": 0.1}, steps=4)
    assert given.over(file).over(preset) == given.over(file.over(preset))


def test_tables_are_merged_key_by_key_and_nothing_else_is():
    assert merge({"a": {"b": 1, "c": [1]}}, {"a": {"c": [2]}}, {"d": 3}) == {"a": {"b": 1, "c": [2]}, "d": 3}


# Flags are derived from the fields.


def asked_by(*typed: str, **how: Any) -> dict[str, Any]:
    """The values that a command with these flags passes on, without flags that were not given."""
    found: dict[str, Any] = {}

    @click.command()
    @flags(**how)
    def command(**options: Any) -> None:
        found.update(options)

    done = CliRunner().invoke(command, typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return RunRequest(**found).table()


def test_flags_ask_what_their_fields_say():
    typed = "--data demo --steps 3 --time 2m --holdout 0.2 --mirror --fit crop --device auto --background navy"
    parts = "--set gamma=0.3 --set balance.floor=0.1 --loss imle=0 --view packing --view augment --controller pace"
    assert asked_by(*typed.split(), *parts.split()) == {
        **{"data": "demo", "steps": 3, "time": 120.0, "holdout": 0.2, "mirror": True, "fit": "crop"},
        **{"device": "auto", "background": "navy", "model": {"gamma": 0.3}, "set": {"balance.floor": 0.1}},
        **{"losses": {"imle": {"weight": 0}}, "views": {"packing": {}, "augment": {}}, "controllers": {"pace": {}}},
    }
    assert asked_by() == {}


def test_a_resume_has_flags_of_what_it_may_change_and_nothing_else():
    @click.command()
    @flags(resumed=True)
    def command(**options: Any) -> None: ...

    assert {parameter.name for parameter in command.params} == RESUMED
    device = next(parameter for parameter in command.params if parameter.name == "device")
    assert list(device.type.choices) == ["cpu", "cuda", "mps"]  # `auto` is decided once


def test_a_new_field_of_the_schema_has_its_flag_and_its_place_in_a_request():
    """Every field has its flag, except tables without a flag and a run's own records."""
    without = {"gankit", "model", "plugins", "requested", "history", "networks", "datasets", "reactions"}
    assert FLAGS.keys() == (RunConfig.model_fields.keys() - without) | {"preset", "set"}
    for name, flag in FLAGS.items():
        words = CliRunner().invoke(click.command()(flags(name)(lambda **options: None)), ["--help"]).output
        assert f"--{flag.name or name.replace('_', '-')}" in words
        assert " ".join((RunRequest.model_fields[name].description or "").split())[1:12] in " ".join(words.split())
