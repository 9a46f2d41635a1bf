"""Spectral normalisation and minibatch deviation of BEGAN's networks, against numpy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gankit_began.networks import BeganAutoencoder
from gankit_began.stabilised import spectrally_normalised, with_deviation
from test_step import MODELS, PAIR, PICTURES, SMALL, prepare
from torch import nn

from gankit.training.loop import step_once

# The singular vectors start from 15 power iterations and follow by one a pass.
NEAR_1 = pytest.approx(1, abs=0.1)


def pair(**options) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = BeganAutoencoder(BeganAutoencoder.Options(filters=4, latent=8, **options))
    return made.build((3, 16, 16), (3, 16, 16))


def norms(network: nn.Module) -> list[float]:
    """The largest singular value of each layer's weight, as a matrix of output channels."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert len(layers) > 4
    return [float(np.linalg.svd(layer.weight.detach().flatten(1).numpy())[1][0]) for layer in layers]


@pytest.mark.parametrize("whose", ["discriminator", "generator", "both"])
def test_the_weights_of_the_named_networks_have_norm_1_and_the_others_are_as_they_were(whose):
    plain, normalised = pair(), pair(spectral_normalisation=whose)
    for name in ("generator", "discriminator"):
        if whose in (name, "both"):
            assert norms(normalised[name]) == [NEAR_1] * len(norms(plain[name]))
            continue
        before, after = plain[name].state_dict(), normalised[name].state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("what", ["spectral normalisation", "spectral normalisation in bf16"])
def test_their_norm_stays_1_in_training_while_the_weights_beneath_move(what):
    training, batches = prepare(*MODELS[what], set={"learning_rate": 1e-3})
    before = copy.deepcopy(training.networks["discriminator"])
    for _ in range(20):
        step_once(training, batches)
    for network in training.networks.values():
        assert norms(network) == [NEAR_1] * len(norms(network))
    names = [name for name, _ in before.named_parameters() if name.endswith("original")]
    after = dict(training.networks["discriminator"].named_parameters())
    assert names
    assert all(not torch.equal(after[name], value) for name, value in before.named_parameters() if name in names)


def test_the_averaged_generator_averages_the_weights_beneath_and_is_nobody_s_alias():
    training, batches = prepare(*MODELS["spectral normalisation"], set={"ema": 0.5, "learning_rate": 1e-3})
    for _ in range(3):
        step_once(training, batches)
    own, source = dict(training.averaged.named_parameters()), dict(training.networks["generator"].named_parameters())
    assert own.keys() == source.keys()
    assert all(not torch.equal(own[name], source[name]) for name in own)
    assert not {p.data_ptr() for p in own.values()} & {p.data_ptr() for p in source.values()}
    assert norms(training.averaged) == [NEAR_1] * len(norms(training.averaged))


def test_looking_does_not_move_the_singular_vectors():
    network = pair(spectral_normalisation="discriminator")["discriminator"].eval()
    before = copy.deepcopy(network.state_dict())
    network(torch.rand(2, 3, 16, 16))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_a_gradient_is_that_of_the_weight_over_its_norm():
    """The gradient of f(W) = Σ R·W/σ(W), σ the largest singular value, by numpy's central differences."""
    torch.manual_seed(0)
    layer, R = nn.Linear(5, 4, bias=False).double(), np.random.default_rng(0).normal(size=(4, 5))
    beneath = layer.weight.detach().clone().numpy()
    spectrally_normalised(layer)
    for _ in range(500):
        layer(torch.zeros(1, 5, dtype=torch.float64))  # the singular vectors settle
    layer.eval()
    (layer.weight * torch.from_numpy(R)).sum().backward()

    def f(W: np.ndarray) -> float:
        return float((R * W / np.linalg.svd(W)[1][0]).sum())

    for place in np.ndindex(4, 5):
        step = np.zeros((4, 5))
        step[place] = 1e-6
        expected = (f(beneath + step) - f(beneath - step)) / 2e-6
        assert float(layer.parametrizations.weight.original.grad[place]) == pytest.approx(expected, abs=1e-6)


def test_the_channel_is_the_mean_over_features_and_places_of_the_deviation_over_the_batch():
    features = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    shown = with_deviation(features)
    assert torch.equal(shown[:, :3], features)
    expected = np.full((5, 4, 4), features.numpy().std(0).mean())
    np.testing.assert_allclose(shown[:, 3].numpy(), expected, rtol=1e-6)
    assert with_deviation(features.bfloat16()).dtype == torch.bfloat16
    assert torch.autograd.gradcheck(with_deviation, features.requires_grad_())
    alike = with_deviation(features[:1].detach().repeat(4, 1, 1, 1).requires_grad_())
    (slope,) = torch.autograd.grad(alike.sum(), alike)
    assert slope.isfinite().all()
    assert alike[:, 3].max() <= 1e-4


@pytest.mark.parametrize("deviation", [False, True])
def test_a_code_depends_on_the_rest_of_its_batch_only_where_it_is_asked_for(deviation):
    discriminator = pair(minibatch_deviation=deviation)["discriminator"].eval()
    picture, others = torch.rand(1, 3, 16, 16), torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        among, alone = (discriminator(torch.cat([picture, rest])).code[0] for rest in (others, picture))
    assert torch.allclose(among, alone, atol=1e-6) != deviation


def test_real_and_generated_batches_are_told_of_themselves_alone():
    """D runs twice, never on both in one batch."""
    training, batches = prepare("began", [], PICTURES | {"set": SMALL | {f"{PAIR}.minibatch_deviation": True}})
    sizes: list[int] = []
    training.networks["discriminator"].register_forward_hook(lambda module, inputs, out: sizes.append(len(inputs[0])))
    step_once(training, batches)
    assert sizes == [4, 4]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("spectral_normalisation=all", "it must be discriminator or generator or both or none"),
        ("minibatch_deviation=2", "it must be true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(gankit, setting, words):
    from conftest import refused

    refused(gankit("run", "began", "--data", "demo:60", "--steps", 0, "--set", f"{PAIR}.{setting}"), words)
