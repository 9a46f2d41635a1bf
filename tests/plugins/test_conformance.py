"""gankit's own models and components keep what the conformance kit asks of a stranger's."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from gankit.testing import ModelTests
from gankit.testing.check import check

SMALL: dict[str, Any] = {"set": {"filters": 4, "latent": 8}}


class TestBegan(ModelTests):
    name, options = "began", SMALL


class TestEbgan(ModelTests):
    name, options = "ebgan", SMALL


@pytest.mark.slow
def test_all_that_gankit_offers_keeps_what_it_promises(gankit_cache, tmp_path):
    """The models and components of both shipped plugins, and the core's own; some 40 s of one core."""
    for place in range(40):
        Image.new("RGB", (20, 20), (6 * place, 0, 0)).save(tmp_path / f"{place}.png")
    said: list[str] = []
    assert check("gankit", (), said.append, data=[f"folder:{tmp_path}"]), "\n".join(said)
