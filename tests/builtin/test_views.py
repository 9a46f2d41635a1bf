"""Packing and augmentation: the same for real and generated pictures, differentiable, and nothing at strength 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import SMALL as FLAGS
from conftest import refused
from test_step import MODELS, PICTURES, SMALL, prepare, same, state
from torch import Tensor

from gankit import UserError
from gankit.builtin.views import Augment, Packing, cut_out, recoloured, shifted
from gankit.training.loop import step_once
from gankit.training.pictures import Showing, looking

OFF = {"colour": 0.0, "translation": 0.0, "cutout": 0.0}


def augment(**options: float) -> Augment:
    return Augment(Augment.Options(**OFF | options))


def pictures(n: int = 1, channels: int = 3, side: int = 16) -> Tensor:
    """All different in every number."""
    count = n * channels * side * side
    return torch.linspace(-1, 1, count, dtype=torch.float64).view(n, channels, side, side)


@pytest.mark.parametrize(
    ("view", "options"),
    [("augment", {f"augment.{name}": 0 for name in OFF}), ("packing", {"packing.m": 1})],
)
def test_a_view_of_strength_0_changes_nothing_of_a_training(view, options):
    trained = []
    for more in ({}, {"views": [view], "set": SMALL | options}):
        training, batches = prepare("began", [], PICTURES | {"set": SMALL} | more)
        for _ in range(3):
            step_once(training, batches)
        trained.append(state(training))
    assert same(*trained)


@pytest.mark.parametrize("policy", ["colour", "translation", "cutout"])
def test_each_policy_changes_each_picture_on_its_own_and_from_the_random_stream_alone(policy):
    view, batch = augment(**{policy: 0.5}), pictures().repeat(6, 1, 1, 1)
    shown = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        shown.append(view(batch))
    assert shown[0].shape == batch.shape
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])
    assert len({picture.numpy().tobytes() for picture in shown[0]}) > 4


@pytest.mark.parametrize("make", [lambda x: recoloured(x, 1.0), lambda x: shifted(x, 2), lambda x: cut_out(x, 3)])
def test_gradients_pass_through(make):
    def seeded(batch: Tensor) -> Tensor:
        torch.manual_seed(3)
        return make(batch)

    assert torch.autograd.gradcheck(seeded, pictures(2, 3, 5).requires_grad_())


def test_colour_is_one_brightness_saturation_and_contrast_for_a_picture():
    """Fitted: grey as an affine function of grey, with the contrast as slope; the rest by contrast × saturation."""
    torch.manual_seed(0)
    batch = torch.rand(400, 3, 6, 6, dtype=torch.float64) * 2 - 1
    shown = recoloured(batch, 1.0)
    grey, grey_shown = batch.mean(1), shown.mean(1)
    brightness, saturation, contrast = [], [], []
    for x, y, g, h in zip(batch, shown, grey, grey_shown, strict=True):
        slope, offset = np.polyfit(g.flatten(), h.flatten(), 1)
        np.testing.assert_allclose(slope * g + offset, h, atol=1e-9)
        of_colour = np.polyfit((x - g).flatten(), (y - h).flatten(), 1)
        np.testing.assert_allclose(of_colour[0] * (x - g), y - h, atol=1e-9)
        brightness.append(float((h - g).mean()))  # contrast and saturation keep the mean
        contrast.append(float(slope))
        saturation.append(float(of_colour[0] / slope))
    for values, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5), (saturation, 0, 2)):
        assert low <= min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.06 * (high - low))


def test_a_shift_is_numpy_s_with_the_edge_drawn_out_and_every_shift_occurs():
    picture, most = pictures(1, 2, 8)[0], 2
    padded = np.pad(picture.numpy(), ((0, 0), (most, most), (most, most)), mode="edge")
    expected = {padded[:, i : i + 8, j : j + 8].tobytes() for i in range(5) for j in range(5)}
    torch.manual_seed(0)
    assert {shown.numpy().tobytes() for shown in shifted(picture.repeat(500, 1, 1, 1), most)} == expected


@pytest.mark.parametrize("cut", [1, 4, 5])
def test_a_cut_square_is_filled_with_the_mean_of_the_outermost_pixels_and_may_lie_partly_outside(cut):
    torch.manual_seed(0)
    picture = torch.rand(2, 8, 8, dtype=torch.float64)
    colour = np.concatenate([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], 1).mean(1)
    sizes = set()
    for shown in cut_out(picture.repeat(500, 1, 1, 1), cut):
        changed = (shown != picture).all(0).numpy()
        rows, columns = changed.any(1), changed.any(0)
        assert np.array_equal(changed, rows[:, None] & columns)
        np.testing.assert_allclose(shown[:, changed], np.repeat(colour[:, None], changed.sum(), 1))
        assert torch.equal(shown[:, ~changed], picture[:, ~changed])
        sizes.add((int(rows.sum()), int(columns.sum())))
    assert max(sizes) == (cut, cut)
    assert min(sizes)[0] == (cut + 1) // 2


def test_white_stays_white_under_shifts_and_cuts():
    """It leaves no grey border or hole that a generator could learn to draw."""
    batch = torch.ones(64, 3, 16, 16)
    batch[:, :, 5:11, 5:11] = -0.3
    shown = augment(translation=0.125, cutout=0.5)(batch)
    assert shown.unique().tolist() == pytest.approx([-0.3, 1])
    blank = torch.ones(64, 3, 16, 16)
    assert torch.equal(augment(translation=0.125, cutout=0.5)(blank), blank)


def test_packing_is_what_numpy_stacks_and_passes_gradients_as_they_are():
    batch = pictures(6, 3, 4).requires_grad_()
    packed = Packing(Packing.Options(m=3))(batch)
    expected = np.stack([np.concatenate(list(batch.detach().numpy()[i : i + 3])) for i in (0, 3)])
    assert np.array_equal(packed.detach().numpy(), expected)
    (slope,) = torch.autograd.grad(packed.sum(), batch)
    assert torch.equal(slope, torch.ones_like(batch))


def test_real_and_generated_pictures_are_shown_under_the_same_law_not_under_the_same_draw():
    training, batches = prepare(*MODELS["augmentation on BEGAN"])
    real, _ = batches(1, 0)
    torch.manual_seed(0)
    one, other = training.view(real), training.view(real)
    assert not torch.equal(one, other)
    torch.manual_seed(0)
    assert torch.equal(training.view(real), one)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--view", "packing", "--view", "augment"], "--view augment: it is for pictures of 1 or 3 channels"),
        (["--view", "packing", "--set", "packing.m=0"], "packing.m=0 is refused: it must be a whole number"),
        (
            ["--view", "packing", "--loss", "latent-closing=0.1"],
            "--loss latent-closing: it needs a code for each latent",
        ),
        (["--view", "augment", "--set", "augment.cutout=1"], "cutout=1 is refused: it must be a number in [0, 1)"),
        (["--view", "augment", "--set", "augment.color=1"], "has no setting 'color' (did you mean 'colour'?)"),
    ],
)
def test_what_a_view_does_not_fit_is_refused_in_one_line(gankit, tmp_path, flags, words):
    said = gankit(
        "run", "began", "--data", "demo:120", "--image-size", 16, *FLAGS, *flags, "--steps", 0, "--out", "run"
    )
    refused(said, *([words] if "packing.m" not in words else ["m=0", words.split("refused")[1]]))
    assert not (tmp_path / "run").exists()


def test_augmentation_refuses_points():
    with pytest.raises(UserError, match="--view augment: it is for pictures, and the data are points"):
        prepare(*MODELS["BEGAN's equations on points"], views=["augment"])


def test_a_model_that_tells_d_labels_refuses_packing_in_one_line():
    with pytest.raises(UserError, match="model 'conditional' cannot tell D the labels of 2 items shown as one"):
        prepare(*MODELS["labels"], views=["packing"])


def test_looking_leaves_out_what_is_too_few_to_be_shown():
    """With nine held-out pictures and packs of two, say."""
    training, batches = prepare(*MODELS["packing on BEGAN"])
    showing = Showing(training, batches.data)
    with looking(training, 0):
        pictures = showing.real(7)
        assert torch.equal(showing.judge(pictures).energy, showing.judge(pictures[:6]).energy)
