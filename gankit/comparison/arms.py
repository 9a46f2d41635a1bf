"""The arms of a comparison: MODEL[:KEY=VALUE,…], each with its own configuration, alike in all other settings.

A key is one of `--set` (`gamma`, `balance.floor`), `loss.NAME` for `--loss NAME=VALUE`, `view`, `controller` or
`diagnostic` for another component, or one of the flags in OWN_FLAGS.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gankit.catalogue import Catalogue
from gankit.config.file import read_file
from gankit.config.request import FLAGS, RunRequest, by_home, merge
from gankit.config.resolve import needed
from gankit.config.resolve import resolve as settled
from gankit.config.schema import RunConfig
from gankit.config.values import parse_pairs
from gankit.data.source import Data
from gankit.errors import UserError
from gankit.report.words import flat

OWN = "own"
OWN_FLAGS = ("preset", "batch_size", "mirror", "on_alarm")
LISTS = {"view": "views", "controller": "controllers", "diagnostic": "diagnostics"}
NAMES = {"config_file": "config", "plugins": "plugin", **{name: flag.name for name, flag in FLAGS.items()}}
NOT_COMPARED = ("requested", "history", "seed", "gankit", "plugins", "artifacts")


@dataclass(frozen=True)
class Arm:
    """A compared model. `options` are arguments of `gankit.run`; `resolve` and `assembled` fill in the rest."""

    name: str  # as typed
    model: str
    options: dict[str, Any]
    resolved: RunConfig | None = None
    pictures_a_step: int = 0
    weights: dict[str, int] = field(default_factory=dict)  # trainable parameters by network


def parse(texts: Sequence[str]) -> list[Arm]:
    """The arms from the command line. Raises UserError for fewer than two, for a duplicate and for a bad KEY=VALUE."""
    arms = [_parse(text) for text in texts]
    if len(arms) < 2:
        raise UserError(
            f"a comparison needs two models, or one with different settings, and only {', '.join(texts) or 'none'} is "
            "named: try gankit compare ebgan began --data DIR"
        )
    for n, arm in enumerate(arms):
        if any((arm.model, arm.options) == (other.model, other.options) for other in arms[:n]):
            raise UserError(f"{arm.name} is named twice: give one of them other settings, or leave it out")
    return arms


def _parse(text: str) -> Arm:
    model, colon, rest = text.partition(":")
    # A comma inside brackets is part of a value: betas=[0.5,0.9].
    pairs = re.split(r",(?![^\[]*\])", rest) if colon else []
    if not model or "" in pairs:
        raise UserError(f"{text}: write MODEL or MODEL:KEY=VALUE,KEY=VALUE, e.g. began:gamma=0.7,loss.pulling-away=0.1")
    options: dict[str, Any] = {}
    for pair in pairs:
        for key, value in parse_pairs([pair], text).items():
            _place(options, key, value)
    return Arm(text, model, options)


def options_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `gankit.run` for values by the keys of an arm. A component "none" is none."""
    options: dict[str, Any] = {}
    for key, value in values.items():
        if key not in LISTS or value is not None:
            _place(options, key, value)
    return options


def _place(options: dict[str, Any], key: str, value: Any) -> None:
    if key.startswith("loss."):
        options.setdefault("losses", {})[key.removeprefix("loss.")] = value
    elif key in LISTS:
        options.setdefault(LISTS[key], []).append(str(value))
    elif key in OWN_FLAGS:
        options[key] = value
    else:
        options.setdefault("set", {})[key] = value


