"""The promises to plugins and about plugins: all are found the same way, guarded, and inert until named."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pluggy
import pytest
import torch
from conftest import ROOT, STRANGER, lines, refused, timeless, weights
from pydantic import Field, create_model
from typing_extensions import get_original_bases

import gankit as public
from gankit import TrainingError, UserError, api, hookspecs
from gankit.catalogue import KINDS, Catalogue
from gankit.cli import cli
from gankit.cli.model_help import settings_of
from gankit.config.request import RunRequest
from gankit.config.resolve import resolve
from gankit.options import validate
from gankit.training import start
from gankit.training.diagnose import checked
from gankit.training.loop import step_once
from gankit.training.watcher import Watcher

HOOKS = [name for name in dir(hookspecs) if name.startswith("gankit_")]
QUICK = {
    "data": "demo:120",
    "image_size": 16,
    "batch_size": 4,
    "precision": "fp32",
    "set": {"filters": 4, "latent": 8},
    "steps": 4,
    "log_every": 1,
}

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread (the networks are tiny), and a new look-up of the plugins' commands in every test."""
    monkeypatch.delattr(cli, "_catalogue", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    vars(cli).pop("_catalogue", None)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a stranger's distribution: a package and the metadata that pip would write, in a folder of sys.path."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    packages: list[str] = []

    def distribution(name: str, code: str, entry: str | None = None) -> None:
        package = name.replace("-", "_")
        packages.append(package)
        (site / package).mkdir()
        (site / package / "__init__.py").write_text(textwrap.dedent(code), encoding="utf-8")
        metadata = site / f"{package}-1.5.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(f"[gankit]\n{entry or name} = {package}\n", encoding="utf-8")

    yield distribution
    for package in packages:
        sys.modules.pop(package, None)


def model(name: str = "x", hook: str = "gankit_models", body: str = "") -> str:
    """The code of a plugin that offers one model, a BEGAN of another name and with a further line in its class."""
    return f"""
        import gankit

        @gankit.hookimpl
        def {hook}():
            from gankit_began.model import BEGAN

            class Mine(BEGAN):
                name = {name!r}
                {body}

            return [Mine]
        """


# Discovery.


def test_a_stranger_s_plugin_is_found_by_its_entry_point_as_the_shipped_ones_are(install, tmp_path):
    """Through the console script's entry point: another process, with PYTHONPATH only."""
    install("my-gan", model("x"))
    shown = subprocess.run(
        [sys.executable, "-m", "gankit", "plugins", "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=dict(os.environ),
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "my-gan  (my-gan 1.5, my_gan)\n    model x\n" in shown.stdout
    assert re.search(r"^began  \(gankit \S+, gankit_began\)\n    model began$", shown.stdout, re.MULTILINE)
    assert "model ebgan" in shown.stdout


def test_a_stranger_s_model_trains(install, tmp_path, undrawn):
    install("my-gan", model("x"))
    made = api.run("x", **QUICK, out=tmp_path / "run")
    assert made.result["outcome"] == "finished"
    (mine,) = [one for one in made.environment["plugins"] if one["name"] == "my-gan"]
    assert (mine["distribution"], mine["version"], len(mine["sha256"])) == ("my-gan", "1.5", 64)


def test_a_file_named_with_plugin_is_used_without_being_installed(gankit, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(model("x")), encoding="utf-8")
    said = gankit("plugins", "list", "--plugin", path)
    assert said.code == 0
    assert f"mine  (--plugin {path}, {path})\n    model x\n" in said.out


def test_a_module_named_with_plugin_is_used_without_being_installed(tmp_path, monkeypatch):
    (tmp_path / "mine_as_module.py").write_text(textwrap.dedent(model("x")), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert Catalogue(["mine_as_module"]).get("models", "x").name == "x"


def test_a_file_named_with_plugin_hides_no_module_of_its_name(tmp_path):
    import json

    path = tmp_path / "json.py"
    path.write_text(textwrap.dedent(model("x")), encoding="utf-8")
    Catalogue([str(path)])
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("given", "code", "reason"),
    [
        ("missing.py", None, "is no file"),
        ("no_such_module", None, "No module named 'no_such_module'"),
        ("broken.py", "import torch_of_1999", "No module named 'torch_of_1999'"),
        ("broken.py", "def gankit_models(:", "SyntaxError"),
        ("broken.py", "def gankit_models(): return []", "not marked"),
    ],
)
def test_what_plugin_names_and_cannot_be_used_is_refused_in_one_line(gankit, tmp_path, given, code, reason):
    if code is not None:
        (tmp_path / given).write_text(code, encoding="utf-8")
    refused(gankit("run", "began", "--data", "demo", "--steps", 0, "--plugin", given), f"--plugin {given}", reason)


@pytest.mark.parametrize(
    ("hook", "fault", "reason"),
    [
        (
            "gankit_models",
            "class Mine(gankit.Model): name = 'mine'; losse = None\n    return [Mine]",
            "Mine has no 'latents'",
        ),
        ("gankit_losses", "raise ValueError('no such loss')", "ValueError: no such loss (broken.py, line 5)"),
        ("gankit_diagnostics", "return None", "gankit_diagnostics must return a list"),
        ("gankit_views", "return [gankit.Model]", "which is no subclass of gankit.View"),
    ],
)
def test_a_hook_of_plugin_s_that_fails_ends_the_command_and_is_listed(gankit, tmp_path, hook, fault, reason):
    """BEGAN trained in its place."""
    (tmp_path / "broken.py").write_text(f"import gankit\n@gankit.hookimpl\ndef {hook}():\n\n    {fault}\n")
    quick = ("--data", "demo:60", "--steps", 0, "--plugin", "broken.py", "--out", "run")
    refused(gankit("run", *quick), "--plugin broken.py cannot be used: ", reason)
    assert not (tmp_path / "run").exists()
    listed = gankit("plugins", "list", "--plugin", "broken.py")
    assert listed.code == 1
    assert "BROKEN: " in listed.out
    assert reason in listed.out
    assert reason in gankit("plugins", "check", "broken.py").out


# Broken ones.

BROKEN = {
    "raises at import": ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    "a syntax error": ("def gankit_models(:", "SyntaxError: invalid syntax"),
    "a missing dependency": ("import torch_of_1999", "ModuleNotFoundError: No module named 'torch_of_1999'"),
    "exits at import": ("import sys; sys.exit('a GPU is needed')", "SystemExit: a GPU is needed"),
    "a hook that raises": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(): raise OSError('weights not found')",
        "OSError: weights not found",
    ),
    "a hook that exits": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(): raise SystemExit('not today')",
        "SystemExit: not today",
    ),
    "a dependency missing in a hook": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(): import torch_of_1999",
        "ModuleNotFoundError: No module named 'torch_of_1999'",
    ),
    "a wrong signature": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(catalogue): return []",
        "gankit_models asks for 'catalogue', and gankit gives it nothing",
    ),
    "a misspelt hook": (model(hook="gankit_modles"), "no hook 'gankit_modles' (did you mean 'gankit_models'?)"),
    "an unmarked hook": ("def gankit_models(): return []", "gankit_models is not marked: put @gankit.hookimpl above"),
    "nothing returned": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(): pass",
        "gankit_models must return a list, and returned None",
    ),
    "a class outside a list": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(): return gankit.Model",
        "gankit_models must return a list, and returned <class 'gankit.model.Model'>",
    ),
    "a class of another kind": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(): return [gankit.View]",
        "which is no subclass of gankit.Model",
    ),
    "no class": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models(): return ['began']",
        "gankit_models returned 'began', which is no subclass of gankit.Model",
    ),
    "a nameless class": (
        "import gankit\n@gankit.hookimpl\ndef gankit_models():\n class Mine(gankit.Model): pass\n return [Mine]",
        "Mine.name is None: it must be lower-case words joined by hyphens",
    ),
    "a badly named class": (model("My GAN"), "Mine.name is 'My GAN': it must be lower-case words joined by hyphens"),
    "hooks of a newer gankit": (
        f"import gankit\nGANKIT_HOOKS = {hookspecs.VERSION + 1}\n",
        f"it was written for version {hookspecs.VERSION + 1} of gankit's hooks, and this gankit has version "
        f"{hookspecs.VERSION}: install a newer gankit",
    ),
    "hooks of an older gankit": (
        "import gankit\nGANKIT_HOOKS = 0\n",
        "it was written for version 0 of gankit's hooks, and this gankit has version "
        f"{hookspecs.VERSION}: install a newer release of the",
    ),
    "a reaction of version 1 of the hooks": (
        "import gankit\nGANKIT_HOOKS = 1\n@gankit.hookimpl\ndef gankit_reactions(): return []",
        "and this gankit has version 2: Reaction.react(alarm, situation) returns gankit.Continue, gankit.Stop or",
    ),
    "hooks of a version that is no number": (
        "import gankit\nGANKIT_HOOKS = '1'\n",
        f"GANKIT_HOOKS is '1': it must be a whole number, here {hookspecs.VERSION}",
    ),
    "a model of version 1 whose options of controllers an instance gives": (
        model(body="def controller_options(self, controller): return {'lambda_k': self.settings.lambda_k}"),
        "Mine.controller_options has its form of before version 2 of gankit's hooks; a controller is given the model: "
        "let it read model.settings",
    ),
    **{
        f"a model of version 1 whose {name} are a property": (
            model(body=f"{name} = property(lambda self: ())"),
            f"Mine.{name} has its form of before version 2 of gankit's hooks",
        )
        for name in ("terms", "controllers", "diagnostics", "networks")
    },
    "a notification that asks for too much": (
        "import gankit\n@gankit.hookimpl\ndef gankit_run_started(rum): pass",
        "gankit_run_started asks for 'rum' (did you mean 'run'?), and gankit gives it run",
    ),
    "a setting called name": (
        """
        import gankit
        class Mine(gankit.Model):
            name = "x"
            class Settings(gankit.Settings):
                name: str = "mine"
        @gankit.hookimpl
        def gankit_models(): return [Mine]
        """,
        "Mine.Settings has a field 'name', which collides with the model's name in config.json: rename it",
    ),
    "an option called weight": (
        """
        import gankit
        class Mine(gankit.LossTerm):
            name = "x"
            class Options(gankit.Options):
                weight: float = 1.0
        @gankit.hookimpl
        def gankit_losses(): return [Mine]
        """,
        "Mine.Options has a field 'weight', which collides with the term's weight in config.json: rename it",
    ),
    "an option called copy": (
        """
        import gankit, warnings
        warnings.simplefilter("ignore")
        class Mine(gankit.View):
            name = "x"
            class Options(gankit.Options):
                copy: bool = True
        @gankit.hookimpl
        def gankit_views(): return [Mine]
        """,
        "Mine.Options has a field 'copy', which collides with pydantic's BaseModel.copy: rename it",
    ),
    "options of another kind": (
        """
        import gankit
        class Mine(gankit.View[int]):
            name = "x"
        @gankit.hookimpl
        def gankit_views(): return [Mine]
        """,
        "Mine.Options is <class 'int'>: it must be a subclass of gankit.Options",
    ),
    "settings of another kind": (
        """
        import gankit
        class Mine(gankit.Model):
            name = "x"
            class Settings(gankit.Options):
                pass
        @gankit.hookimpl
        def gankit_models(): return [Mine]
        """,
        "it must be a subclass of gankit.Settings",
    ),
    "two classes of one name": (
        model("x").replace("[Mine]", "[Mine, type('Other', (Mine,), {})]"),
        "gankit_models returned two with the name 'x'",
    ),
}


