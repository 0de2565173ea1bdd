"""Networks with chosen outputs and batches of chosen numbers, for objectives by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ugmcl_core.methods import METHODS
from ugmcl_core.nn.batch import Batch
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings, Output
from ugmcl_core.nn.schedules import Step

MIDDLE = Step(60, 100, 20)
RAMP = float(np.exp(-5 * (1 - 0.5) ** 2))
"""The Gaussian ramp at MIDDLE, half of the semi-supervised iterations."""


class Fixed(nn.Module):
    """A network whose outputs are parameters, so that an objective can be computed by hand.

    Asked about fewer samples than it has, it answers for the first, or with ``last`` for the last.
    """

    def __init__(self, logits, distance, last=False):
        super().__init__()
        self.settings = NetworkSettings(classes=logits.shape[1], filters=2)
        self.logits = nn.Parameter(torch.from_numpy(logits).float())
        self.raw = nn.Parameter(torch.from_numpy(np.arctanh(distance)).float())
        shape = (len(logits), 4, *logits.shape[2:])
        self.features = nn.Parameter(torch.from_numpy(np.sin(np.arange(np.prod(shape)))).float())
        self.features.data = self.features.data.view(shape) + distance[0, 0, 0, 0, 0]
        self.last = last

    def which(self, samples):
        count, n = len(self.logits), len(samples)
        return slice(count - n, count) if self.last else slice(0, n)

    def forward(self, image, distance=True):
        which = self.which(image)
        return Output(self.logits[which], self.raw.tanh()[which] if distance else None)

    encode = staticmethod(lambda image: [image])

    def decoded(self, features):
        return [self.features[self.which(features[0])]]

    def heads(self, features):
        return self(features)

    def decode(self, features, distance=True):
        return self(features[0], distance)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_dice(p, labels, valid):
    """1 - mean Dice over foreground classes, batch-global, squared denominator."""
    dices = []
    for c in range(1, p.shape[1]):
        a, b, w = p[:, c], labels[:, c], valid[:, 0]
        dices.append((2 * (w * a * b).sum() + 1e-5) / ((w * (a * a + b * b)).sum() + 1e-5))
    return 1 - np.mean(dices)


def by_hand(n):
    """Dice, cross-entropy and distance error of the labeled samples."""
    p, v = softmax(n["student"])[:2], n["valid"]
    nll = -(n["labels"] * np.log(p)).sum(1, keepdims=True)
    error = ((n["student_distance"][:2] - n["level_set"]) ** 2).mean(1, keepdims=True)
    return (
        hard_dice(p, n["labels"], v),
        (nll * v).sum() / v.sum(),
        (error * v).sum() / v.sum(),
    )


def close(terms, wanted):
    assert set(terms) == set(wanted)
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-4, abs=1e-6), name


def chosen(classes, seed=3):
    """Two labeled and two unlabeled samples with chosen outputs of student and teacher:
    the numbers, the batch, the student, the teacher."""
    rng = np.random.default_rng(seed)
    shape = (4, 5, 4)
    numbers = {
        "student": rng.normal(size=(4, classes, *shape)) * 2,
        "student_distance": rng.uniform(-0.9, 0.9, (4, classes - 1, *shape)),
        "teacher": rng.normal(size=(4, classes, *shape)) * 2,
        "teacher_distance": rng.uniform(-0.9, 0.9, (4, classes - 1, *shape)),
        "labels": np.moveaxis(np.eye(classes)[rng.integers(0, classes, (2, *shape))], -1, 1),
        "level_set": rng.uniform(-1, 1, (2, classes - 1, *shape)),
        "valid": (rng.random((2, 1, *shape)) > 0.2).astype(float),
    }
    image = torch.from_numpy(rng.normal(size=(4, 1, *shape))).float()
    tensors = {k: torch.from_numpy(v).float() for k, v in numbers.items()}
    measured = tensors["valid"].expand_as(tensors["level_set"])
    targets = [tensors[k] for k in ("labels", "level_set", "valid")]
    batch = Batch(image, image, *targets, measured)
    student = Fixed(numbers["student"], numbers["student_distance"])
    teacher = Fixed(numbers["teacher"], numbers["teacher_distance"], last=True)
    return numbers, batch, student, teacher.requires_grad_(False)


def made(name, **options):
    """The method with options for tests: few passes, and a k of T⁻¹ that does not saturate."""
    kind = METHODS[name]
    usual = {"passes": 2, "sharpness": 5.0}
    return kind(**{k: v for k, v in usual.items() if hasattr(kind, k)}, **options)


def small_networks(classes, method=None):
    """A student (with the auxiliary of ``method``), a teacher and a batch of noise."""
    torch.manual_seed(1)
    strides = ((2, 2, 2), (2, 2, 1), (1, 1, 1), (1, 1, 1))
    # much dropout would leave two channels without a signal now and then
    settings = NetworkSettings(classes=classes, filters=2, strides=strides, dropout=0.2)
    student, teacher = DualTaskVNet(settings), DualTaskVNet(settings)
    with torch.no_grad():  # a teacher that is sure of something
        teacher.segmentation_head.weight *= 20
        for _ in range(20):  # and whose batch-norm statistics fit
            teacher(torch.randn(4, 1, 8, 8, 6))
    auxiliary = None if method is None else method.auxiliary(student, None)
    if auxiliary is not None:
        student.auxiliary = auxiliary
    size = (8, 8, 6)
    labels = np.moveaxis(
        np.eye(classes)[np.random.default_rng(0).integers(0, classes, (2, *size))], -1, 1
    )
    image = torch.randn(4, 1, *size)
    batch = Batch(
        image,
        image + 0.1,
        torch.from_numpy(labels).float(),
        torch.rand(2, classes - 1, *size),
        torch.ones(2, 1, *size),
        torch.ones(2, classes - 1, *size),
    )
    return student, teacher.requires_grad_(False), batch
