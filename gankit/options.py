"""The base of everything that a user can set: frozen, and unknown names are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Settings of one component. Give every field a `Field(..., description=...)`; ranges refuse the meaningless."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