def test_a_plugin_of_an_earlier_version_is_as_good_where_nothing_of_it_changed(install):
    install("old", "GANKIT_HOOKS = 1\n" + textwrap.dedent(model("x", body="controllers = ('balance-pi', 'halving')")))
    found = Catalogue()
    assert found.broken == []
    config = resolve("x", RunRequest(data="demo"), found)
    assert list(config.controllers) == ["balance-pi", "halving"]


def test_what_a_model_brings_can_hang_on_its_settings(install):
    body = "controllers = classmethod(lambda cls, settings: ('balance', *(('pace',) if settings.gamma < 0.5 else ())))"
    install("my-gan", model("x", body=body))
    for gamma, controllers in ((0.3, ["balance", "pace"]), (0.7, ["balance"])):
        config = resolve("x", RunRequest(data="demo", set={"gamma": gamma}), Catalogue())
        assert list(config.controllers) == controllers


def test_a_configuration_is_settled_without_a_model_a_network_or_a_controller(install, monkeypatch):
    from gankit_began import balance
    from gankit_began import model as began

    def refuse(self, *given):
        raise AssertionError(f"{type(self).__name__} was made")

    for cls in (began.BEGAN, balance.Balance, balance.Halving, balance.Pace):
        monkeypatch.setattr(cls, "__init__", refuse)
    resolve("began", RunRequest(data="demo", controllers=["pace"], set={"pace.gain": 0.1}), Catalogue())


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_everything_else_goes_on(install, gankit, monkeypatch, way):
    code, reason = BROKEN[way]
    install("bad", code)
    install("good", model("y"))

    listed = gankit("plugins", "list")
    assert listed.code == 1
    (line,) = [line for line in listed.out.splitlines() if "BROKEN" in line]
    assert reason in line
    assert "bad  (bad 1.5, bad)\n    BROKEN: " in listed.out
    for other in ("model began", "model ebgan", "model y", "data source demo"):
        assert f"    {other}\n" in listed.out

    asked = ["began", "--loss", "x=1"] if "gankit_losses" in code else ["x"]
    asked = ["began", "--view", "x"] if "gankit_views" in code else asked
    refused(
        gankit("run", *asked, "--data", "demo", "--steps", 0),
        {"x": "unknown model 'x'"}.get(asked[0], "'x'"),
        "plugin 'bad' (bad 1.5) failed to load",
        reason,
    )
    assert gankit("--help").code == 0
    assert gankit("run", "began", "--help").code == 0

    monkeypatch.setenv("GANKIT_STRICT", "1")
    with pytest.raises((Exception, SystemExit), match=re.escape(reason.partition(": ")[2] or reason)):
        [Catalogue().kind(kind) for kind in ("models", "losses", "views")]


def test_other_hooks_of_a_broken_plugin_are_not_used_either(install):
    """Half a plugin is worse than none: its broken part would be missing later."""
    install("bad", model("x") + "\n        @gankit.hookimpl\n        def gankit_views(settings): return []\n")
    assert "x" not in Catalogue().kind("models")


def test_began_trains_beside_a_broken_plugin(install, tmp_path, undrawn):
    install("bad", "raise RuntimeError('no licence')")
    made = api.run("began", **QUICK, out=tmp_path / "run")
    assert made.result["outcome"] == "finished"
    assert "bad" not in [plugin["name"] for plugin in made.environment["plugins"]]


# Names.


