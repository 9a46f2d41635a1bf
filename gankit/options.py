"""The base of everything that a user can set: frozen, and unknown names are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Settings of one component. Give every field a `Field(..., description=...)`; ranges refuse the meaningless."""

    absent: ClassVar[Mapping[str, Any]] = {}  # by name, what holds in a run folder that is older than a setting

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
