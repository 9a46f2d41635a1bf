"""The conformance kit finds broken promises: each promise is broken once, and its check reports it.

`gankit plugins check` and the pytest plugin run the same checks, on a sound plugin and on broken ones.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from conftest import Gankit, refused
from PIL import Image

from gankit.testing import Failed, Subject, checks
from gankit.testing.check import _select

MODEL = '''
"""A small model on points or pictures."""

import math
import random
import torch
from gankit import Judged, Losses, Model, Settings, hookimpl
from pydantic import Field
from torch import nn

drawn = random.Random()


class Small(Model):
    """Two dense networks."""

    name = "small"
    summary = "two dense networks"

    class Settings(Settings):
        width: int = Field(4, ge=1, description="units")

    def build_networks(self, pair, seen):
        size = math.prod(self.shape)
        networks = {
            "generator": nn.Sequential(nn.Linear(2, size), nn.Unflatten(1, self.shape), nn.Tanh()),
            "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(math.prod(seen), 1)),
        }
        return networks

    def latents(self, n, device):
        return torch.randn(n, 2, device=device)

    def judge(self, networks, seen, labels):
        return Judged(networks["discriminator"](seen).squeeze(1))

    def losses(self, step):
        real, fake = step.judged_real.output, step.judged_fake.output
        return Losses({"discriminator": (fake - real).mean(), "generator": -fake.mean()})


@hookimpl
def gankit_models():
    return [Small]
'''
FAULTS = {  # broken promise: the check that sees it, the broken code, words of the failure
    "no docstring": ("is_documented", '    """Two dense networks."""\n', "", "Small has no docstring"),
    "no summary": ("is_documented", '    summary = "two dense networks"\n', "", "Small has no summary"),
    "a setting without a word": (
        "is_documented",
        'width: int = Field(4, ge=1, description="units")',
        "width: int = 4",
        "the setting 'width' has no description",
    ),
    "a setting that grows": (
        "round_trips_through_toml",
        'description="units")',
        'description="units")\n\n    @classmethod\n    def resolve(cls, settings, machine):\n'
        "        return settings.model_copy(update={'width': settings.width + 1})\n",
        "model.width comes back from a TOML file as 6",
    ),
    "one size only": (
        "builds_at_every_size",
        "        return networks",
        "        if size != 768:\n            raise ValueError('16×16 or nothing')\n        return networks",
        "at 32×32: TrainingError",
    ),
    "generated items of another shape": (
        "builds_at_every_size",
        "    def judge(",
        "    def generate(self, networks, noise, labels):\n"
        "        return networks['generator'](noise)[: 2 if len(noise) < 4 else None]\n\n    def judge(",
        "3 generated items of (3, 16, 16) have the shape (2, 3, 16, 16)",
    ),
    "a shared weight": (
        "keeps_gradients_apart",
        "        return networks",
        "        networks['generator'][0].shared = networks['discriminator'][1]\n        return networks",
        "share a weight",
    ),
    "a step of its own": (
        "keeps_gradients_apart",
        "    def losses(self, step):",
        "    def losses(self, step):\n        with torch.no_grad():\n"
        "            step.networks['discriminator'].module[1].weight.add_(1)",
        "`losses` itself changes the weights of 'discriminator'",
    ),
    "a loss of nothing": (
        "keeps_gradients_apart",
        '"generator": -fake.mean()',
        '"generator": -fake.detach().mean() + 0 * fake.mean()',
        "does not move 'generator'",
    ),
    "a memory outside buffers": (
        "survives_a_checkpoint",
        "        real, fake = ",
        "        self.times = getattr(self, 'times', 0) + 1\n        real, fake = (1 + self.times % 2) * ",
        "after a resume",
    ),
    "a value that is read": (
        "waits_for_no_device",
        "        real, fake = ",
        "        assert step.real.abs().max() <= 1\n        real, fake = ",
        "Tensor.__bool__ is called in a step",
    ),
    "Python's random numbers": (
        "follows_from_its_seed",
        "        return torch.randn(n, 2, device=device)",
        "        return torch.full((n, 2), drawn.random(), device=device)",
        "with the same seed",
    ),
    "a seed of its own": (
        "follows_from_its_seed",
        "        size = math.prod(self.shape)",
        "        torch.manual_seed(5)\n        size = math.prod(self.shape)",
        "another seed gives the same weights",
    ),
    "half precision in the losses": (
        "works_in_bf16",
        '"generator": -fake.mean()',
        '"generator": -fake.bfloat16().mean()',
        "loss/generator is torch.bfloat16",
    ),
    "a reading that nobody logs": (
        "shows_its_own_readings",
        '    summary = "two dense networks"',
        '    summary = "two dense networks"\n    shown = {"L": "loss/discriminatr"}',
        "no step logs 'loss/discriminatr'",
    ),
    "a loss that is lost later": (
        "trains_fifty_steps",
        '"generator": -fake.mean()',
        '"generator": -fake.mean() / (step.number < 30)',
        "is not finite at step 30",
    ),
}


@pytest.fixture
def subject(tmp_path):
    def of(code: str, kind: str, name: str, **more) -> Subject:
        (tmp_path / "small.py").write_text(code, encoding="utf-8")
        return Subject(kind, name, tmp_path, [str(tmp_path / "small.py")], **more)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield of
    torch.set_num_threads(threads)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_breaks_a_promise_is_found_and_one_that_keeps_them_is_not(subject, fault):
    check, sound, broken, words = FAULTS[fault]
    assert MODEL.count(sound) == 1
    getattr(checks, check)(subject(MODEL, "models", "small"))
    with pytest.raises(Failed) as failed:
        getattr(checks, check)(subject(MODEL.replace(sound, broken), "models", "small"))
    assert words in failed.value.what
    assert failed.value.do


@pytest.mark.parametrize(
    "optimizer", ["AdamW(parameters, 0.1)", "Adagrad(parameters)", "Adam(parameters, amsgrad=True)"]
)
def test_what_torch_s_optimizers_read_on_the_host_is_no_waiting(subject, optimizer):
    own = f"    def optimizer(self, network, parameters):\n        return torch.optim.{optimizer}\n\n    def judge("
    checks.waits_for_no_device(subject(MODEL.replace("    def judge(", own), "models", "small"))


def test_a_loss_may_ask_whether_a_knob_is_0(subject):
    asks = "        assert not step.at_zero('learning_rate/generator')\n        real, fake = "
    checks.waits_for_no_device(subject(MODEL.replace("        real, fake = ", asks), "models", "small"))


PARTS = '''
"""A diagnostic, a controller, a view, a reaction, an artifact, a data source and a command, sound."""

import click
import numpy as np
import torch
import gankit
from gankit import hookimpl


class Seen(gankit.Diagnostic):
    """Counts its looks."""

    name = "seen"
    summary = "counts its looks"
    every = 10
    looks = 0

    def read(self, snapshot):
        self.looks += 1
        return gankit.Reading({"looks": self.looks, "spread": snapshot.generate(3).std()})

    def state(self):
        return {"looks": self.looks}

    def restore(self, state):
        self.looks = state["looks"]


class Upside(gankit.View):
    """The other way round."""

    name = "upside"
    summary = "upside down"

    def __call__(self, batch):
        return -batch


class Shrug(gankit.Reaction):
    """Does nothing."""

    name = "shrug"
    summary = "does nothing"

    def react(self, alarm, situation):
        return gankit.Continue("shrugged")


class Rows(gankit.Artifact):
    """rows.txt"""

    name = "rows"
    summary = "rows.txt"

    def line(self, line):
        (self.run.folder / "rows.txt").open("a").write(f"{line['step']}")

    def finish(self):
        path = self.run.folder / "rows.txt"
        return path if path.exists() else None


class Grey(gankit.DataSource):
    """Grey pictures."""

    name = "grey"
    summary = "grey pictures"

    def open(self, argument, request):
        side = request.image_size
        pictures = np.full((40, side, side, 3), 128, np.uint8)
        held = round(40 * request.holdout)
        return gankit.Data("grey", pictures[held:], pictures[:held], f"{side:x}")


class Still(gankit.Controller):
    """Holds k."""

    name = "still"
    summary = "holds k"
    drives = ("k",)

    def value(self, knob):
        return torch.full((), 0.5)

    def update(self, number, readings):
        pass


@hookimpl
def gankit_diagnostics():
    return [Seen]


@hookimpl
def gankit_views():
    return [Upside]


@hookimpl
def gankit_reactions():
    return [Shrug]


@hookimpl
def gankit_artifacts():
    return [Rows]


@hookimpl
def gankit_datasets():
    return [Grey]


@hookimpl
def gankit_controllers():
    return [Still]


@click.command("wave")
@click.option("--hand", default="left")
def wave(hand):
    """Wave."""


@hookimpl
def gankit_commands():
    return [wave]
'''
PART_FAULTS = {
    "a memory outside state()": (
        ("diagnostics", "seen", "remembers_through_a_checkpoint"),
        'return {"looks": self.looks}',
        'return {"looks": 0}',
        "after a resume it reads",
    ),
    "a look that leaves a mark": (
        ("diagnostics", "seen", "leaves_no_trace"),
        "        self.looks += 1\n",
        "        self.looks += 1\n        snapshot.generate.__self__.training.networks['generator'].eval()\n"
        "        [p.mul_(0.9) for p in snapshot.generate.__self__.training.networks['generator'].parameters()]\n",
        "looking changes",
    ),
    "no reading": (
        ("diagnostics", "seen", "looks_and_says"),
        "return gankit.Reading(",
        "return dict(",
        "read returned",
    ),
    "a verdict in words": (
        ("diagnostics", "seen", "looks_and_says"),
        '"spread": snapshot.generate(3).std()}',
        '"spread": 1.0}, healthy="yes"',
        "healthy is 'yes'",
    ),
    "a look beyond its budget": (
        ("diagnostics", "seen", "keeps_to_its_budget"),
        "    every = 10\n",
        "    every = 10\n    budget = 0.0\n",
        "and its budget is 0%",
    ),
    "a view without a gradient": (
        ("views", "upside", "lets_gradients_through"),
        "return -batch",
        "return -batch.detach()",
        "has no gradient",
    ),
    "a reaction without a word": (
        ("reactions", "shrug", "says_what_it_did"),
        'return gankit.Continue("shrugged")',
        "return None",
        "react returned None",
    ),
    "a file that is not there": (
        ("artifacts", "rows", "draws_from_a_run"),
        "return path if path.exists() else None",
        "return path",
        "which is not there",
    ),
    "one size of pictures": (
        ("datasets", "grey", "opens_to_items"),
        "side = request.image_size",
        "side = 16",
        "where 32×32 was asked for",
    ),
    "a command without a word": (
        ("commands", "wave", "says_how_it_is_used"),
        '    """Wave."""\n',
        "    return None\n",
        "gankit wave --help does not say what it does",
    ),
    "a command whose help fails": (
        ("commands", "wave", "says_how_it_is_used"),
        'default="left"',
        'default="left", show_default=True, type=type("Odd", (click.ParamType,), {"get_metavar": 5, "name": "odd"})()',
        "gankit wave --help ends with 1",
    ),
    "a value of two numbers": (
        ("controllers", "still", "gives_plain_values"),
        "return torch.full((), 0.5)",
        "return torch.full((1,), 0.5)",
        "the value of 'k' is",
    ),
}


PAIR = """
import gankit
import torch
from torch import nn