def ways_out(message: str) -> list[str]:
    """The value for GANKIT_DISABLE_PLUGINS in the message."""
    return re.findall(r"GANKIT_DISABLE_PLUGINS=([\w.-]+)", message)


@pytest.mark.parametrize("entry", ["aaa", "zzz", "began"])
def test_a_stranger_s_began_is_refused_with_both_named_and_every_way_out_works(install, gankit, monkeypatch, entry):
    install("impostor", model("began"), entry=entry)
    said = gankit("run", "began", "--data", "demo", "--steps", "0")
    refused(said, "model 'began' is offered by", f"'{entry}' (impostor 1.5)", "'began' (gankit ")
    listed = gankit("plugins", "list")
    assert listed.code == 1
    assert "CLASH: model 'began' is claimed by" in listed.out
    assert f"{entry}  (impostor 1.5, impostor)\n    model began\n" in listed.out
    assert listed.out.count("    model began\n") == 2
    assert Catalogue().get("models", "ebgan").name == "ebgan"

    assert len(ways_out(said.err)) == 2
    for way in ways_out(said.err):
        monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", way)
        assert Catalogue().get("models", "began").name == "began"
        assert not Catalogue().clashes()
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", "impostor")
    assert Catalogue().get("models", "began").__module__ == "gankit_began.model"


@pytest.mark.parametrize("taken", ["began", "gankit", "honest"])
def test_a_plugin_cannot_register_under_another_s_name_unseen(install, gankit, monkeypatch, taken):
    """Another plugin's, or another distribution's: GANKIT_DISABLE_PLUGINS with that name would leave out both."""
    install("honest", model("y"), entry="z")
    install("impostor", model("x"), entry=taken)
    listed = gankit("plugins", "list")
    assert listed.code == 1
    clash = f"CLASH: the name '{taken}' of a plugin is claimed by .*'{taken}' \\(impostor 1.5\\)"
    assert re.search(clash, listed.out)
    assert f"{taken}  (impostor 1.5, impostor)\n    model x\n" in listed.out
    assert gankit("plugins", "check", "impostor").code == 1
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", "impostor")
    assert gankit("plugins", "list").code == 0


@pytest.mark.parametrize("entry", ["aaa", "zzz"])
def test_a_plugin_cannot_give_another_s_module_as_its_own_unseen(install, gankit, tmp_path, entry):
    """Whichever of the two is found first."""
    install("impostor", "", entry=entry)
    (tmp_path / "site-packages" / "impostor-1.5.dist-info" / "entry_points.txt").write_text(
        f"[gankit]\n{entry} = gankit_began\n", encoding="utf-8"
    )
    said = gankit("run", "began", "--data", "demo", "--steps", "0")
    refused(said, "model 'began' is offered by", f"'{entry}' (impostor 1.5)", "'began' (gankit ")
    listed = gankit("plugins", "list")
    assert (listed.code, listed.out.count("BROKEN")) == (1, 0)


def test_what_is_given_twice_is_there_once(gankit, tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(model("x")), encoding="utf-8")
    listed = gankit("plugins", "list", "--plugin", "mine.py", "--plugin", "mine.py")
    assert (listed.code, listed.out.count("model x")) == (0, 1)


def test_within_a_package_its_name_is_the_plugin_s_and_not_that_of_its_code_s_folder(install, gankit, tmp_path):
    """As the README of a new package says: gankit plugins check NAME, beside the folder NAME/ with the modules."""
    install("honest", "import gankit")
    (tmp_path / "honest").mkdir()
    said = gankit("plugins", "check", "honest")
    assert said.code == 0, said.err
    assert said.out.startswith("honest  (honest 1.5, honest)\n")


def test_a_clash_of_others_is_no_fault_of_the_plugin_that_is_checked(install, gankit):
    install("honest", "import gankit")
    install("one", model("x"))
    install("two", model("x"))
    assert gankit("plugins", "check", "honest").code == 0
    said = gankit("plugins", "check", "one")
    assert said.code == 1
    assert "FAIL  model 'x' is claimed by 'one' (one 1.5) and by 'two' (two 1.5)" in said.out


def test_two_components_of_a_run_with_one_name_are_not_set_by_it(install, gankit):
    code = (STRANGER / "everything.py").read_text(encoding="utf-8")
    settings = "\n\n    class Options(gankit.Options):\n        x: int = 0\n"
    name = 'name = "everything-diagnostic"'
    install("everything", code.replace('name = "everything-controller"', name + settings))
    named = ("--controller", "everything-diagnostic", "--diagnostic", "everything-diagnostic")
    refused(
        gankit("run", "began", "--data", "demo", "--steps", 0, *named, "--set", "everything-diagnostic.x=1"),
        "in this run a controller and a diagnostic have the name 'everything-diagnostic': say which in a file for "
        "--config, under [controllers.everything-diagnostic] or [diagnostics.everything-diagnostic]",
    )


def test_a_file_s_began_can_take_the_place_of_the_installed_one_as_the_refusal_says(tmp_path, monkeypatch):
    path = tmp_path / "impostor.py"
    path.write_text(textwrap.dedent(model("began")), encoding="utf-8")
    with pytest.raises(UserError, match=r"offered by 'began'.* and by 'impostor'") as refusal:
        Catalogue([str(path)]).get("models", "began")
    assert ways_out(str(refusal.value)) == ["began"]
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", "began")
    assert Catalogue([str(path)]).get("models", "began").__name__ == "Mine"


@pytest.mark.parametrize(
    ("left_out", "gone", "there"),
    [
        ("ebgan", [("models", "ebgan"), ("losses", "pulling-away"), ("controllers", "margin")], "began"),
        ("began", [("models", "began"), ("networks", "began-autoencoder"), ("controllers", "balance")], "ebgan"),
    ],
)
def test_either_shipped_model_can_be_left_out_and_the_other_trains(
    monkeypatch, tmp_path, undrawn, left_out, gone, there
):
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", left_out)
    catalogue = Catalogue()
    assert not catalogue.broken
    for kind, name in gone:
        with pytest.raises(UserError, match=f"unknown {KINDS[kind][0]} '{name}'"):
            catalogue.get(kind, name)
    trained = api.run(there, **QUICK, out=tmp_path / "run")
    assert trained.result["outcome"] == "finished"
    assert "mode-collapse" in trained.config["diagnostics"]  # which is the core's


def test_without_ebgan_its_loss_is_unknown_on_the_command_line(gankit, monkeypatch):
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", "ebgan")
    refused(
        gankit("run", "began", "--data", "demo", "--steps", 0, "--loss", "pulling-away=0.1"),
        "unknown loss term 'pulling-away'",
    )


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (["begn"], "unknown model 'begn' (did you mean 'began'?). There are: began, ebgan"),
        (["began", "--loss", "puling-away=1"], "unknown loss term 'puling-away' (did you mean 'pulling-away'?)"),
        (["began", "--controller", "balanse"], "unknown controller 'balanse' (did you mean 'balance'?)"),
        (["began", "--diagnostic", "vital"], "unknown diagnostic 'vital' (did you mean 'vitals'?)"),
        (["began", "--view", "paking"], "unknown view 'paking' (did you mean 'packing'?)"),
        (["began", "--artifact", "animations"], "unknown artifact 'animations' (did you mean 'animation'?)"),
        (["began", "--on-alarm", "stopp"], "unknown reaction 'stopp' (did you mean 'stop'?)"),
        (["began", "--set", "networks=began-autoencodr"], "(did you mean 'began-autoencoder'?)"),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is_and_the_nearest(gankit, tmp_path, request_, words):
    refused(gankit("run", *request_, "--data", "demo", "--steps", 0, "--out", "run"), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "curves", ['{"mine/x": "k_t"}', "{1: gankit.Curve()}", '["mine/x"]', '{"mine/x": gankit.Curve(leter="k")}']
)
def test_what_a_plugin_says_of_its_metrics_is_refused_before_a_run_where_it_is_nothing(gankit, tmp_path, curves):
    path = tmp_path / "mine.py"
    code = textwrap.dedent(model("mine")).replace("name = 'mine'", f"name = 'mine'\n        curves = {curves}")
    path.write_text(code, encoding="utf-8")
    said = gankit("run", "mine", "--plugin", path, "--data", "demo", "--steps", 0, "--out", "run")
    refused(said, "leter" if "leter" in curves else "Mine.curves")
    assert not (tmp_path / "run").exists()


