"""gankit's own models and components pass the conformance kit, as a stranger's must."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import gankit
from gankit.catalogue import KINDS
from gankit.testing import ModelTests
from gankit.testing.check import check

SMALL: dict[str, Any] = {"set": {"filters": 4, "latent": 8}}


class TestBegan(ModelTests):
    name, options = "began", SMALL


class TestEbgan(ModelTests):
    name, options = "ebgan", SMALL


def example(kind: str, folder: Path) -> Path:
    """The example in the docstring of a kind's base class, as it stands, with its hook: a file for --plugin."""
    base = KINDS[kind][1].partition(":")[2]
    (code,) = re.findall(r"^```python\n(.*?)^```", inspect.getdoc(getattr(gankit, base)), re.DOTALL | re.MULTILINE)
    (offered,) = re.findall(rf"^class (\w+)\(gankit\.{base}\b", code, re.MULTILINE)
    path = folder / f"{kind}_example.py"
    path.write_text(f"{code}\n\n@gankit.hookimpl\ndef gankit_{kind}():\n    return [{offered}]\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "commands"])
def test_the_example_of_a_base_class_keeps_every_promise_as_it_stands(gankit_cache, tmp_path, kind):
    """On the example model of `Model`, which is quick; components that need an encoder on a model with one."""
    given = ([str(example("models", tmp_path))], "least-squares") if kind not in ("models", "networks") else ([], None)
    said: list[str] = []
    assert check(str(example(kind, tmp_path)), given[0], said.append, model=given[1]), "\n".join(said)
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed", said[-1])


@pytest.mark.slow
def test_all_that_gankit_offers_keeps_what_it_promises(gankit_cache, tmp_path):
    """The models and components of both shipped plugins, and the core's own; some 40 s of one core."""
    for place in range(40):
        Image.new("RGB", (20, 20), (6 * place, 0, 0)).save(tmp_path / f"{place}.png")
    said: list[str] = []
    assert check("gankit", (), said.append, data=[f"folder:{tmp_path}"]), "\n".join(said)