class Scored(nn.Sequential):
    def forward(self, seen):
        return gankit.Judged(output=super().forward(seen).squeeze(1))

class Scores(gankit.NetworkPair):
    "Linear networks with a score."

    name = "scores"
    summary = "linear networks with a score"
    gives = frozenset({"score"})

    def build(self, shape, seen):
        size = shape[0] * shape[1] * shape[2]
        generator = nn.Sequential(nn.Linear(8, size), nn.Tanh(), nn.Unflatten(1, shape))
        return {"generator": generator, "discriminator": Scored(nn.Flatten(), nn.Linear(size, 1))}

class Critical(gankit.Model):
    "The hinge of a score."

    name = "critical"
    summary = "the hinge of a score"

    class Settings(gankit.Settings):
        networks: str = "scores"

    def latents(self, n, device):
        return torch.randn(n, 8, device=device)

    def losses(self, step):
        real, fake = step.judged_real.output, step.judged_fake.output
        discriminator = (1 - real).relu().mean() + (1 + fake).relu().mean()
        return gankit.Losses({"discriminator": discriminator, "generator": -fake.mean()})

@gankit.hookimpl
def gankit_models():
    return [Critical]

@gankit.hookimpl
def gankit_networks():
    return [Scores]
"""


def test_a_pair_says_what_its_discriminator_gives_and_a_model_needs_that_of_its_own_pair(subject):
    check = checks.says_what_its_discriminator_gives
    check(subject(PAIR, "networks", "scores", model="critical"))
    check(subject(PAIR, "models", "critical"))  # it needs what its own pair gives
    said = '    gives = frozenset({"score"})\n'
    for wrong, words in (("", "gives nothing"), (said.replace("score", "code"), "gives code")):
        with pytest.raises(Failed, match=words) as failed:
            check(subject(PAIR.replace(said, wrong), "networks", "scores", model="critical"))
        assert 'gives = frozenset({"score"})' in failed.value.do
    with pytest.raises(Failed, match="does not say what it needs"):
        check(subject(PAIR.replace(said, ""), "models", "critical"))
    with pytest.raises(Failed, match="'pixels', which gankit does not know"):
        check(subject(PAIR.replace('{"score"}', '{"pixels"}'), "networks", "scores", model="critical"))


@pytest.mark.parametrize("fault", PART_FAULTS)
def test_a_component_that_breaks_a_promise_is_found_and_one_that_keeps_them_is_not(subject, fault):
    (kind, name, check), sound, broken, words = PART_FAULTS[fault]
    assert PARTS.count(sound) == 1
    options = {"set": {"filters": 4, "latent": 4}}
    getattr(checks, check)(subject(PARTS, kind, name, model="began", options=options))
    with pytest.raises(Failed) as failed:
        getattr(checks, check)(subject(PARTS.replace(sound, broken), kind, name, model="began", options=options))
    assert words in failed.value.what


FORGETS = """
import gankit
import torch