# Commands and notifications.


def test_a_plugin_s_command_is_a_command_of_gankit(install, gankit):
    install("everything", (STRANGER / "everything.py").read_text(encoding="utf-8"))
    assert re.search(r"^  everything +Say that everything is here\.$", gankit("--help").out, re.MULTILINE)
    assert gankit("everything").out == "everything is here\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('no commands today')", "RuntimeError: no commands today"),
        ("return [print]", "which is no click command"),
        ("return None", "must return a list"),
    ],
)
def test_a_broken_commands_hook_kills_no_command_and_is_listed_with_its_reason(install, gankit, body, reason):
    install("bad", f"import gankit\n@gankit.hookimpl\ndef gankit_commands(): {body}")
    assert "Train a model" in gankit("--help").out
    assert gankit("--version").code == 0
    refused(gankit("no-such-command"), "no command 'no-such-command'", "plugin 'bad' (bad 1.5) failed to load", reason)
    listed = gankit("plugins", "list")
    assert listed.code == 1
    assert re.search(f"BROKEN: .*{re.escape(reason)}", listed.out)


def command(name: str) -> str:
    """The code of a plugin that offers one command, which says who it is."""
    return f"""
        import click, gankit

        @click.command({name!r}, help="Say who it is.")
        def it():
            click.echo(__name__)

        @gankit.hookimpl
        def gankit_commands():
            return [it]
        """


def test_a_plugin_cannot_replace_a_command_of_gankit_s_own(install, gankit):
    install("bad", command("plugins"))
    listed = gankit("plugins", "list")
    assert listed.code == 1
    assert "model began" in listed.out
    assert "CLASH: command 'plugins' is claimed by 'gankit' (gankit) and by 'bad' (bad 1.5);" in listed.out


def test_a_command_that_two_plugins_claim_is_refused_with_both_named(install, gankit, monkeypatch):
    install("one", command("who"))
    install("two", command("who"))
    said = gankit("who")
    refused(said, "command 'who' is offered by 'one' (one 1.5) and by 'two' (two 1.5): leave one out")
    assert "CLASH: command 'who'" in gankit("plugins", "list").out
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", ways_out(said.err)[0])
    vars(cli).pop("_catalogue")
    assert gankit("who").out == "two\n"


class Notices(Watcher):
    """The notices of the run."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_the_notifications_come_in_order_and_with_the_run(install, tmp_path, undrawn):
    install("everything", (STRANGER / "everything.py").read_text(encoding="utf-8"))
    api.run("began", **QUICK | {"steps": 2}, diagnostics=["everything-diagnostic"], out=tmp_path / "run")
    assert sys.modules["everything"].told == [
        "started began",
        "everything-diagnostic at step 1: I have looked.",
        "everything-diagnostic at step 2: I have looked.",
        "finished at step 2",
    ]


@pytest.mark.parametrize("hook", ["run_started", "alarm_raised", "run_finished"])
def test_a_notification_that_raises_is_reported_once_and_the_training_goes_on(install, tmp_path, undrawn, hook):
    install("bad", f"import gankit\n@gankit.hookimpl\ndef gankit_{hook}(run): raise OSError('no mail server')")
    everything = str(STRANGER / "everything.py")
    told = Notices()
    made = api.run(
        "began",
        **QUICK,
        diagnostics=["everything-diagnostic"],
        plugins=[everything],
        out=tmp_path / "run",
        watcher=told,
    )
    assert made.result["outcome"] == "finished"
    assert len(made.alarms()) == made.result["steps"]
    (line,) = [notice for notice in told.notices if "no mail server" in notice]
    said = f"plugin 'bad' failed in gankit_{hook} and is not told again: OSError: no mail server"
    assert line == f"{said} (bad{os.sep}__init__.py, line 3)"


# Observers that fail.

OBSERVER = """
import gankit

class Faulty(gankit.Diagnostic):
    name = "faulty"
    every = 1

    def read(self, snapshot):
        snapshot.generate(3).mean().item()
        if snapshot.number >= 2:
            {fault}
        return gankit.Reading({{"fine": 1.0}})

@gankit.hookimpl
def gankit_diagnostics():
    return [Faulty]
"""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise ZeroDivisionError('nobody there')", "ZeroDivisionError: nobody there"),
        ("return gankit.Reading({'fine': 'very'})", "ValueError: could not convert string to float: 'very'"),
        ("return None", "TypeError: read returned None"),
        ("self.state = lambda: 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_diagnostic_that_fails_is_switched_off_and_the_training_is_as_if_it_had_never_looked(
    tmp_path, undrawn, fault, reason
):
    (tmp_path / "faulty.py").write_text(OBSERVER.format(fault=fault), encoding="utf-8")
    told = Notices()
    made = api.run(
        "began",
        **QUICK,
        plugins=[str(tmp_path / "faulty.py")],
        diagnostics=["faulty"],
        out=tmp_path / "observed",
        watcher=told,
    )
    assert made.result["outcome"] == "finished"
    (alarm,) = made.alarms()
    assert (alarm["step"], alarm["diagnostic"], alarm["kind"]) == (2, "faulty", "diagnostic-failed")
    assert (alarm["severity"], alarm["action"]) == ("warning", "warned")
    assert reason in alarm["message"]
    assert len([notice for notice in told.notices if "'faulty' failed and is switched off" in notice]) == 1
    assert [line.get("faulty/fine") for line in made.metrics()] == [1.0, None, None, None]

    alone = api.run("began", **QUICK, out=tmp_path / "alone")
    assert weights(made.folder, 4) == weights(alone.folder, 4)


def test_a_diagnostic_that_takes_more_than_its_budget_is_told_of_once_and_the_training_is_the_same(
    tmp_path, undrawn, monkeypatch
):
    """The clock is the test's own: a look takes 9 s, and everything else 0 s."""
    clock = [0.0]
    monkeypatch.setattr("gankit.training.diagnose.perf_counter", lambda: clock[0])
    (tmp_path / "faulty.py").write_text(OBSERVER.format(fault="self.clock[0] += 9"), encoding="utf-8")
    told, plugins = Notices(), [str(tmp_path / "faulty.py")]
    cls = Catalogue(plugins).get("diagnostics", "faulty")
    monkeypatch.setattr("gankit.components.Diagnostic.clock", clock, raising=False)
    assert cls.budget == 0.25
    made = api.run("began", **QUICK, plugins=plugins, diagnostics=["faulty"], out=tmp_path / "slow", watcher=told)
    assert made.result["outcome"] == "finished"
    assert [line["faulty/fine"] for line in made.metrics()] == [1.0] * 4
    (line,) = [notice for notice in told.notices if "'faulty'" in notice]
    assert line.startswith(
        "warning: diagnostic 'faulty' has taken 9 s, 100% of this training's time (its budget is 25%); it goes on"
    )
    alone = api.run("began", **QUICK, out=tmp_path / "alone")
    assert weights(made.folder, 4) == weights(alone.folder, 4)


