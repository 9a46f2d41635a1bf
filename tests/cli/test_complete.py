"""What the shell offers at TAB."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import BashComplete
from conftest import ROOT

from gankit.builtin import COMMANDS
from gankit.cli import cli, complete

SCRIPT = f"""#!{sys.executable}
import sys
sys.argv[0] = "gankit"
from gankit.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules, "completing a name must not take the seconds of torch's import"
"""
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `gankit` fails if it imports torch; it stands first on the PATH, and tests run in tmp_path."""
    script = tmp_path / "bin/gankit"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return script


def offered(line: str) -> list[tuple[str, str]]:
    """Type and value of what is offered for the last word of the line, in this process."""
    words = line.split(" ")
    found = BashComplete(cli, {}, "gankit", "_GANKIT_COMPLETE").get_completions(words[1:-1], words[-1])
    return [(item.type, item.value) for item in found]


def plain(line: str) -> list[str]:
    return [value for kind, value in offered(line) if kind == "plain"]


def asked(script: Path, shell: str, line: str) -> list[str]:
    """The lines that click's script of the shell gets for a line of words."""
    place = line.split(" ")[-1] if shell == "fish" else len(line.split(" ")) - 1
    more = {"COMP_WORDS": line, "COMP_CWORD": str(place), "_GANKIT_COMPLETE": f"{shell}_complete"}
    said = subprocess.run([script], env=os.environ | more, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout.strip().splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_told_commands_without_torch(typed: Path, shell: str):
    assert any("sample" in line for line in asked(typed, shell, "gankit sa"))
    assert not any("resume" in line for line in asked(typed, shell, "gankit sa"))


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_bash_completes_after_the_line_of_the_documentation(typed: Path):
    line = 'eval "$(_GANKIT_COMPLETE=bash_source gankit)"'
    assert line in (ROOT / "docs/how-to.md").read_text()
    tab = "COMP_WORDS=(gankit run --im); COMP_CWORD=2; _gankit_completion gankit; echo ${COMPREPLY[@]}"
    said = subprocess.run(["bash", "-c", f"{line}\n{tab}"], capture_output=True, text=True)
    assert (said.stdout, said.stderr) == ("--image-size\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_documentation_has_a_line_for_each_shell(typed: Path, shell: str):
    assert f"_GANKIT_COMPLETE={shell}_source gankit" in (ROOT / "docs/how-to.md").read_text()
    env = os.environ | {"_GANKIT_COMPLETE": f"{shell}_source"}
    said = subprocess.run([typed], env=env, capture_output=True, text=True)
    assert said.returncode == 0
    assert f"_GANKIT_COMPLETE={shell}_complete" in said.stdout


def test_commands_and_options_are_offered():
    assert plain("gankit ") == list(COMMANDS)
    assert plain("gankit --ve") == ["--version"]
    assert plain("gankit plugins s") == ["show"]
    assert plain("gankit resume RUN --fr") == ["--from"]
    assert plain("gankit run --device c") == ["cpu", "cuda"]


def test_installed_components_are_offered_by_name():
    assert {"began", "ebgan"} <= set(plain("gankit run "))
    assert "ebgan" in plain("gankit compare began e")
    assert plain("gankit run began --view aug") == ["augment"]
    assert plain("gankit run began --on-alarm re") == ["rescue"]
    assert plain("gankit run began --data de") == ["demo"]
    assert plain("gankit plugins show mode-c") == ["mode-collapse"]


def test_settings_of_the_model_that_is_named_are_options():
    assert plain("gankit run began --gam") == ["--gamma"]
    assert plain("gankit run --gam") == ["--gamma"]
    assert "--margin" not in plain("gankit run began --m")
    assert "--gamma" not in plain("gankit run ebgan --g")
    assert plain("gankit compare ebgan began:gamma=1 --gam") == ["--gamma"]


def test_nobody_waits_for_settings_while_other_options_fit(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("gankit.catalogue.Catalogue", None)
    assert plain("gankit run began --im") == ["--image-size"]


def test_names_are_kept_until_a_plugin_changes(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "cache"))
    asked = []

    class Catalogue:
        def __init__(self) -> None:
            asked.append(1)

        def kind(self, kind: str) -> dict[str, Any]:
            return {}

    code = tmp_path / "a_plugin.py"
    code.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("gankit.catalogue.Catalogue", Catalogue)
    monkeypatch.setattr(complete, "entry_points", lambda group: [EntryPoint("a", "a_plugin", group)])
    for times in (1, 1):
        complete.installed()
        assert len(asked) == times
    os.utime(code, (1, 1))
    complete.installed()
    assert len(asked) == 2
    monkeypatch.setenv("GANKIT_DISABLE_PLUGINS", "a")
    complete.installed()
    assert len(asked) == 3


@pytest.mark.parametrize("kept", ["", "[]", '{"stamp": STAMP}', '{"stamp": STAMP, "names": {"models": 3}}', "\x00"])
def test_a_damaged_file_of_names_is_written_anew(kept: str, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    file = tmp_path / "names.json"
    file.write_text(kept.replace("STAMP", json.dumps(complete._stamp())))
    assert "began" in complete.installed()["models"]
    assert "began" in json.loads(file.read_text())["names"]["models"]


def test_names_that_no_component_can_have_are_not_offered(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path))
    names = complete.installed()
    names["models"] |= {"$(reboot)": [], "fine": ["gamma", "a b"]}
    (tmp_path / "names.json").write_text(json.dumps({"stamp": complete._stamp(), "names": names}))
    assert "$(reboot)" not in complete.installed()["models"]
    assert complete.installed()["models"]["fine"] == ["gamma"]


def test_names_are_offered_where_no_cache_can_be_written(monkeypatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANKIT_CACHE", str(tmp_path / "file/cache"))
    assert "began" in complete.installed()["models"]


def test_runs_are_offered_without_torch(typed: Path, tmp_path: Path):
    for name in ("2026-began", "2027-began", "a name", "$(touch it)", "deep/er"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    (tmp_path / "runs/empty").mkdir()
    found = ["plain,last", "plain,runs/deep/er", "plain,runs/2027-began", "plain,runs/2026-began"]
    assert asked(typed, "bash", "gankit sample ") == ["dir,", *found]
    assert asked(typed, "bash", "gankit resume runs/2027") == ["dir,runs/2027", "plain,runs/2027-began"]
    assert asked(typed, "bash", "gankit sample elsewhere/") == ["dir,elsewhere/"]


def test_without_runs_folders_are_offered(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert offered("gankit sample ") == [("dir", "")]


def every_command() -> list[tuple[str, click.Command]]:
    first = [(name, cli.get_command(click.Context(cli), name)) for name in COMMANDS]
    below = [(f"{of} {name}", one) for of in ("plugins", "data") for name, one in dict(first)[of].commands.items()]
    return [(name, one) for name, one in [*first, *below] if one is not None]


@pytest.mark.parametrize(("name", "command"), every_command(), ids=lambda one: one if isinstance(one, str) else "")
def test_a_path_can_be_completed_wherever_one_is_asked_for(name: str, command: click.Command):
    context = click.Context(command, resilient_parsing=True)
    for param in command.params:
        wanted = any(word in (param.metavar or "") for word in ("RUN", "DIR", "FILE", "IMAGE", "PATH", "A B"))
        found = {item.type for item in param.shell_complete(context, "./")}
        assert bool(found & {"dir", "file"}) == wanted or param.name == "grid", param.name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("gankit nosuch --st", []),
        ("gankit run --gama 0.5 --image-s", ["--image-size"]),
        ("gankit run began --gamma 0.5 --image-s", ["--image-size"]),
        ("gankit run -h --image-s", ["--image-size"]),
        ("gankit run began --help --image-s", ["--image-size"]),
        ("gankit sample last --see", ["--seed"]),
    ],
)
def test_what_stands_before_is_passed_over_in_silence(line, found, typed: Path, tmp_path: Path):
    complete.installed()  # as after the first TAB
    assert asked(typed, "bash", line) == [f"plain,{name}" for name in found]
