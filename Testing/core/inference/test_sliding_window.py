"""The sliding window against the plain network."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ugmcl_core.errors import Canceled
from ugmcl_core.inference.sliding_window import (
    importance,
    predict,
    predict_mirrored,
    starts,
    window_size,
)
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings

PATCH = (32, 16, 16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = DualTaskVNet(NetworkSettings(filters=2, classes=3))
    for _ in range(3):  # statistics that are not the initial ones
        net(torch.randn(2, 1, 32, 32, 32))
    return net.eval()


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 64), st.floats(0.0, 0.75))
def test_windows_cover_every_voxel_and_overlap_enough(length, window, overlap):
    begin = starts(length, window, overlap)
    covered = np.zeros(max(length, window), bool)
    for a in begin:
        covered[a : a + window] = True
    assert covered.all()
    if length > window:
        assert begin[0] == 0 and begin[-1] == length - window
        assert max(np.diff(begin)) <= max(1, math.ceil(window * (1 - overlap)))


def test_a_small_volume_goes_through_whole(network):
    image = torch.randn(1, 30, 16, 20)
    assert window_size((30, 16, 20), PATCH, (16,) * 3) == (32, 16, 32)
    with torch.no_grad():
        padded = torch.nn.functional.pad(image[None], (0, 12, 0, 0, 0, 2), mode="replicate")
        out = network(padded)
    got = predict(network, image, PATCH)
    assert torch.allclose(got.foreground, out.probabilities[0, 1:, :30, :, :20], atol=1e-5)
    assert torch.allclose(got.distance, out.distance[0, :, :30, :, :20], atol=1e-5)
    assert got.uncertainty is None


def test_overlapping_windows_are_averaged_by_importance(network):
    image = torch.randn(1, 70, 16, 40)
    assert window_size((70, 16, 40), PATCH, (16,) * 3) == PATCH
    weight = importance(PATCH)
    total, weights = torch.zeros(2, 70, 16, 40), torch.zeros(70, 16, 40)
    for a in starts(70, 32, 0.5):
        for c in starts(40, 16, 0.5):
            with torch.no_grad():
                p = network(image[None, :, a : a + 32, :, c : c + 16]).probabilities[0, 1:]
            total[:, a : a + 32, :, c : c + 16] += p * weight
            weights[a : a + 32, :, c : c + 16] += weight
    got = predict(network, image, PATCH)
    assert torch.allclose(got.foreground, total / weights, atol=1e-5)


def test_a_given_overlap_means_windows_of_a_patch(network):
    image = torch.randn(1, 48, 16, 16)
    assert window_size((48, 16, 16), PATCH, (16,) * 3) == (48, 16, 16)
    assert window_size((48, 16, 16), PATCH, (16,) * 3, most=0.0) == (32, 16, 16)
    weight = importance(PATCH)
    for overlap, begin in ((0.0, (0, 16)), (0.75, (0, 8, 16))):
        total, weights = torch.zeros(2, 48, 16, 16), torch.zeros(48, 16, 16)
        for a in begin:
            with torch.no_grad():
                p = network(image[None, :, a : a + 32]).probabilities[0, 1:]
            total[:, a : a + 32] += p * weight
            weights[a : a + 32] += weight
        got = predict(network, image, PATCH, overlap=overlap)
        assert torch.allclose(got.foreground, total / weights, atol=1e-5)


def test_windows_together_are_the_windows_apart(network):
    image = torch.randn(1, 70, 16, 40)
    apart, together = predict(network, image, PATCH), predict(network, image, PATCH, together=3)
    assert torch.allclose(apart.foreground, together.foreground, atol=1e-5)
    assert torch.allclose(apart.distance, together.distance, atol=1e-5)


def test_uncertainty_is_the_normalized_entropy_of_the_mean(network):
    image = torch.randn(1, 32, 16, 16)
    torch.manual_seed(4)
    got = predict(network, image, PATCH, passes=5).uncertainty
    torch.manual_seed(4)
    with torch.no_grad():
        for m in network.modules():
            if isinstance(m, torch.nn.Dropout3d):
                m.train()
        features = network.encode(image[None])
        p = torch.stack([network.decode(features).probabilities[0] for _ in range(5)]).mean(0)
        network.eval()
    wanted = -(p * p.log()).sum(0) / math.log(3)
    assert torch.allclose(got[0], wanted, atol=1e-4)
    assert not any(m.training for m in network.modules())


def test_probabilities_do_not_depend_on_the_passes(network):
    image = torch.randn(1, 32, 16, 16)
    with_passes, without = predict(network, image, PATCH, passes=3), predict(network, image, PATCH)
    assert torch.equal(with_passes.foreground, without.foreground)


def test_progress_ends_at_one_and_a_cancel_stops_at_the_next_pass(network):
    seen = []
    predict(network, torch.randn(1, 70, 16, 40), PATCH, passes=2, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0
    calls = []

    def canceled():
        calls.append(1)
        return len(calls) == 4

    with pytest.raises(Canceled):
        predict(network, torch.randn(1, 70, 16, 40), PATCH, passes=2, canceled=canceled)
    assert len(calls) == 4 and not any(m.training for m in network.modules())


def test_mirrored_views_are_averaged_in_place(network):
    image = torch.randn(1, 32, 16, 16)
    parts = [predict(network, image.flip(v), PATCH) for v in ([], [1], [3], [1, 3])]
    turned = [p.foreground.flip(v) for p, v in zip(parts, ([], [1], [3], [1, 3]), strict=True)]
    seen = []
    got = predict_mirrored(network, image, PATCH, (0, 2), passes=2, progress=seen.append)
    assert torch.allclose(got.foreground, sum(turned) / 4, atol=1e-5)
    assert got.distance.shape == parts[0].distance.shape and got.uncertainty is not None
    assert seen == sorted(seen) and seen[-1] == 1.0
    plain = predict_mirrored(network, image, PATCH, ())
    assert torch.equal(plain.foreground, parts[0].foreground)


def test_a_heart_crop_of_the_published_grid_goes_through_as_one_window():
    multiple = (16, 16, 16)
    assert window_size((190, 142, 88), (112, 112, 80), multiple) == (192, 144, 96)
    assert window_size((240, 200, 88), (112, 112, 80), multiple) == (112, 112, 80)