def test_a_reading_may_be_any_number_torch_s_and_numpy_s_included(tmp_path, undrawn):
    fault = (
        "import torch, numpy; return gankit.Reading({'fine': torch.tensor(2.0), 'too': numpy.float32(3)}, "
        "[gankit.Alarm('odd', 'warning', 'It is odd.', readings={'a': torch.tensor(1.0)})], healthy=numpy.bool_(True))"
    )
    (tmp_path / "faulty.py").write_text(OBSERVER.format(fault=fault), encoding="utf-8")
    made = api.run(
        "began", **QUICK, plugins=[str(tmp_path / "faulty.py")], diagnostics=["faulty"], out=tmp_path / "run"
    )
    assert (made.metrics()[-1]["faulty/fine"], made.metrics()[-1]["faulty/too"]) == (2.0, 3.0)


ODD = {"kind": "odd", "severity": "warning", "message": "It is odd."}


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"healthy": "no"}, "healthy is 'no': it must be True, False or None"),
        ({"health": 1}, "health is 1"),
        ({"values": {1: 1.0}}, "a reading is called 1"),
        ({"details": {"x": torch.zeros(1)}}, "not JSON serializable"),
        ({"alarms": "odd"}, "'o' is no alarm"),
        (
            {"alarms": [{**ODD, "severity": "critcal"}]},
            'it must be gankit.Alarm(kind, "warning" or "critical", message)',
        ),
        ({"alarms": [{**ODD, "advice": "help"}]}, "advice is 'help'"),
        ({"alarms": [{**ODD, "before": 1.5}]}, "`before` a step or None"),
        ({"alarms": [{**ODD, "readings": {"a": torch.zeros(2)}}]}, "converted to"),
    ],
)
def test_a_reading_that_cannot_be_written_is_found_before_anything_uses_it(reading, words):
    if isinstance(reading.get("alarms"), list):
        reading = {"alarms": [public.Alarm(**alarm) for alarm in reading["alarms"]]}
    with pytest.raises((TypeError, ValueError, RuntimeError), match=re.escape(words)):
        checked(public.Reading(**reading))


def test_a_remedy_has_numbers_alone():
    with pytest.raises(TypeError, match=r"a gankit\.Remedy has energy='mse': it must be a number"):
        public.Remedy("another energy", {"energy": "mse"})


def test_a_state_that_its_diagnostic_cannot_restore_is_no_damaged_checkpoint(tmp_path, undrawn):
    text = OBSERVER.format(fault="pass").replace(
        "    every = 1\n",
        "    every = 1\n    state = lambda self: {'a': 1.0}\n    restore = lambda self, state: state['b']\n",
    )
    (tmp_path / "faulty.py").write_text(text, encoding="utf-8")
    plugins = [str(tmp_path / "faulty.py")]
    made = api.run("began", **QUICK | {"steps": 1}, plugins=plugins, diagnostics=["faulty"], out=tmp_path / "run")
    with pytest.raises(UserError, match=r"^diagnostic 'faulty' cannot restore its state of .*KeyError: 'b'"):
        api.resume(made.folder, steps=2, plugins=plugins)


def test_a_reading_that_is_not_finite_ends_nothing_and_an_artifact_gets_none(tmp_path, undrawn):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        import torch

        import gankit
        from gankit_began.model import BEGAN

        class Mine(BEGAN):
            name = "mine"

            def losses(self, step):
                losses = super().losses(step)
                losses.readings["mine/odd"] = torch.tensor(float("nan"))
                return losses

        class Told(gankit.Artifact):
            name = "told"

            def line(self, line):
                with open(self.run.folder / "told.txt", "a") as file:
                    file.write(f"{line['mine/odd']} ")

        @gankit.hookimpl
        def gankit_models():
            return [Mine]

        @gankit.hookimpl
        def gankit_artifacts():
            return [Told]
        """),
        encoding="utf-8",
    )
    quick = {**QUICK, "log_every": 2, "checkpoint_every": 2}
    made = api.run("mine", **quick, plugins=[str(tmp_path / "mine.py")], artifacts=["told"], out=tmp_path / "run")
    assert made.result["outcome"] == "finished"
    assert made.checkpoints() == [0, 2, 4]
    assert (made.folder / "told.txt").read_text() == "None None "


def test_a_reaction_that_raises_does_not_end_the_training(tmp_path, undrawn):
    (tmp_path / "post.py").write_text(
        textwrap.dedent("""
        import gankit

        class Worried(gankit.Diagnostic):
            name = "worried"
            every = 2

            def read(self, snapshot):
                return gankit.Reading(alarms=[gankit.Alarm("worry", "critical", "It looks bad.")])

        class Post(gankit.Reaction):
            name = "post"

            def react(self, alarm, control):
                raise OSError("no stamps")

        @gankit.hookimpl
        def gankit_diagnostics():
            return [Worried]

        @gankit.hookimpl
        def gankit_reactions():
            return [Post]
        """),
        encoding="utf-8",
    )
    made = api.run(
        "began",
        **QUICK,
        plugins=[str(tmp_path / "post.py")],
        diagnostics=["worried"],
        on_alarm="post",
        out=tmp_path / "run",
    )
    assert made.result["outcome"] == "finished"
    assert [alarm["action"] for alarm in made.alarms()] == [
        "the reaction failed: OSError: no stamps (post.py, line 15)"
    ] * 2


# A component that cannot train or be saved is refused before the run folder exists.

FAULTY = """
import torch
import gankit


class Faulty(gankit.LossTerm):
    name = "faulty"

    def __call__(self, step):
        return {term}


class Lost(gankit.Controller):
    name = "lost"
    drives = ("k",)

    def __init__(self, options, model):
        super().__init__(options, model)
        {state}

    def value(self, knob):
        return torch.zeros(())

    def update(self, number, readings):
        {update}


@gankit.hookimpl
def gankit_losses():
    return [Faulty]


@gankit.hookimpl
def gankit_controllers():
    return [Lost]
"""


@pytest.mark.parametrize(
    ("flags", "fault", "code", "words"),
    [
        (
            ["--loss", "faulty=1"],
            {"term": "step.fake.mean(dim=(1, 2, 3))"},
            2,
            "term/faulty of model 'began' is no scalar: its shape is (4,); take the mean over the batch",
        ),
        (["--loss", "faulty=1"], {"term": "0.5"}, 2, "term/faulty of model 'began' is 0.5: it must be a 0-dim tensor"),
        (
            ["--loss", "faulty=1"],
            {"term": "step.fake.mean() / 0"},
            2,
            "before the first step: no weight could learn from it",
        ),
        (
            ["--loss", "faulty=1"],
            {"term": "step.fake @ step.noise"},
            1,
            "model 'began' failed before its first step, and nothing was written: RuntimeError: ",
        ),
        (
            ["--controller", "lost"],
            {"state": "self.total = 0.0", "update": "self.total += 1"},
            2,
            "--controller lost: it remembers 'total' outside its buffers (0.0 became 1.0), where no checkpoint",
        ),
        (
            ["--controller", "lost"],
            {"state": "type(self).get_extra_state = lambda self: {'a': 1}; type(self).set_extra_state = print"},
            2,
            "--controller lost: its state cannot be saved (",
        ),
        (
            ["--controller", "lost"],
            {"state": "x = torch.zeros(2); self.register_buffer('a', x); self.register_buffer('b', x[:1])"},
            2,
            "--controller lost: its state cannot be saved (",
        ),
    ],
)
def test_what_cannot_train_or_be_saved_is_one_line_and_nothing_is_written(gankit, tmp_path, flags, fault, code, words):
    fault = {"term": "step.fake.mean()", "state": "pass", "update": "pass"} | fault
    (tmp_path / "faulty.py").write_text(FAULTY.format(**fault), encoding="utf-8")
    quick = ("--data", "demo:120", "--image-size", 16, "--batch-size", 4, "--set", "filters=4", "--steps", 1)
    said = gankit("run", "began", *quick, "--plugin", "faulty.py", *flags, "--out", "run")
    assert said.code == code
    (line,) = said.err.splitlines()
    assert words in line
    place = 1 + (tmp_path / "faulty.py").read_text().splitlines().index(f"        return {fault['term']}")
    assert code == 2 or f"(faulty.py, line {place})" in line
    assert not (tmp_path / "run").exists()


MINE = """
import numpy as np
import torch
from pydantic import Field, field_validator

