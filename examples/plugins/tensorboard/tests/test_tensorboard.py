"""What TensorBoard reads back is what the run folder says."""

from __future__ import annotations

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import gankit
from gankit.testing import ArtifactTests


class TestPromises(ArtifactTests):
    name = "hparams"


def test_a_run_has_one_row_with_its_settings_and_its_last_metrics_after_a_resume_as_well(tmp_path, gankit_cache):
    small = {"image_size": 16, "batch_size": 4, "precision": "fp32", "log_every": 1, "artifacts": ["hparams"]}
    settings = {"filters": 4, "latent": 8, "gamma": 0.9}
    run = gankit.run("began", "demo:60", **small, set=settings, steps=1, out=tmp_path / "run")
    run = gankit.resume(run, steps=3)
    folder = run.folder / "hparams"
    assert len(list(folder.iterdir())) == 1
    events = EventAccumulator(str(folder)).Reload()
    metadata = events.SummaryMetadata("_hparams_/session_start_info")
    row = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert row["model.name"].string_value == "began"
    assert (row["model.gamma"].number_value, row["model.latent"].number_value) == (0.9, 8)
    (last,) = events.Scalars("last/energy/real")
    assert abs(last.value - run.metrics()[-1]["energy/real"]) < 1e-6
