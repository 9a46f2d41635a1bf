"""The rule against arithmetic, and γ of a training after a look."""

from __future__ import annotations

from typing import Any

import pytest
from gankit_recall.controller import RecallGamma

from gankit.testing import ControllerTests

SMALL: dict[str, Any] = {"image_size": 16, "batch_size": 4, "precision": "fp32"}


class TestPromises(ControllerTests):
    name = "recall-gamma"
    options = {"set": {"filters": 4, "latent": 8}}


class Model:
    settings, initial = None, {"gamma": 0.7}


def steered(**options: Any) -> RecallGamma:
    return RecallGamma(RecallGamma.Options(**options), Model())  # type: ignore[arg-type]


def test_gamma_moves_by_the_gap_and_stays_in_its_range():
    controller = steered(target=0.5, gain=0.2, lowest=0.6)
    values = []
    for number, recall in ((500, 0.1), (1000, 0.5), (1500, 0.9), (2000, 1.0), (2500, 0.0), (3000, 0.0), (3500, 0.0)):
        controller.observe(number, {"mode-collapse/recall": recall})
        values.append(float(controller.value("gamma")))
    assert values == pytest.approx([0.78, 0.78, 0.7, 0.6, 0.7, 0.8, 0.9])


def test_it_follows_the_reading_that_is_asked_for_and_logs_when_it_was_taken():
    controller = steered(reading="coverage", target=0.9)
    assert controller.follows == ("mode-collapse/coverage",)
    controller.observe(500, {"mode-collapse/coverage": 0.4})
    assert {name: float(v) for name, v in controller.update(620, {}).items()} == pytest.approx({"gap": 0.5, "age": 120})


def test_a_training_reads_the_gamma_of_the_last_look_and_starts_at_the_setting(gankit_training):
    options = {"data": "demo:64", "steps": 0, "controllers": ["recall-gamma"], **SMALL}
    training, _ = gankit_training("began", [], options | {"set": {"filters": 4, "latent": 8, "gamma": 0.7}})
    assert float(training.knobs()["gamma"]) == pytest.approx(0.7)
    training.tell({"mode-collapse/recall": 0.1, "mode-collapse/coverage": 0.9})
    assert float(training.knobs()["gamma"]) == pytest.approx(0.7 + 0.2 * (0.5 - 0.1))