def refuse_numbers(**numbers: Any) -> None:
    """A call in Python can pass numbers that no flag has."""
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"--{name} {value} is refused: it must be a whole number of 1 or more")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not empty; a settings file has its absolute path."""
    settled = {key: value for key, value in options.items() if value not in (None, (), {})}
    if not isinstance(settled.get("losses", {}), Mapping):
        raise UserError(
            f"losses is {settled['losses']!r}: it must be a table of weights by name, such as {{'imle': 0.3}}"
        )
    if settled.get("config_file"):
        settled["config_file"] = os.path.abspath(settled["config_file"])
    return settled


def together(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The shared options, overridden by an arm's own; lists of components are joined."""
    merged = merge(shared, own)
    for key in LISTS.values():
        if shared.get(key) and own.get(key):
            merged[key] = list(dict.fromkeys([*shared[key], *own[key]]))
    return merged


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options as command-line flags: {"steps": 9, "set": {"gamma": 0.7}} is --steps 9 --set gamma=0.7."""
    typed: list[str] = []
    for key, value in options.items():
        if value is None or value == () or value == {} or (value is False and key not in FLAGS):
            continue
        flag = f"--{NAMES.get(key) or key.replace('_', '-')}"
        if key == "losses":
            for name, one in value.items():
                table = dict(one) if isinstance(one, Mapping) else {"weight": one}
                typed += [flag, f"{name}={as_typed(table.pop('weight', 1))}"]
                typed += [part for field, own in table.items() for part in ("--set", f"{name}.{field}={as_typed(own)}")]
        elif key == "set":
            typed += [part for name, one in value.items() for part in (flag, f"{name}={as_typed(one)}")]
        elif isinstance(value, list | tuple):
            typed += [part for one in value for part in (flag, str(one))]
        elif isinstance(value, bool):
            typed.append(flag if value else f"--no-{flag[2:]}")
        else:
            typed += [flag, as_typed(value)]
    return typed


def as_typed(value: Any) -> str:
    """A value as a command line has it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def requested(arm: Arm, shared: Mapping[str, Any], catalogue: Catalogue) -> RunRequest:
    """The request of `gankit run` with an arm's flags."""
    options = together(shared, arm.options)
    plugins = options.pop("plugins", None) or ()
    file = options.pop("config_file", None)
    given = RunRequest(**by_home(options, _class(arm, catalogue).Settings.model_fields))
    return given.over(read_file(file, plugins, catalogue, arm.model) if file else RunRequest())


def resolve(arms: Sequence[Arm], shared: Mapping[str, Any], networks: str, catalogue: Catalogue) -> list[Arm]:
    """The arms with their configurations, on the networks `networks` (a pair's name, or "own").

    An arm keeps its own networks if its model builds them itself; the others have the same ones. Raises UserError for a
    model that needs another answer of D than the pair gives. An option that an arm does not request comes from the arm
    whose plugin offers the pair. If there is none, it is the least value among the arms, so that their order decides
    nothing.
    """
    new = []
    for arm in arms:
        fields = _class(arm, catalogue).Settings.model_fields
        settings = requested(arm, shared, catalogue).model
        if networks != OWN and "networks" in fields and "networks" not in settings:
            arm = replace(arm, options=merge({"set": {"networks": networks}}, arm.options))
        new.append(replace(arm, resolved=_resolved(arm, shared, catalogue)))
    if networks == OWN:
        return new
    own = [_built_with(arm, networks, catalogue) for arm in new]
    named = [_requested_options(requested(arm, shared, catalogue), networks, own[n]) for n, arm in enumerate(new)]
    owner = next((own[n] for n, arm in enumerate(new) if own[n] and _own_networks(arm, networks, catalogue)), None)
    for n, arm in enumerate(new):
        fields = _class(arm, catalogue).Settings.model_fields
        alike = {}
        for key in own[n].keys() - named[n]:
            defaults = [table[key] for table, names in zip(own, named, strict=True) if key in table.keys() - names]
            numbers = all(isinstance(value, int | float) for value in defaults)
            value = owner[key] if owner else min(defaults) if numbers else min(defaults, key=str)
            if value != own[n][key]:
                alike[key if key in fields else f"{networks}.{key}"] = value
        if alike:
            arm = replace(arm, options=merge({"set": alike}, arm.options))
            new[n] = replace(arm, resolved=_resolved(arm, shared, catalogue))
    return new


def _built_with(arm: Arm, networks: str, catalogue: Catalogue) -> dict[str, Any]:
    """All options of the arm's network pair of that name, with those that are the model's settings; or {}."""
    config = configuration(arm)
    if networks not in config.networks:
        return {}
    fields = catalogue.get("networks", networks).Options.model_fields
    return {key: config.model[key] for key in fields if key in config.model} | config.networks[networks]


def backbone(catalogue: Catalogue) -> str:
    """The default network pair of a comparison, or "own" where no pair is made for it.

    gankit's own pair comes first, so that no installed plugin changes a comparison; then the first by name.
    """
    pairs = [name for name, (pair, _) in catalogue.kind("networks").items() if pair.for_comparison]
    return next((name for name in catalogue.own("networks") if name in pairs), next(iter(pairs), OWN))


