"""The averaged generator is shown with the batch statistics of its own pictures, and the training does not notice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, weights

from gankit import Data
from gankit.data.batches import seed_of
from gankit.testing import training as prepare
from gankit.training.loop import step_once
from gankit.training.pictures import SETTLING, Showing, looking, real_pictures, spread_labels
from gankit.training.state import STANDING

OPTIONS = {"data": "demo:64", "image_size": 16, "batch_size": 8, "steps": 0, "set": {"filters": 4, "latent": 8}}


def test_its_statistics_are_the_means_of_those_of_batches_of_its_own() -> None:
    training, batches = prepare("began", [], {**OPTIONS, "precision": "fp32"})
    for _ in range(5):
        step_once(training, batches)
    Showing(training, batches.data).settle()

    linear, norm = training.averaged.mapping[0], training.averaged.mapping[1]
    torch.manual_seed(seed_of(training.config.seed, STANDING, 5))
    noise = training.model.latents(SETTLING, training.device).double().numpy()
    hidden = (noise @ linear.weight.double().numpy().T + linear.bias.double().numpy()).reshape(-1, 64, len(linear.bias))
    np.testing.assert_allclose(norm.running_mean, hidden.mean(1).mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, hidden.var(1, ddof=1).mean(0), rtol=1e-4)
    assert norm.momentum == training.networks["generator"].mapping[1].momentum


def test_its_pictures_have_the_level_that_batch_normalisation_gives_them() -> None:
    """Weights far from those of the bare generator: with the bare one's statistics the last feature maps are off."""
    training, batches = prepare("began", [], {**OPTIONS, "precision": "fp32"})
    step_once(training, batches)
    with torch.no_grad():
        training.averaged.linear.weight.mul_(3)
    seen: list[torch.Tensor] = []
    norm = next(m for m in training.averaged.layers if isinstance(m, torch.nn.BatchNorm2d))
    norm.register_forward_hook(lambda module, given, out: seen.append(out.detach()))
    showing = Showing(training, batches.data)
    showing.fixed(64)
    showing.settle()
    seen.append(torch.empty(0))
    showing.fixed(64)
    off, well = (one.std((0, 2, 3)) / norm.weight.abs().clamp(min=1e-6) for one in (seen[0], seen[-1]))
    assert float((off - 1).abs().mean()) > 0.5
    assert float((well - 1).abs().mean()) < 0.2


def test_it_is_computed_once_a_step_and_a_step_later_again() -> None:
    training, batches = prepare("began", [], OPTIONS)
    showing, drawn = Showing(training, batches.data), []
    whole = showing.generate
    showing.generate = lambda n, *more: drawn.append(training.number) or whole(n, *more)  # type: ignore[method-assign]
    for _ in range(2):
        step_once(training, batches)
        showing.settle()
        showing.settle()
    assert drawn == [1, 2]


def test_a_generator_without_batch_normalisation_is_left_alone() -> None:
    training, batches = prepare(
        "began", [], {**OPTIONS, "set": {"networks": "began-autoencoder", "filters": 4, "latent": 8}}
    )
    showing = Showing(training, batches.data)
    showing.generate = lambda *_: pytest.fail("it draws")  # type: ignore[method-assign]
    showing.settle()


def test_training_goes_the_same_way_with_and_without(
    gankit: Callable, tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def networks(name: str) -> dict:
        return {key: value for key, value in weights(tmp_path / name, 6).items() if not key.startswith("averaged")}

    often = ("--sample-every", 1, "--checkpoint-every", 1)
    assert gankit("run", "began", *TINY, *often, "--out", "with").code == 0
    monkeypatch.setattr(Showing, "settle", lambda self: None)
    assert gankit("run", "began", *TINY, *often, "--out", "without").code == 0
    assert networks("with") == networks("without")
    assert weights(tmp_path / "with", 6) != weights(tmp_path / "without", 6)


def test_a_look_leaves_each_part_of_a_network_in_its_own_mode() -> None:
    """A plugin may have frozen one part, such as a pretrained encoder."""
    training, _ = prepare("began", [], OPTIONS)
    encoder = training.networks["discriminator"].encoder
    encoder.eval()
    before = [part.training for network in training.networks.values() for part in network.modules()]
    with looking(training, 12):
        assert not any(part.training for network in training.networks.values() for part in network.modules())
    assert [part.training for network in training.networks.values() for part in network.modules()] == before
    assert not encoder.training


@pytest.mark.parametrize(("count", "n"), [(1000, 756), (1000, 1000), (1000, 64), (10, 64), (100, 99), (1, 1)])
def test_real_pictures_are_chosen_from_the_first_to_the_last(count: int, n: int) -> None:
    """A folder is often in the order of its classes: the first three quarters are no sample of it."""
    numbers = np.arange(count, dtype=np.int64)
    pictures = np.zeros((count, 16, 16, 1), np.uint8)
    pictures[:, 0, 0, 0], pictures[:, 0, 1, 0] = numbers // 250, numbers % 250
    data = Data(name="numbers", train=pictures, held_out=pictures[:0], digest="")
    shown = ((real_pictures(data, n) + 1) * 127.5).round().int()[:, 0, 0]
    places = (250 * shown[:, 0] + shown[:, 1]).tolist()
    assert len(places) == min(n, count)
    assert (places[0], places[-1]) == (0, count - 1)
    gaps = np.diff(places)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
    assert spread_labels(numbers, min(n, count)).tolist() == places
    assert len(spread_labels(numbers, n)) == n
