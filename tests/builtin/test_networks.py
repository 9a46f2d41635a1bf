"""Networks for any model; their computation against the written definition."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import refused
from gankit_began.networks import Convolutions
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gankit.builtin.networks import Opacity, ResizeConvolution, StridedAutoencoder
from gankit.runs.folder import RunFolder
from gankit.trained.sampling import rebuild

WAYS = ("resize", "transposed")


def strided(size: int, upsampling: str = "resize") -> dict[str, nn.Module]:
    options = StridedAutoencoder.Options(filters=4, latent=8, upsampling=upsampling)
    return StridedAutoencoder(options).build((3, size, size), (3, size, size))


@pytest.mark.parametrize("upsampling", WAYS)
@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_networks_of_every_size_give_pictures_reconstructions_and_codes(size, upsampling):
    networks = strided(size, upsampling)
    with torch.no_grad():
        fake = networks["generator"](torch.rand(2, 8))
        judged = networks["discriminator"](fake)
    assert fake.shape == judged.output.shape == (2, 3, size, size)
    assert judged.code.shape == (2, 8)


@pytest.mark.parametrize("mapping", [0, 1, 3])
def test_the_generator_has_as_many_hidden_layers_before_its_pictures_as_asked_for(mapping):
    options = StridedAutoencoder.Options(filters=4, latent=8, mapping=mapping)
    generator = StridedAutoencoder(options).build((3, 16, 16), (3, 16, 16))["generator"]
    hidden = [layer for layer in generator.mapping if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in hidden] == [8, 64, 64][:mapping]
    assert generator.linear.in_features == (64 if mapping else 8)
    assert generator(torch.rand(2, 8)).shape == (2, 3, 16, 16)


def test_a_batch_of_one_is_drawn_by_the_running_statistics_of_the_hidden_layers():
    generator = strided(16)["generator"]
    one = torch.rand(1, 8)
    drawn = generator.mapping(one)
    torch.testing.assert_close(drawn, generator.eval().mapping(one))


def test_an_opacity_lays_colours_over_the_ground_as_written_down():
    x = torch.linspace(-2, 2, 2 * 4 * 3 * 3, dtype=torch.double).view(2, 4, 3, 3)[:, :, torch.randperm(3)]
    ground = np.array([1.0, -0.5, 0.25])[:, None, None]
    a, rgb = np.clip(x[:, 3:].numpy() + 0.5, 0, 1), np.clip(x[:, :3].numpy(), -1, 1)
    np.testing.assert_allclose(Opacity([1.0, -0.5, 0.25])(x).numpy(), a * rgb + (1 - a) * ground, atol=1e-6)


def test_where_the_opacity_is_nothing_the_ground_is_met_to_the_bit():
    x = torch.randn(2, 4, 5, 5)
    x[:, 3] = -3
    assert torch.equal(Opacity([1.0, -0.5, 0.25])(x), torch.tensor([1.0, -0.5, 0.25])[:, None, None].expand(2, 3, 5, 5))


@pytest.mark.parametrize("place", [-9.0, -1.5, 1.5, 9.0])
def test_beyond_a_bound_a_colour_can_come_back_and_not_go_further(place):
    """A plain clamp has no gradient out of range, so values out of range could never return."""
    for inward in (True, False):
        x = torch.full((1, 4, 1, 1), place, requires_grad=True)
        x.data[:, 3] = 0.5  # opaque
        sign = -1 if (place < 0) == inward else 1  # descent moves against it
        (sign * Opacity([1.0, 1.0, 1.0])(x)[0, 0, 0, 0]).backward()
        assert (float(x.grad[0, 0, 0, 0]) != 0) == inward


@pytest.mark.parametrize(("channels", "background"), [(3, "#ffffff"), (3, "#102030"), (1, "#808080")])
def test_networks_with_an_opacity_draw_the_background_that_they_are_told(channels, background):
    options = StridedAutoencoder.Options(filters=4, latent=8, background=background)
    networks = StridedAutoencoder(options).build((channels, 16, 16), (channels, 16, 16))
    colour = torch.tensor([int(background[i : i + 2], 16) for i in (1, 3, 5)][:channels]) / 127.5 - 1
    for upward in (networks["generator"], networks["discriminator"].decoder):
        last = upward.layers[-1]
        nn.init.zeros_(last.weight)
        last.bias.data[-1] = -1  # transparent
        drawn = upward(torch.rand(2, 8))
        torch.testing.assert_close(drawn, colour[:, None, None].expand(2, channels, 16, 16))


def test_what_a_view_has_brought_out_of_range_can_be_reconstructed_and_what_is_drawn_stays_within():
    networks = strided(16)
    for upward in (networks["generator"], networks["discriminator"].decoder):
        nn.init.constant_(upward.layers[-1].bias, 9)
    seen = torch.randn(2, 3, 16, 16) * 2
    with torch.no_grad():
        assert float(networks["discriminator"](seen).output.max()) == float(seen.max())
        assert float(networks["discriminator"](seen / 9).output.max()) == 1
        assert float(networks["generator"](torch.rand(2, 8)).max()) == 1


def test_a_background_that_is_no_colour_is_refused(gankit):
    said = gankit("run", "began", "--data", "demo:60", "--background", "sky", "--out", "r")
    refused(said, "background", "sky")
    assert not Path("r").exists()


def test_the_run_s_background_is_what_pictures_are_laid_over(gankit, undrawn):
    few = ("--image-size", 16, "--batch-size", 4, "--set", "filters=4", "--steps", 1, "--out", "r")
    assert gankit("run", "began", "--data", "demo:60", "--background", "navy", *few).code == 0
    generator = rebuild(RunFolder("r")).networks["generator"]
    assert generator.opacity.ground.flatten().tolist() == pytest.approx([-1, -1, 128 / 127.5 - 1])


def test_a_linear_output_is_unbounded():
    networks = StridedAutoencoder(StridedAutoencoder.Options(filters=4, latent=8, output="linear")).build(
        (3, 16, 16), (3, 16, 16)
    )
    nn.init.constant_(networks["generator"].layers[-1].bias, 7)
    assert networks["generator"](torch.rand(2, 8)).max() > 2


sizes = st.tuples(*(st.integers(1, 5) for _ in range(5)))


@given(sizes=sizes, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_a_resize_convolution_is_the_larger_picture_convolved_with_its_gradients(sizes, seed):
    """Written out in NumPy: each pixel repeated in a square of four, and nine products at each place of that."""
    batch, inputs, outputs, height, width = sizes
    torch.manual_seed(seed)
    layer = ResizeConvolution(inputs, outputs).double()
    x = torch.randn(batch, inputs, height, width, dtype=torch.double, requires_grad=True)
    got = layer(x)
    larger = np.pad(x.detach().numpy().repeat(2, 2).repeat(2, 3), [(0, 0), (0, 0), (1, 1), (1, 1)])
    weight = layer.weight.detach().numpy()
    expected = layer.bias.detach().numpy()[None, :, None, None] + sum(
        np.einsum("bihw,oi->bohw", larger[:, :, i : i + 2 * height, j : j + 2 * width], weight[:, :, i, j])
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(got.detach().numpy(), expected, atol=1e-12)
    slope = torch.randn_like(got)
    plain = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    for fast, slow in zip(
        torch.autograd.grad(got, (x, layer.weight, layer.bias), slope),
        torch.autograd.grad(plain, (x, layer.weight, layer.bias), slope),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow)


def test_a_resize_convolution_draws_no_checkerboard_on_a_flat_picture():
    """Away from the border all places are alike; a transposed 4×4 convolution has four kinds of them."""
    torch.manual_seed(0)
    flat = torch.ones(1, 8, 8, 8)
    for layer, alike in ((ResizeConvolution(8, 3), True), (nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1), False)):
        inner = layer(flat)[:, :, 2:-2, 2:-2]
        assert bool((inner.amax((2, 3)) - inner.amin((2, 3)) < 1e-5).all()) is alike


@pytest.mark.parametrize("vanishing", [False, True])
@pytest.mark.parametrize(("inputs", "filters", "at_once"), [(8, 8, False), (64, 32, True), (64, 64, True)])
def test_began_s_layers_enlarge_a_picture_the_same_way_however_many_filters_they_have(
    inputs, filters, at_once, vanishing
):
    torch.manual_seed(0)
    block, plain = (Convolutions(inputs, filters, vanishing=vanishing, enlarge=larger) for larger in (True, False))
    plain.load_state_dict(block.state_dict())
    assert isinstance(block.layers[0], ResizeConvolution) is (at_once and not (vanishing and inputs == filters))
    for layers in (block, plain):
        layers.carry.fill_(0.25)
    x = torch.randn(2, inputs, 4, 4)
    torch.testing.assert_close(block(x), plain(F.interpolate(x, scale_factor=2)))
