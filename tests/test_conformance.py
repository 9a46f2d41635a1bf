"""gankit's own models and components keep what the conformance kit asks of a stranger's."""

from __future__ import annotations

from typing import Any

from gankit.testing import (
    ModelTests,
)

SMALL: dict[str, Any] = {"set": {"filters": 4, "latent": 8}}


class TestBegan(ModelTests):
    name, options = "began", SMALL


class TestEbgan(ModelTests):
    name, options = "ebgan", SMALL
