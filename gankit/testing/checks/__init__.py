"""The checks of the conformance kit, by kind of component. A check's name and docstring state a promise to users.

A check takes a `Subject`. It raises `Failed`, or an error of the plugin's own code; it returns None, or the reason why
it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable

from gankit.testing.checks.artifacts import draws_from_a_run
from gankit.testing.checks.commands import says_how_it_is_used
from gankit.testing.checks.datasets import opens_to_items
from gankit.testing.checks.diagnostics import (
    keeps_to_its_budget,
    leaves_no_trace,
    looks_and_says,
    remembers_through_a_checkpoint,
)
from gankit.testing.checks.every import is_accepted, is_documented, round_trips_through_toml
from gankit.testing.checks.reactions import says_what_it_did
from gankit.testing.checks.training import (
    builds_at_every_size,
    follows_from_its_seed,
    gives_plain_values,
    keeps_gradients_apart,
    lets_gradients_through,
    says_what_its_discriminator_gives,
    shows_its_own_readings,
    survives_a_checkpoint,
    trains_fifty_steps,
    waits_for_no_device,
    works_in_bf16,
)
from gankit.testing.subject import Subject

Check = Callable[[Subject], str | None]
TRAINED: tuple[Check, ...] = (
    is_accepted,
    is_documented,
    round_trips_through_toml,
    keeps_gradients_apart,
    survives_a_checkpoint,
    waits_for_no_device,
    follows_from_its_seed,
    works_in_bf16,
    trains_fifty_steps,
)
ALWAYS: tuple[Check, ...] = (is_accepted, is_documented, round_trips_through_toml)
CHECKS: dict[str, tuple[Check, ...]] = {
    "models": (*TRAINED, builds_at_every_size, says_what_its_discriminator_gives, shows_its_own_readings),
    "networks": (*TRAINED, builds_at_every_size, says_what_its_discriminator_gives),
    "losses": TRAINED,
    "controllers": (*TRAINED, gives_plain_values),
    "diagnostics": (*ALWAYS, looks_and_says, leaves_no_trace, remembers_through_a_checkpoint, keeps_to_its_budget),
    "reactions": (*ALWAYS, says_what_it_did),
    "views": (*TRAINED, lets_gradients_through),
    "artifacts": (*ALWAYS, draws_from_a_run),
    "datasets": (*ALWAYS, opens_to_items),
    "commands": (says_how_it_is_used,),
}