class Forgets(gankit.LossTerm):
    "Counts in an attribute, and acts much later."

    name = "forgets"
    summary = "counts in an attribute"
    count = 0

    def __call__(self, step):
        self.count += 1
        self.memory["count"] = torch.tensor(float(self.count))
        return step.fake.mean() * (self.count >= 1000)

@gankit.hookimpl
def gankit_losses():
    return [Forgets]
"""


def test_a_term_whose_memory_begins_anew_after_a_resume_is_found_though_it_acts_much_later(subject):
    options = {"set": {"filters": 4, "latent": 4}}
    with pytest.raises(Failed, match="after a resume training/loss/forgets/count is another"):
        checks.survives_a_checkpoint(subject(FORGETS, "losses", "forgets", model="began", options=options))
    sound = FORGETS.replace("self.count += 1", 'self.count = int(self.memory.get("count", 0)) + 1')
    checks.survives_a_checkpoint(subject(sound, "losses", "forgets", model="began", options=options))


# The command.


def test_check_prints_what_passes_and_fails_and_what_to_do(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(MODEL.replace('    summary = "two dense networks"\n', ""), encoding="utf-8")
    said = gankit("plugins", "check", "small.py")
    assert said.code == 1
    assert said.out.startswith("small  (--plugin small.py, small.py)\n  model 'small'\n    ok    it is accepted\n")
    failed = said.out.index("    FAIL  it is documented: Small has no summary\n          do: give it one: summary = ")
    assert failed < said.out.index("    ok    it survives a checkpoint\n")
    assert said.out.endswith("11 passed, 1 failed\n")

    (tmp_path / "small.py").write_text(MODEL, encoding="utf-8")
    said = gankit("plugins", "check", "small.py")
    assert (said.code, said.out.splitlines()[-1]) == (0, "12 passed, 0 failed"), said.out


def test_check_says_of_what_no_run_takes_why_and_goes_on_with_the_rest(gankit: Gankit, tmp_path: Path) -> None:
    broken = MODEL.replace('"generator": -fake.mean()', '"generator": -fake')
    (tmp_path / "small.py").write_text(broken, encoding="utf-8")
    said = gankit("plugins", "check", "small.py")
    assert said.code == 1
    assert "loss/generator of model 'small' is no scalar: its shape is (4,)" in said.out
    assert said.out.endswith("0 passed, 1 failed\n")


def test_a_data_source_that_needs_an_argument_is_checked_with_the_one_that_is_given(gankit: Gankit, tmp_path) -> None:
    code = """
        import gankit

        class Mine(gankit.Folder):
            \"\"\"A folder by another name.\"\"\"

            name = "mine"
            summary = "mine:FOLDER"

            def open(self, argument, request):
                if not argument:
                    raise gankit.UserError("say which folder")
                return super().open(argument, request)

        @gankit.hookimpl
        def gankit_datasets():
            return [Mine]
        """
    (tmp_path / "mine.py").write_text(textwrap.dedent(code), encoding="utf-8")
    for place in range(40):
        Image.new("RGB", (20, 20), (6 * place, 0, 0)).save(tmp_path / f"{place}.png")
    said = gankit("plugins", "check", "mine.py")
    assert said.code == 1
    assert "say which folder" in said.out
    assert "where it needs an argument, give one: --data mine:ARGUMENT" in said.out
    said = gankit("plugins", "check", "mine.py", "--data", f"mine:{tmp_path}")
    assert (said.code, said.out.splitlines()[-1]) == (0, "4 passed, 0 failed"), said.out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("begann", "begann is no file, folder or installed plugin (did you mean 'began'?)"),
        ("gone.py", "--plugin gone.py cannot be used"),
        ("folder", "folder has no pyproject.toml"),
    ],
)
def test_what_is_no_plugin_is_refused_in_one_line(gankit: Gankit, tmp_path: Path, given: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    refused(gankit("plugins", "check", given), words)


def test_of_several_plugins_the_one_that_is_named_is_checked(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("bb.py", "cc.py")]
    for file in files:
        Path(file).write_text("", encoding="utf-8")
    assert [plugin.where for plugin in _select(files[0], files)[1]] == files[:1]


def test_a_package_that_names_no_plugin_is_refused(gankit: Gankit, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n', encoding="utf-8")
    refused(gankit("plugins", "check", "."), "names no plugin: add [project.entry-points.gankit]")


def test_the_pytest_plugin_costs_nothing_where_it_is_not_used() -> None:
    """Every pytest run on the machine imports it."""
    code = (
        "import sys, pytest; import gankit.testing.plugin; "
        "sys.exit(bool({'torch', 'numpy', 'pydantic', 'pluggy.gankit', 'gankit.catalogue'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