import gankit
from gankit_began.model import BEGAN


class Mine({base}):
    name = "mine"
    {body}


@gankit.hookimpl
def gankit_{kind}():
    return [Mine]
"""
SOURCE = "def open(self, argument, request): "
LOOK = "def read(self, snapshot): return gankit.Reading()\n    "
TERM = "def __call__(self, step): return step.fake.mean()\n    "
ODD_LOSSES = """def losses(self, step):
        losses = super().losses(step)
        losses.{}[{!r}] = step.fake.mean()
        return losses
"""
REFUSED = [  # kind, what its class has, what the line says
    ("diagnostics", f"{LOOK}every = 0", "--diagnostic mine: its `every` is 0: it must be a whole number of steps"),
    ("diagnostics", f"{LOOK}every = '100'", "--diagnostic mine: its `every` is '100'"),
    (
        "diagnostics",
        f"{LOOK}def state(self): return [torch]",
        "--diagnostic mine: its state cannot be saved (TypeError",
    ),
    ("diagnostics", f"{LOOK}summary = None", "Mine.summary is None: it must be one line of text"),
    (
        "losses",
        "def __call__(self, step): self.memory['a'] = 1; return step.fake.mean()",
        "--loss mine: its state 'a' is 1, and a checkpoint holds tensors alone",
    ),
    ("datasets", f"{SOURCE}return None", "data source 'mine': `open` returns NoneType: it must return gankit.Data"),
    (
        "datasets",
        f"{SOURCE}1 / 0",
        "data source 'mine' failed, and nothing was written: ZeroDivisionError: division by",
    ),
    *(
        (
            "datasets",
            f"{SOURCE}return gankit.Data('mine', np.zeros((60, {shape}), np.{dtype}), np.zeros(0), '0')",
            f"data source 'mine': its `train` is {dtype} (60, {shape}): it must be uint8 (N, 16, 16, 3) for pictures",
        )
        for shape, dtype in (("8, 8, 3", "uint8"), ("16, 16, 3", "float64"), ("16", "uint8"))
    ),
    ("models", "resolve = classmethod(lambda cls, settings, machine: None)", "resolve of model 'mine' returns None"),
    (
        "models",
        "resolve = classmethod(lambda cls, settings, machine: 1 / 0)",
        "ZeroDivisionError: division by zero (mine.py",
    ),
    ("models", "terms = ['imle']", "terms of model 'mine' is ['imle']: it must be {name: weight}"),
    (
        "models",
        "terms = classmethod(lambda cls, settings: 1 / 0)",
        "of model 'mine' and its components cannot be settled:",
    ),
    ("models", "controllers = 'balance'", "controllers of model 'mine' is 'balance': it must be a list of names"),
    (
        "models",
        "presets = {'own': ['gamma']}",
        "preset 'own' of model 'mine' is ['gamma']: it must be a table of settings",
    ),
    ("models", "presets = {'own': {'gama': 1}}", "preset 'own' of model 'mine': unknown option 'gama'"),
    (
        "models",
        "class Settings(BEGAN.Settings):\n        @field_validator('gamma')\n        def odd(cls, v): return v + 'x'",
        "cannot be settled: TypeError: unsupported operand",
    ),
    (
        "models",
        "class Settings(BEGAN.Settings):\n        odd: object = object()",
        "model 'mine': a setting cannot be written to config.json (",
    ),
    ("models", "def latents(self, n, device): return torch.rand(3, 8)", "gives 3 latents where n is 4: let it draw n"),
    (
        "models",
        ODD_LOSSES.format("readings", "score"),
        "model 'mine' has a reading 'score', and each line of metrics.jsonl",
    ),
    (
        "models",
        ODD_LOSSES.format("by_network", "third")
        + "    def build_networks(self, pair, seen):\n"
        + "        return super().build_networks(pair, seen) | {'third': torch.nn.Linear(1, 1)}",
        "a loss for the network 'third', and none of its `updates` names it, so its weights would not move: let the",
    ),
    *(
        ("models", f"updates = {updates}", f"model 'mine': its `updates` {words}")
        for updates, words in (
            ("[]", "is []: it must be a tuple with a tuple of networks for each update"),
            ("[('generator'), ('discriminator')]", "is ['generator', 'discriminator']: it must be"),
            ("[('generator', 'discriminatr')]", "names a network 'discriminatr' (did you mean 'discriminator'?)"),
            ("[('generator', 'generator')]", "names the network 'generator' twice in one update"),
        )
    ),
    *(
        (
            "models",
            f"def build_networks(self, pair, seen):\n        made = super().build_networks(pair, seen)\n        {more}",
            words,
        )
        for more, words in (
            ("return list(made)", "build_networks returns ['generator', 'discriminator']: it must be a dict"),
            ("return made | {'generator/2': torch.nn.Linear(1, 1)}", "a network 'generator/2': its name must be of"),
            ("return made | {'idle': torch.nn.Identity()}", "the network 'idle' has no weights to train"),
        )
    ),
    ("models", "def optimizer(self, network, parameters): pass", "`optimizer` gives None for the network 'generator'"),
    ("diagnostics", f"{LOOK}needs = 'energy'", "Mine.needs is 'energy': it must be a set of words, as frozenset"),
    ("losses", "needs = ('code',)", "Mine.needs is ('code',): it must be a set of words"),
    ("losses", f"{TERM}def __init__(self, options): pass", "Mine.__init__ must call super().__init__(options) first"),
    (
        "diagnostics",
        "class Options(gankit.Options):\n        a: int = Field(1, description='one', alias='b')",
        "Mine.Options: its field 'a' has an alias: give it that name alone",
    ),
]


@pytest.mark.parametrize(("kind", "body", "words"), REFUSED)
def test_what_cannot_train_is_refused_before_a_run_in_one_line(tmp_path, kind, body, words):
    base = {"models": "BEGAN", "losses": "gankit.LossTerm", "datasets": "gankit.DataSource"}
    text = MINE.format(base=base.get(kind, "gankit.Diagnostic"), body=body, kind=kind)
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    own = {"losses": {"losses": {"mine": 1.0}}, "datasets": {"data": "mine"}, "diagnostics": {"diagnostics": ["mine"]}}
    more = {"preset": "own"} if body.startswith("presets") else own.get(kind, {})
    with pytest.raises((UserError, TrainingError)) as refusal:
        api.prepare("mine" if kind == "models" else "began", **QUICK | more, plugins=[str(tmp_path / "mine.py")])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "values", "words"),
    [
        ({}, {"learning_rate": True}, "mine: setting learning_rate=True is refused: it must be a number in (0, 1e+30]"),
        (
            {"n": (int, Field(3, ge=1))},
            {"n": True},
            "mine: setting n=True is refused: it must be a whole number in [1, ∞)",
        ),
        (
            {"n": (int, Field(3, ge=5))},
            {},
            "mine: the default 3 of setting 'n' is refused: it must be a whole number in [",
        ),
        ({"n": (int, ...)}, {}, "mine: setting 'n' has no default: set it, or give it a default"),
    ],
)
def test_a_setting_s_fault_is_told_as_it_is(fields, values, words):
    cls = create_model("Own", __base__=public.Settings, **fields)
    with pytest.raises(UserError, match=f"^{re.escape(words)}"):
        validate(cls, values, "mine", "setting")
    assert validate(create_model("Own", flag=(bool, False)), {"flag": True}, "mine", "setting").flag


@pytest.mark.parametrize("name", ["loss", "energy", "term", "weight"])
def test_a_diagnostic_with_the_name_of_gankit_s_readings_is_refused(tmp_path, name):
    """Regression: its readings took the place of the losses in metrics.jsonl."""
    code = MINE.format(base="gankit.Diagnostic", body=LOOK, kind="diagnostics").replace('"mine"', f'"{name}"')
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    with pytest.raises(UserError, match=f"'{name}' is no name for a controller or a diagnostic"):
        api.prepare("began", **QUICK, diagnostics=[name], plugins=[str(tmp_path / "mine.py")])


def test_a_whole_number_among_a_model_s_knobs_is_a_float_in_a_step(tmp_path):
    body = (
        "knobs = ('gamma', 'pull')\n    "
        "class Settings(BEGAN.Settings):\n        pull: int = Field(3, description='how much')"
    )
    (tmp_path / "mine.py").write_text(MINE.format(base="BEGAN", body=body, kind="models"), encoding="utf-8")
    *_, training = api.prepare("mine", **QUICK, plugins=[str(tmp_path / "mine.py")])
    assert training.knobs()["pull"].dtype == torch.float32
    assert isinstance(training.model.initial["pull"], float)


def test_a_setting_without_a_default_is_shown_as_one():
    cls = create_model("Own", __base__=public.Settings, width=(int, Field(description="units")))
    assert ("width=… (no default)", "units") in [(name, said[:5]) for name, said in settings_of(cls)]


def test_options_of_a_data_source_and_of_a_reaction_are_set_by_flag(gankit, tmp_path, undrawn):
    code = (STRANGER / "everything.py").read_text(encoding="utf-8")
    code = code.replace(
        '    name = "everything-reaction"\n',
        '    name = "everything-reaction"\n\n    class Options(gankit.Options):\n        times: int = 1\n',
    )
    (tmp_path / "all.py").write_text(code, encoding="utf-8")
    quick = ("--image-size", 16, "--batch-size", 4, "--set", "filters=4", "--set", "latent=8", "--steps", 0)
    reaction = ("--plugin", "all.py", "--on-alarm", "everything-reaction", "--set", "everything-reaction.times=3")
    said = gankit("run", "began", *quick, "--data", "demo", "--set", "demo.count=60", *reaction, "--out", "run")
    assert said.code == 0, said.err
    made = public.Run("run")
    assert made.data["train"] + made.data["held_out"] == 60
    assert made.config["datasets"] == {"demo": {"count": 60, "seed": 20170331}}
    assert made.config["reactions"] == {"everything-reaction": {"times": 3}}
    refused(gankit("run", "began", *quick, "--data", "demo", "--set", "demo.cuont=60"), "(did you mean 'count'?)")


# A component's options.

FORMS = {
    "in brackets": """
        class Set(gankit.Options):
            strength: float = Field(0.1, ge=0, description="of the noise")

        class Noise(gankit.View[Set]):
    """,
    "nested": """
        class Noise(gankit.View):
            class Options(gankit.Options):
                strength: float = Field(0.1, ge=0, description="of the noise")
    """,
    "nested, and named in brackets": """
        class Noise(gankit.View["Noise.Options"]):
            class Options(gankit.Options):
                strength: float = Field(0.1, ge=0, description="of the noise")
    """,
    "in brackets of a base of the plugin's own": """
        Kind = TypeVar("Kind", bound=gankit.Options)

        class Set(gankit.Options):
            strength: float = Field(0.1, ge=0, description="of the noise")

        class Base(gankit.View[Kind]):
            pass

        class Middle(Base[Set]):
            pass

        class Noise(Middle):
    """,
}
NOISE = """
            name = "noise"
            summary = "noise over what the discriminator sees"

            def __call__(self, batch):
                return batch + self.options.strength * torch.randn_like(batch)

        @gankit.hookimpl
        def gankit_views():
            return [Noise]
