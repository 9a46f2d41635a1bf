"""The rule against arithmetic, and γ of a training after each look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gankit_recall.controller import RecallGamma

import gankit
from gankit.testing import ControllerTests

SMALL: dict[str, Any] = {"image_size": 16, "batch_size": 4, "precision": "fp32", "log_every": 250}


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


def test_a_training_uses_the_gamma_of_its_last_look(tmp_path: Path):
    options = {"set": {"filters": 4, "latent": 8, "gamma": 0.7, "recall-gamma.target": 0.9}, "artifacts": []}
    run = gankit.run(
        "began", "demo:200", steps=750, controllers=["recall-gamma"], out=tmp_path / "run", **SMALL, **options
    )
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    at = {line["step"]: line for line in lines}
    recall = at[500]["mode-collapse/recall"]
    assert at[500]["gamma"] == pytest.approx(0.7)  # the step before the look
    assert at[750]["gamma"] == pytest.approx(min(0.7 + 0.2 * (0.9 - recall), 1))
    assert at[750]["recall-gamma/age"] == 250
    line = at[750]
    expected = line["gamma"] * line["energy/real"] - line["energy/fake"]
    assert line["began/balance"] == pytest.approx(expected, abs=1e-6)
    assert line["began/convergence"] == pytest.approx(line["energy/real"] + abs(expected), abs=1e-6)
