"""What TensorBoard reads back is what the run folder says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gankit
from gankit.testing import ArtifactTests


class TestPromises(ArtifactTests):
    name = "tensorboard"


QUICK: dict[str, Any] = {
    "data": "demo:60",
    "image_size": 16,
    "batch_size": 4,
    "precision": "fp32",
    "set": {"filters": 4, "latent": 8},
    "log_every": 1,
    "sample_every": 2,
    "artifacts": ["tensorboard"],
}


def read(run: gankit.Run, attempt: int = 1) -> EventAccumulator:
    folder = Path(run.folder) / "tensorboard" / f"attempt-{attempt}"
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()  # all of them


def test_every_line_and_every_sample_grid_is_there_once_and_a_return_to_an_earlier_step_is_a_curve_of_its_own(
    tmp_path, gankit_cache
):
    run = gankit.run("began", **QUICK, steps=3, out=tmp_path / "run")
    run = gankit.resume(run, steps=6)
    events, lines = read(run), run.metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    names = {name for line in lines for name in line} - {"step"}
    assert {"began/k", "loss/generator", "energy/real", "learning_rate/discriminator"} <= names
    assert set(events.Tags()["scalars"]) == names
    for name in names:
        scalars = [(event.step, event.value) for event in events.Scalars(name)]
        expected = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines if name in line]
        assert scalars == expected
    pictures = {event.step: event for event in events.Images("samples")}
    assert {step for step, _ in run.samples()} == set(pictures) == {0, 2, 3, 4, 6}
    assert (pictures[6].width, pictures[6].height) == (8 * 18 + 2, 8 * 18 + 2)

    run = gankit.resume(run, steps=4, from_step=3, set={"gamma": 0.9})
    assert [event.step for event in read(run).Scalars("began/k")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in read(run, attempt=2).Scalars("began/k")] == [4]
