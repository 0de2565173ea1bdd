"""Loss terms, entropy and schedules against NumPy."""

import math

import numpy as np
import pytest
import torch

from ugmcl_core.nn.losses import (
    cross_entropy,
    dice_loss,
    hard_labels,
    masked_mean,
    mean_squared_error,
)
from ugmcl_core.nn.schedules import LearningRate, Step, gaussian_ramp, uncertainty_threshold
from ugmcl_core.nn.uncertainty import certain, entropy, maximal_entropy

RNG = np.random.default_rng(7)
SHAPE = (2, 3, 4, 5, 3)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.fixture
def tensors():
    logits = RNG.normal(size=SHAPE)
    labels = np.eye(3)[RNG.integers(0, 3, (2, 4, 5, 3))].transpose(0, 4, 1, 2, 3)
    valid = (RNG.random((2, 1, 4, 5, 3)) > 0.3).astype(float)
    return logits, labels, valid


def t(x):
    return torch.from_numpy(np.asarray(x, np.float32))


def test_dice_takes_sums_over_the_batch_of_squares(tensors):
    logits, labels, valid = tensors
    p = softmax(logits)
    wanted = []
    for c in (1, 2):
        a, b = p[:, c] * valid[:, 0], labels[:, c] * valid[:, 0]
        wanted.append((2 * (a * b).sum() + 1e-5) / ((a**2).sum() + (b**2).sum() + 1e-5))
    assert dice_loss(t(p), t(labels), t(valid)).item() == pytest.approx(
        1 - np.mean(wanted), rel=1e-5
    )


def test_weights_enter_dice_linearly(tensors):
    """A voxel of weight 1/2 counts half, as in cross-entropy: not a quarter."""
    logits, labels, _ = tensors
    p = softmax(logits)
    weight = np.full((len(p), 1, *p.shape[2:]), 0.5)
    weight[:, :, 0] = 1.0
    wanted = []
    for c in (1, 2):
        w, a, b = weight[:, 0], p[:, c], labels[:, c]
        wanted.append((2 * (w * a * b).sum() + 1e-5) / ((w * (a**2 + b**2)).sum() + 1e-5))
    found = dice_loss(t(p), t(labels), t(weight)).item()
    assert found == pytest.approx(1 - np.mean(wanted), rel=1e-5)


def test_cross_entropy_is_the_mean_over_annotated_voxels(tensors):
    logits, labels, valid = tensors
    nll = -(labels * np.log(softmax(logits))).sum(1, keepdims=True)
    wanted = (nll * valid).sum() / valid.sum()
    assert cross_entropy(t(logits), t(labels), t(valid)).item() == pytest.approx(wanted, rel=1e-4)
    assert cross_entropy(t(logits), t(labels)).item() == pytest.approx(nll.mean(), rel=1e-5)


def test_mean_squared_error_divides_by_the_mask_not_by_the_volume(tensors):
    logits, labels, valid = tensors
    wanted = (((logits - labels) ** 2).mean(1, keepdims=True) * valid).sum() / valid.sum()
    got = mean_squared_error(t(logits), t(labels), t(valid)).item()
    assert got == pytest.approx(wanted, rel=1e-4)
    assert masked_mean(t(logits), torch.zeros(1)).item() == 0.0


def test_hard_labels_are_the_argmax_for_any_number_of_classes(tensors):
    for classes in (2, 3):
        p = softmax(tensors[0][:, :classes])
        wanted = np.eye(classes)[p.argmax(1)].transpose(0, 4, 1, 2, 3)
        assert np.array_equal(hard_labels(t(p)).numpy(), wanted)


def test_entropy_and_its_maximum(tensors):
    p = softmax(tensors[0])
    wanted = -(p * np.log(p)).sum(1, keepdims=True)
    assert np.allclose(entropy(t(p)).numpy(), wanted, atol=1e-5)
    even = torch.full((1, 3, 1, 1, 1), 1 / 3)
    assert entropy(even).item() == pytest.approx(maximal_entropy(3, "lnC"), rel=1e-5)
    assert maximal_entropy(3) == pytest.approx(math.log(2))
    sure = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
    assert entropy(sure).item() == 0.0


def test_entropy_of_half_precision_input_does_not_underflow():
    p = torch.tensor([0.9999, 0.0001]).view(1, 2, 1, 1, 1)
    assert entropy(p.bfloat16()).dtype == torch.float32
    wanted = -(0.9999 * math.log(0.9999) + 1e-4 * math.log(1e-4))
    assert entropy(p).item() == pytest.approx(wanted, rel=1e-3)


def test_certainty_is_below_the_threshold():
    u = torch.tensor([0.1, 0.52, 0.6])
    assert certain(u, 0.52).tolist() == [1.0, 0.0, 0.0]


def test_ramps_and_thresholds():
    assert gaussian_ramp(1.0) == 1.0
    assert gaussian_ramp(0.0) == pytest.approx(math.exp(-5))
    assert gaussian_ramp(0.5) == pytest.approx(math.exp(-1.25))
    assert gaussian_ramp(0.5, squared=False) == pytest.approx(math.exp(-2.5))
    assert uncertainty_threshold(0.0, 2.0) == 1.5
    assert uncertainty_threshold(1.0, 2.0) == 2.0


def test_progress_counts_from_the_end_of_the_supervised_iterations():
    assert Step(99, 500, 100).supervised_only and not Step(100, 500, 100).supervised_only
    assert Step(50, 500, 100).progress == 0.0
    assert Step(300, 500, 100).progress == pytest.approx(0.5)


def test_learning_rates():
    paper = LearningRate(0.01, "step", 2500)
    assert [paper.at(i, 6000) for i in (0, 2499, 2500, 5000)] == pytest.approx(
        [0.01, 0.01, 0.001, 0.0001]
    )
    cosine = LearningRate(1e-3, "cosine", warmup=10)
    assert cosine.at(0, 110) == pytest.approx(1e-4)
    assert cosine.at(60, 110) == pytest.approx(5e-4)
    assert cosine.at(109, 110) < 1e-6