"""


@pytest.mark.parametrize("form", FORMS)
def test_options_are_set_by_flag_whichever_way_their_class_is_given(gankit, tmp_path, undrawn, form):
    head = "from typing import TypeVar\n\nimport torch\nfrom pydantic import Field\n\nimport gankit\n"
    (tmp_path / "noise.py").write_text(head + textwrap.dedent(FORMS[form].rstrip() + NOISE), encoding="utf-8")
    request = ("run", "began", "--plugin", "noise.py", "--view", "noise", "--data", "demo:60", "--image-size", 16)
    request = (*request, "--batch-size", 4, "--set", "filters=4", "--steps", 1)
    assert gankit(*request, "--set", "noise.strength=0.5", "--out", "run").code == 0
    assert public.Run("run").config["views"] == {"noise": {"strength": 0.5}}
    refused(gankit(*request, "--set", "noise.strenght=0.5"), "did you mean 'strength'?")
    refused(gankit(*request, "--set", "noise.strength=-1"), "strength")


def test_the_options_of_all_that_gankit_offers_are_known_to_a_type_checker():
    """Otherwise only a user's training would reveal a misspelt `self.options.wieght`."""
    catalogue, checked = Catalogue(), []
    for kind in sorted(KINDS.keys() - {"models", "commands"}):
        for cls, _ in catalogue.kind(kind).values():
            if cls.Options.model_fields:
                given = [a for c in cls.__mro__ for base in get_original_bases(c) for a in typing.get_args(base)]
                assert cls.Options in given, f"{cls.__name__}: give its options in brackets"
                checked.append(cls)
    assert len(checked) > 15


@pytest.mark.slow
def test_a_type_checker_finds_a_misspelt_option(tmp_path):
    """Some 20 s: mypy reads torch."""
    from mypy import api as mypy

    path = tmp_path / "noise.py"
    head = "from __future__ import annotations\nimport torch\nfrom pydantic import Field\nimport gankit\n"
    typed = NOISE.replace("(self, batch)", "(self, batch: torch.Tensor) -> torch.Tensor").replace(
        "strength", "strenght"
    )
    path.write_text(head + textwrap.dedent(FORMS["in brackets"].rstrip() + typed), encoding="utf-8")
    said, _, code = mypy.run([str(path), "--cache-dir", str(tmp_path), "--config-file", str(ROOT / "pyproject.toml")])
    assert code == 1
    assert 'Set" has no attribute "strenght"' in said


# Inert until named.


