"""Each method's objective against NumPy, where its gradients go, and that every term counts."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from ugmcl_core.methods import METHODS, UGMCL, Batch, DualTask, Supervised, UGMCLPlus
from ugmcl_core.network import DualTaskVNet, NetworkSettings, Output
from ugmcl_core.schedules import Step

MIDDLE = Step(60, 100, 20)


class Fixed(nn.Module):
    """A network whose outputs are parameters, so that an objective can be computed by hand."""

    def __init__(self, logits, distance):
        super().__init__()
        self.logits = nn.Parameter(torch.from_numpy(logits).float())
        self.raw = nn.Parameter(torch.from_numpy(np.arctanh(distance)).float())

    def forward(self, image):
        return Output(self.logits[: len(image)], self.raw.tanh()[: len(image)])

    encode = staticmethod(lambda image: [image])

    def decode(self, features):
        out = self(torch.empty(len(self.logits)))
        return out[slice(len(self.logits) - len(features[0]), None)]


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(1, keepdims=True)


@pytest.fixture(params=[2, 3])
def setting(request):
    """Two labelled and two unlabelled samples with chosen outputs of student and teacher."""
    classes, rng = request.param, np.random.default_rng(3)
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
    image = torch.randn(4, 1, *shape)
    tensors = {k: torch.from_numpy(v).float() for k, v in numbers.items()}
    measured = tensors["valid"].expand_as(tensors["level_set"])
    batch = Batch(
        image, image, tensors["labels"], tensors["level_set"], tensors["valid"], measured
    )
    student = Fixed(numbers["student"], numbers["student_distance"])
    teacher = Fixed(numbers["teacher"], numbers["teacher_distance"]).requires_grad_(False)
    return numbers, batch, student, teacher


def by_hand(n):
    """Dice, cross-entropy and distance error of the labelled samples."""
    p, v = softmax(n["student"])[:2], n["valid"]
    dices = []
    for c in range(1, p.shape[1]):
        a, b = p[:, c] * v[:, 0], n["labels"][:, c] * v[:, 0]
        dices.append((2 * (a * b).sum() + 1e-5) / ((a * a).sum() + (b * b).sum() + 1e-5))
    nll = -(n["labels"] * np.log(p)).sum(1, keepdims=True)
    error = ((n["student_distance"][:2] - n["level_set"]) ** 2).mean(1, keepdims=True)
    return 1 - np.mean(dices), (nll * v).sum() / v.sum(), (error * v).sum() / v.sum()


def close(terms, wanted):
    assert set(terms) == set(wanted)
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-4, abs=1e-6), name


def test_supervised(setting):
    numbers, batch, student, _ = setting
    dice, ce, _ = by_hand(numbers)
    close(Supervised().losses(student, None, batch, MIDDLE), {"ce": ce / 2, "dice": dice / 2})


def test_dual_task(setting):
    numbers, batch, student, _ = setting
    dice, ce, distance = by_hand(numbers)
    close(
        DualTask(distance_weight=3.0).losses(student, None, batch, MIDDLE),
        {"ce": ce, "dice": dice, "distance": 3 * distance},
    )


def test_ugmcl_is_equations_2_to_7(setting):
    n, batch, student, teacher = setting
    method = UGMCL(passes=3, beta=0.6, sharpness=4.0, weight=0.2)
    dice, ce, distance = by_hand(n)
    p, q = softmax(n["student"]), softmax(n["teacher"])
    ramp = np.exp(-5 * (1 - 0.5) ** 2)
    m = (entropy(q) < (0.75 + 0.25 * ramp) * np.log(2)).astype(float)
    assert 0 < m.mean() < 1
    d = ((p - q) ** 2).mean(1, keepdims=True)
    e = ((n["student_distance"] - n["teacher_distance"]) ** 2).mean(1, keepdims=True)
    intra = 0.6 * (m * d).sum() / m.sum() + 0.4 * (m * e).sum() / m.sum()
    back = 1 / (1 + np.exp(4.0 * n["student_distance"]))
    cross = ((p[:, 1:] - back) ** 2).mean()
    close(
        method.losses(student, teacher, batch, MIDDLE),
        {
            "ce": ce,
            "dice": dice,
            "distance": distance,
            "intra": 0.2 * ramp * intra,
            "cross": 0.2 * ramp * cross,
        },
    )


def test_ugmcl_plus_teaches_hard_labels_where_the_teacher_is_sure(setting):
    n, batch, student, teacher = setting
    method = UGMCLPlus(passes=2)
    classes = n["student"].shape[1]
    dice, ce, distance = by_hand(n)
    p, q = softmax(n["student"]), softmax(n["teacher"])[2:]
    ramp = 1.0  # the ramp ends at 0.4 of the semi-supervised iterations
    u = entropy(q)
    m = (u < (0.75 + 0.25 * ramp) * np.log(2)).astype(float)
    trust = m * (1 - u / np.log(classes))
    hard = np.moveaxis(np.eye(classes)[q.argmax(1)], -1, 1)
    nll = -(hard * np.log(p[2:])).sum(1, keepdims=True)
    dices = []
    for c in range(1, classes):
        a, b = p[2:, c] * trust[:, 0], hard[:, c] * trust[:, 0]
        dices.append((2 * (a * b).sum() + 1e-5) / ((a * a).sum() + (b * b).sum() + 1e-5))
    segmentation = (nll * trust).sum() / trust.sum() + 1 - np.mean(dices)
    error = ((n["student_distance"] - n["teacher_distance"])[2:] ** 2).mean(1, keepdims=True)
    intra = 0.75 * segmentation + 0.25 * (error * m).sum() / m.sum()
    back = 1 / (1 + np.exp((5 + 45 * 0.5) * n["student_distance"]))
    cross = ((p[:, 1:] - back) ** 2).mean()
    close(
        method.losses(student, teacher, batch, MIDDLE),
        {
            "ce": ce,
            "dice": dice,
            "distance": 2 * distance,
            "intra": 0.5 * intra,
            "cross": 0.3 * cross,
        },
    )


@pytest.fixture(params=[2, 3])
def networks(request):
    torch.manual_seed(1)
    settings = NetworkSettings(classes=request.param, filters=2)
    student, teacher = DualTaskVNet(settings), DualTaskVNet(settings)
    with torch.no_grad():  # a teacher that is sure of something
        teacher.segmentation_head.weight *= 20
    rng = np.random.default_rng(0)
    labels = np.moveaxis(
        np.eye(request.param)[rng.integers(0, request.param, (2, 16, 16, 16))], -1, 1
    )
    image = torch.randn(4, 1, 16, 16, 16)
    batch = Batch(
        image,
        image + 0.1,
        torch.from_numpy(labels).float(),
        torch.rand(2, request.param - 1, 16, 16, 16),
        torch.ones(2, 1, 16, 16, 16),
        torch.ones(2, request.param - 1, 16, 16, 16),
    )
    return student, teacher, batch


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_the_student_and_never_the_teacher(networks, name):
    student, teacher, batch = networks
    teacher.requires_grad_(True)
    terms = METHODS[name]().losses(student, teacher, batch, MIDDLE)
    sum(terms.values()).backward()
    assert all(p.grad is None for p in teacher.parameters())
    heads = [student.segmentation_head]
    if METHODS[name].uses_distance:
        heads.append(student.distance_head)
    for part in (student.levels_down[0], student.levels_up[0], *heads):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_every_term_has_a_gradient_of_its_own(networks, name):
    student, teacher, batch = networks
    torch.manual_seed(5)
    terms = METHODS[name]().losses(student, teacher, batch, Step(95, 100, 20))
    for term, value in terms.items():
        assert value.item() > 0, term
        student.zero_grad()
        value.backward(retain_graph=True)
        assert (
            sum(float(p.grad.abs().sum()) for p in student.parameters() if p.grad is not None) > 0
        ), term


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].uses_unlabelled])
def test_the_supervised_iterations_do_not_ask_the_teacher(networks, name):
    student, _, batch = networks
    terms = METHODS[name]().losses(student, None, batch, Step(5, 100, 20))
    assert set(terms) == {"ce", "dice", "distance"}


@pytest.mark.parametrize(
    "option,value",
    [
        ("beta", 0.0),
        ("weight", 0.0),
        ("sharpness", 5.0),
        ("threshold_start", 0.1),
        ("squared_ramp", False),
    ],
)
def test_each_option_of_ugmcl_changes_its_objective(setting, option, value):
    _, batch, student, teacher = setting
    plain = UGMCL(passes=1)
    changed = dataclasses.replace(plain, **{option: value})
    total = [
        float(sum(m.losses(student, teacher, batch, MIDDLE).values()).detach())
        for m in (plain, changed)
    ]
    assert total[0] != pytest.approx(total[1], rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_methods_say_what_they_are(name):
    method = METHODS[name]
    assert method.name == name and method.paper and method.year >= 2015 and method.when
    assert method.__doc__
