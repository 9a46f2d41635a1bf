"""gankit's conformance kit on this plugin, and the plugin's own tests. Install it first: pip install -e ."""

import gankit
from gankit.testing import ModelTests


class TestModel(ModelTests):
    name = "wgan-gp"
    options = {"set": {"filters": 4}}  # small, to be quick


def test_it_is_used_from_the_command_line(gankit_cli):
    result = gankit_cli(
        "run",
        "wgan-gp",
        "--data",
        "demo:64",
        "--image-size=16",
        "--steps=2",
        "--out=run",
    )
    assert result.code == 0, result.err
    assert gankit.Run("run").result["outcome"] == "finished"