def usual_networks(arms: Sequence[Arm], shared: Mapping[str, Any], catalogue: Catalogue) -> tuple[str, str]:
    """The networks of a comparison that names none, and the reason in words.

    They are the default pair if it fits every arm, apart from those that name networks themselves; else "own".
    """
    networks = backbone(catalogue)
    if networks == OWN:
        return OWN, "each model's own, since no pair is made for comparisons"
    gives = catalogue.get("networks", networks).gives
    for arm in arms:
        model = _class(arm, catalogue)
        if "networks" not in model.Settings.model_fields:
            return OWN, f"each model's own, since {arm.model} builds its networks itself"
        if "networks" in requested(arm, shared, catalogue).model:
            continue
        needs = needed(model, catalogue)
        if not needs or needs - gives:
            word = " and a ".join(sorted(needs)) or "answer that it does not declare"
            return OWN, f"each model's own, since {arm.model} needs a {word} of the discriminator, not {networks}"
    return networks, f"{networks} for all"


def _requested_options(request: RunRequest, networks: str, options: Mapping[str, Any]) -> set[str]:
    """The requested options of a network pair: by COMPONENT.FIELD, in its table or as settings of the model."""
    dotted = {key for key in options if f"{networks}.{key}" in request.set}
    named = request.networks.get(networks, {}).keys() | request.model.keys()
    return dotted | (named & options.keys())


def _class(arm: Arm, catalogue: Catalogue) -> Any:
    try:
        return catalogue.get("models", arm.model)
    except UserError as error:
        raise UserError(f"{arm.name}: {error}") from None


def _own_networks(arm: Arm, networks: str, catalogue: Catalogue) -> bool:
    """Whether one plugin offers both the pair and the arm's model."""
    pair, models = catalogue.kind("networks").get(networks), catalogue.kind("models")
    return pair is not None and pair[1] == models[arm.model][1]


def _resolved(arm: Arm, shared: Mapping[str, Any], catalogue: Catalogue) -> RunConfig:
    try:
        return settled(arm.model, requested(arm, shared, catalogue), catalogue)
    except UserError as error:
        raise UserError(f"{arm.name}: {error}") from None


def configuration(arm: Arm) -> RunConfig:
    """The configuration of a resolved arm."""
    assert arm.resolved is not None
    return arm.resolved


def assembled(arms: Sequence[Arm], data: Data, catalogue: Catalogue) -> list[Arm]:
    """The arms with their pictures per step and the sizes of their networks. Raises UserError for an arm that fails."""
    from gankit.training import start

    new = []
    for arm in arms:
        resolved = configuration(arm)
        try:
            with start.quiet_random(resolved.device):
                training, batches = start.assemble(resolved, data, catalogue)
        except UserError as error:
            raise UserError(f"{arm.name}: {error}") from None
        weights = {name: sum(p.numel() for p in net.parameters()) for name, net in training.networks.items()}
        new.append(
            replace(
                arm, resolved=training.config, pictures_a_step=batches.batch_size * batches.updates, weights=weights
            )
        )
    return new


def steps_of(arm: Arm, images: int) -> int:
    """The number of steps in which an arm sees that many pictures."""
    return math.ceil(images / arm.pictures_a_step)


def differences(arms: Sequence[Arm], catalogue: Catalogue) -> list[dict[str, Any]]:
    """The settings that differ between the arms: [{"name", "values": {arm: value}}], settings of all arms first.

    An arm without the setting has no value: the models themselves differ in it.
    """
    tables = {arm.name: _facts(arm, catalogue) for arm in arms}
    names = dict.fromkeys(name for table in tables.values() for name in table)
    rows = [
        {"name": name, "values": {arm: table[name] for arm, table in tables.items() if name in table}}
        for name in names
        if len({json.dumps(table.get(name, "absent")) for table in tables.values()}) > 1
    ]
    return sorted(rows, key=lambda row: len(row["values"]) < len(arms))


def _facts(arm: Arm, catalogue: Catalogue) -> dict[str, Any]:
    """An arm's settings by name. Settings of the model that its networks are built with are named as theirs."""
    resolved = configuration(arm).model_dump(mode="json")
    for pair in resolved["networks"]:
        resolved["networks"][pair] = built = _built_with(arm, pair, catalogue)
        resolved["model"] = {key: value for key, value in resolved["model"].items() if key not in built}
    facts = flat({key: value for key, value in resolved.items() if key not in NOT_COMPARED})
    facts = {name: value for name, value in facts.items() if value != {} and name != "model.name"}
    return {
        **facts,
        "pictures a step": arm.pictures_a_step,
        **{f"weights of the {network}": count for network, count in arm.weights.items()},
    }


def folder_names(names: Iterable[str]) -> list[str]:
    """A folder name for each arm: unique, and valid on every file system."""
    taken: list[str] = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._=-]+", "-", name).strip("-.")[:60]
        free = next(n for n in (stem, *(f"{stem}-{k}" for k in range(2, 1000))) if n not in taken)
        taken.append(free)
    return taken
