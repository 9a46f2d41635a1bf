"""The projection, the hinge loss and the conditional normalisation against numpy; classes come from the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gankit_class_conditional.model import ClassConditional, ConditionalNorm, Discriminator

from gankit import Step, UserError
from gankit.testing import ModelTests

SHAPE = (3, 16, 16)
CLASSES = ("cats", "dogs", "owls")


class TestPromises(ModelTests):
    name = "class-conditional"
    options = {"set": {"filters": 4, "latent": 8}}


def model(**settings: Any) -> ClassConditional:
    return ClassConditional(ClassConditional.Settings(latent=8, filters=4, **settings), SHAPE, CLASSES)


def test_the_losses_are_the_hinge_s():
    gan = model()
    torch.manual_seed(0)
    networks = gan.build_networks(None, SHAPE)
    labels = torch.tensor([0, 1, 2, 2])
    real, noise = torch.rand(4, *SHAPE) * 2 - 1, torch.randn(4, 8)
    made = Step(gan, 1, ("discriminator", "generator"), real, labels, noise, networks, {}, lambda x: x)
    made.judged_real.output = torch.tensor([3.0, 0.5, -0.5, 1.0])
    made.judged_fake.output = torch.tensor([-3.0, 0.5, -0.5, -1.0])
    losses = gan.losses(made).by_network
    assert float(losses["discriminator"]) == pytest.approx(np.mean([0, 0.5, 1.5, 0]) + np.mean([0, 1.5, 0.5, 0]))
    assert float(losses["generator"]) == pytest.approx(-np.mean([-3.0, 0.5, -0.5, -1.0]))


def test_the_score_is_that_of_the_features_and_their_projection_on_the_class():
    torch.manual_seed(0)
    discriminator = Discriminator(3, 2, 4, 3).eval()
    labels = torch.tensor([2, 0])
    judged = discriminator(torch.randn(2, *SHAPE), labels)
    features = judged.code.detach().numpy()
    weight, bias = (value.detach().numpy() for value in (discriminator.score.weight, discriminator.score.bias))
    classes = discriminator.classes.weight.detach().numpy()
    expected = [features[i] @ weight[0] + bias[0] + features[i] @ classes[label] for i, label in enumerate((2, 0))]
    np.testing.assert_allclose(judged.output.detach().numpy(), expected, rtol=1e-5)


def test_every_weight_of_the_discriminator_is_spectrally_normalised():
    torch.manual_seed(0)
    discriminator = Discriminator(3, 2, 4, 3)
    for _ in range(100):  # one power iteration each
        discriminator(torch.randn(2, *SHAPE), torch.tensor([0, 1]))
    layers = [
        m for m in discriminator.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear | torch.nn.Embedding)
    ]
    assert len(layers) == 4
    for layer in layers:
        largest = np.linalg.svd(layer.weight.detach().flatten(1).numpy(), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=1e-3)


def test_the_norm_scales_and_shifts_each_picture_as_its_class_says():
    norm = ConditionalNorm(2, 3)
    torch.manual_seed(0)
    torch.nn.init.normal_(norm.scale.weight)
    torch.nn.init.normal_(norm.shift.weight)
    x, labels = torch.randn(4, 2, 3, 3), torch.tensor([2, 0, 1, 2])
    scale, shift = norm.scale.weight.detach().numpy(), norm.shift.weight.detach().numpy()
    values = x.numpy()
    plain = (values - values.mean((0, 2, 3), keepdims=True)) / np.sqrt(values.var((0, 2, 3), keepdims=True) + 1e-5)
    expected = [scale[c][:, None, None] * plain[i] + shift[c][:, None, None] for i, c in enumerate((2, 0, 1, 2))]
    np.testing.assert_allclose(norm(x, labels).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_generator_is_told_the_class():
    gan = model()
    networks = gan.build_networks(None, SHAPE)
    torch.nn.init.normal_(networks["generator"].norms[0].shift.weight)  # type: ignore[union-attr, index]
    networks["generator"].eval()
    z = torch.randn(1, 8).expand(2, -1)
    cat, dog = gan.generate(networks, z, torch.tensor([0, 1]))
    assert not torch.allclose(cat, dog)


def test_data_without_classes_is_refused_with_what_to_do():
    gan = ClassConditional(ClassConditional.Settings(), SHAPE, ())
    with pytest.raises(UserError, match="put the pictures into one subfolder a class"):
        gan.build_networks(None, SHAPE)