def test_the_everything_plugin_offers_something_of_every_kind_and_implements_every_hook(install):
    install("everything", (STRANGER / "everything.py").read_text(encoding="utf-8"))
    catalogue = Catalogue()
    givers = {kind: [p.name for _, ps in catalogue.kind(kind).values() for p in ps] for kind in KINDS}
    offered = {kind for kind, names in givers.items() if "everything" in names}
    assert offered == set(KINDS)
    assert not catalogue.broken
    assert {name for name in HOOKS if hasattr(sys.modules["everything"], name)} == set(HOOKS)


@pytest.mark.parametrize("name", ["began", "ebgan"])
def test_with_a_plugin_that_implements_everything_a_model_trains_bit_identically(install, tmp_path, undrawn, name):
    alone = api.run(name, **QUICK, out=tmp_path / "alone")
    install("everything", (STRANGER / "everything.py").read_text(encoding="utf-8"))
    beside = api.run(name, **QUICK, out=tmp_path / "beside")
    assert "everything" in [plugin["name"] for plugin in beside.environment["plugins"]]
    for step in (0, 4):
        assert weights(alone.folder, step) == weights(beside.folder, step)
    assert timeless(alone.folder) == timeless(beside.folder)
    assert beside.config == alone.config
    assert sorted(p.name for p in alone.folder.iterdir()) == sorted(p.name for p in beside.folder.iterdir())


def test_no_hook_is_called_inside_a_step(install, monkeypatch):
    """Neither through pluggy nor around it: nothing uses the catalogue."""
    install("everything", (STRANGER / "everything.py").read_text(encoding="utf-8"))
    calls: list[str] = []
    looked_up = Catalogue._calls
    monkeypatch.setattr(Catalogue, "_calls", lambda self, hook: calls.append(hook) or looked_up(self, hook))
    called = pluggy.HookCaller.__call__
    monkeypatch.setattr(pluggy.HookCaller, "__call__", lambda self, **kw: calls.append(self.name) or called(self, **kw))

    catalogue = Catalogue()
    config = resolve(
        "began", RunRequest(**QUICK, losses={"everything-term": 0.1}, views=["everything-view"]), catalogue
    )
    training, batches = start.assemble(config, start.open_data(config, catalogue, Watcher()), catalogue)
    assert "gankit_models" in calls  # the counter works
    calls.clear()
    for _ in range(3):
        step_once(training, batches)
    assert calls == []


# The package itself.


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_what_it_is_for(hook):
    assert len(inspect.getdoc(getattr(hookspecs, hook)) or "") > 30


def sources() -> list[Path]:
    return sorted((ROOT / "plugins").rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_shipped_plugins_use_gankit_s_public_names_alone_and_not_each_other(path):
    import gankit

    packages = {p.parent.name for p in sources()}
    others = packages - {path.parent.name}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            if node.module == "gankit":
                assert {alias.name for alias in node.names} <= set(gankit.__all__)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gankit":
            assert node.attr in gankit.__all__
            continue
        else:
            continue
        for module in modules:
            public = module.startswith("gankit.metrics.")  # functions of tensors, for every diagnostic
            assert public or not module.startswith("gankit."), (
                f"{path} line {node.lineno} looks behind the public names"
            )
            assert module.partition(".")[0] not in others, f"{path} line {node.lineno} needs another plugin"


def test_looking_for_plugins_imports_no_torch():
    """It costs more than a second, and `gankit --help` looks for plugins."""
    code = (
        "import sys, gankit_began, gankit_ebgan; from gankit.catalogue import Catalogue; c = Catalogue(); "
        "c.kind('commands'); assert not c.broken; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=dict(os.environ)).returncode == 0


def test_a_run_folder_alone_loads_no_code(tmp_path, undrawn):
    """A folder from somebody else names its plugins, and they are loaded only where the user names them again."""
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent(model("x")) + f"\nopen({str(tmp_path / 'loaded')!r}, 'a').write('!')\n", encoding="utf-8"
    )
    made = api.run("x", **QUICK, plugins=[str(path)], out=tmp_path / "run")
    loaded = (tmp_path / "loaded").read_text()
    shutil.copytree(made.folder, tmp_path / "copy")
    with pytest.raises(UserError, match=f"names --plugin {re.escape(str(path))}: give it again if you trust it"):
        api.resume(tmp_path / "copy", steps=8)
    with pytest.raises(UserError, match=f"names --plugin {re.escape(str(path))}: give it again if you trust it"):
        public.Run(tmp_path / "copy").sample(1)
    assert (tmp_path / "loaded").read_text() == loaded
    assert api.resume(tmp_path / "copy", steps=5, plugins=[str(path)]).result["outcome"] == "finished"
    assert lines(tmp_path / "copy")[-1]["step"] == 5


# Mistakes in a first model: one line each, and nothing written.


MISTAKES = {
    "a loss without a gradient": (
        '"generator": F.softplus(-fake).mean(),',
        '"generator": F.softplus(-fake.detach()).mean(),',
        (2, "loss/generator of model 'my-gan' has no gradient", "without detach()"),
    ),
    "a loss of other networks alone": (
        '"generator": F.softplus(-fake).mean(),',
        '"generator": F.softplus(-real).mean(),',
        (2, "loss/generator of model 'my-gan' has no gradient for the network 'generator'"),
    ),
    "losses, misspelt": (
        "def losses(",
        "def lossess(",
        (2, "MyGAN has no 'losses', which a gankit.Model needs (did you mean 'lossess'?)"),
    ),
    "another shape": (
        "            nn.Tanh(),\n        )\n        critic",
        "            nn.Tanh(), nn.Flatten(2), nn.Unflatten(2, (-1, 1)),\n        )\n        critic",
        (2, "its generator gives items of shape (3, 256, 1), and the data's are (3, 16, 16)"),
    ),
    "no Judged": (
        'gankit.Judged(output=networks["discriminator"](seen).squeeze(1))',
        'networks["discriminator"](seen)',
        (1, "'output'", "returns gankit.Judged(output=…), and here it is a plain tensor"),
    ),
    "a network, misspelt": (
        'networks["discriminator"](seen)',
        'networks["discriminater"](seen)',
        (1, "KeyError: 'discriminater'", "(did you mean 'discriminator'?); the networks are generator, discriminator"),
    ),
    "a dict of losses": (
        "return gankit.Losses(",
        "return dict(zip('ab', (",
        (2, "losses of model 'my-gan' returns dict: it must return gankit.Losses({network: its loss"),
    ),
    "no generator": (
        '{"generator": generator, "discriminator": critic}',
        '{"painter": generator, "discriminator": critic}',
        (2, "gives no network 'generator'", "but 'painter', 'discriminator'"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_first_model_is_one_line_before_a_folder_is_written(gankit, tmp_path, undrawn, mistake):
    sound, wrong, (code, *words) = MISTAKES[mistake]
    page = (ROOT / "docs/plugins/index.md").read_text(encoding="utf-8")
    model = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    assert model.count(sound) == 1
    text = model.replace(sound, wrong)
    text = (
        text.replace("(real.mean() - fake.mean())},\n        )", "(real.mean() - fake.mean())})))")
        if "zip" in wrong
        else text
    )
    (tmp_path / "my_gan.py").write_text(text, encoding="utf-8")
    small = ("--data", "demo:60", "--image-size", 16, "--batch-size", 4, "--precision", "fp32", "--steps", 1)
    said = gankit("run", "my-gan", "--plugin", "my_gan.py", *small, "--out", "run")
    assert said.code == code
    assert "Traceback" not in said.err
    line = said.err.splitlines()[-1]
    assert all(word in line for word in words)
    assert not (tmp_path / "run").exists()
