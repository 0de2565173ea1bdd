"""Objectives of the methods with a teacher, against NumPy."""

import dataclasses

import numpy as np
import pytest
import torch
from method_samples import (
    MIDDLE,
    RAMP,
    by_hand,
    chosen,
    close,
    entropy,
    hard_dice,
    sigmoid,
    softmax,
)

from ugmcl_core.methods import DUWM, TCSE, UAMT, UGMCL, MeanTeacher, UGMCLOfficial, UGMCLPlus
from ugmcl_core.methods.baselines.tcse import Transformation, draw
from ugmcl_core.nn import teacher as teachers
from ugmcl_core.nn.network import Output


def test_mean_teacher(setting):
    n, batch, student, teacher = setting
    dice, ce, _ = by_hand(n)
    difference = ((softmax(n["student"]) - softmax(n["teacher"]))[2:] ** 2).mean()
    close(
        MeanTeacher(weight=0.3).losses(student, teacher, batch, MIDDLE),
        {"ce": ce / 2, "dice": dice / 2, "consistency": 0.3 * RAMP * difference},
    )


def test_ua_mt_asks_certain_voxels_of_unlabeled_samples(setting):
    n, batch, student, teacher = setting
    dice, ce, _ = by_hand(n)
    p, q = softmax(n["student"])[2:], softmax(n["teacher"])[2:]
    m = (entropy(q) < (0.6 + 0.4 * RAMP) * np.log(2)).astype(float)
    assert 0 < m.mean() < 1
    consistency = (m * (p - q) ** 2).sum() / (p.shape[1] * m.sum())
    close(
        UAMT(passes=2, threshold_start=0.6).losses(student, teacher, batch, MIDDLE),
        {"ce": ce / 2, "dice": dice / 2, "consistency": 0.1 * RAMP * consistency},
    )


def ugmcl_by_hand(n, o):
    """Eq. 2 to 7 for the options ``o`` at MIDDLE."""
    dice, ce, distance = by_hand(n)
    terms = {"ce": ce, "dice": dice, "distance": distance}
    p, q = softmax(n["student"]), softmax(n["teacher"])
    classes = p.shape[1]
    ramp = RAMP if o.squared_ramp else np.exp(-5 * 0.5)
    part = o.threshold_start + (1 - o.threshold_start) * ramp * o.threshold_ramp
    u = entropy(q)
    if o.threshold_reference == "quantile":
        rank = int(np.ceil(part * u.size))
        threshold = np.sort(u, axis=None)[rank - 1 : rank + 1].mean()
    else:
        threshold = part * np.log(2 if o.threshold_reference == "ln2" else classes)
    m = (u < threshold).astype(float)
    assert 0 < m.mean() < 1
    d = ((p - q) ** 2).mean(1, keepdims=True)
    e = ((n["student_distance"] - n["teacher_distance"]) ** 2).mean(1, keepdims=True)
    intra = (o.beta * (m * d).sum() + (1 - o.beta) * (m * e).sum()) / m.sum()
    k = o.sharpness_start + 0.5 * (o.sharpness - o.sharpness_start)
    back = sigmoid(-(k if o.sharpness_start else o.sharpness) * n["student_distance"])
    f = ((p[:, 1:] - back) ** 2).mean(1, keepdims=True)
    cross = (m * f).sum() / m.sum() if o.mask_cross else f.mean()
    terms["intra"] = o.weight * ramp * intra
    terms["cross"] = o.weight * ramp * cross
    if not (o.distance or o.cross):  # no distance head
        terms["intra"] = o.weight * ramp * (m * d).sum() / m.sum()
    kept = {"distance": o.distance, "intra": o.intra, "cross": o.cross}
    return {k: v for k, v in terms.items() if kept.get(k, True)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.25, "weight": 0.3},
        {"squared_ramp": False},
        {"threshold_ramp": False, "threshold_start": 0.9},
        {"threshold_reference": "lnC", "threshold_start": 0.6},
        {"threshold_reference": "quantile", "threshold_start": 0.3},
        {"sharpness": 9.0, "sharpness_start": 1.0},
        {"mask_cross": True},
        {"mask_cross": True, "intra": False},
        # Table 1, rows 1 to 6
        {"distance": False, "intra": False, "cross": False},
        {"intra": False, "cross": False},
        {"distance": False, "cross": False},
        {"cross": False},
        {"intra": False},
        {"distance": False},
    ],
    ids=str,
)
def test_ugmcl_is_equations_2_to_7(setting, options):
    n, batch, student, teacher = setting
    method = dataclasses.replace(UGMCL(passes=3, sharpness=4.0), **options)
    close(method.losses(student, teacher, batch, MIDDLE), ugmcl_by_hand(n, method))


def test_ugmcl_asks_for_what_its_terms_need():
    rows = {
        (): (True, True, True),
        ("distance", "intra", "cross"): (False, False, False),
        ("intra", "cross"): (False, False, True),
        ("distance", "cross"): (True, True, False),
        ("intra",): (False, True, True),
    }
    for off, needs in rows.items():
        method = UGMCL(**dict.fromkeys(off, False))
        assert (method.uses_teacher, method.uses_unlabeled, method.uses_distance) == needs, off


def test_ugmcl_plus_teaches_hard_labels_where_the_teacher_is_sure(setting):
    n, batch, student, teacher = setting
    method = UGMCLPlus(passes=2)
    classes = n["student"].shape[1]
    dice, ce, _ = by_hand(n)
    v = np.broadcast_to(n["valid"], n["level_set"].shape)
    distance = (abs(n["student_distance"][:2] - n["level_set"]) * v).sum() / v.sum()
    p, q = softmax(n["student"]), softmax(n["teacher"])[2:]
    ramp = 1.0  # the ramp ends at 0.4 of the semi-supervised iterations
    u = entropy(q)
    m = (u < (0.75 + 0.25 * ramp) * np.log(2)).astype(float)
    trust = m * (1 - u / np.log(classes))
    hard = np.moveaxis(np.eye(classes)[q.argmax(1)], -1, 1)
    nll = -(hard * np.log(p[2:])).sum(1, keepdims=True)
    segmentation = (nll * trust).sum() / trust.sum() + hard_dice(p[2:], hard, trust)
    error = ((n["student_distance"] - n["teacher_distance"])[2:] ** 2).mean(1, keepdims=True)
    intra = 0.75 * segmentation + 0.25 * (error * m).sum() / m.sum()
    cross = ((p[:, 1:] - sigmoid(-50 * n["student_distance"])) ** 2).mean()
    close(
        method.losses(student, teacher, batch, MIDDLE),
        {
            "ce": ce,
            "dice": dice,
            "distance": distance,
            "intra": 0.5 * intra,
            "cross": 0.3 * cross,
        },
    )


@pytest.mark.parametrize("kappa", [1.0, 2.5])
def test_duwm_weighs_by_both_uncertainties(setting, kappa):
    n, batch, student, teacher = setting
    method = DUWM(passes=2, weight=0.3, regularizer=0.2)
    student.auxiliary = method.auxiliary(student, None)
    with torch.no_grad():
        student.auxiliary.raw.fill_(np.log(np.expm1(kappa)))
    dice, ce, _ = by_hand(n)
    p, q = softmax(n["student"]), softmax(n["teacher"])
    f, g = (x.features.detach().numpy().astype(float) for x in (student, teacher))

    def term(own, wanted, u):
        d = ((own - wanted) ** 2).mean(1, keepdims=True)
        return 0.3 * RAMP * (np.exp(-kappa * u) * d + 0.2 * kappa * u).mean()

    terms = method.losses(student, teacher, batch, MIDDLE)
    close(
        terms,
        {
            "ce": ce / 2,
            "dice": dice / 2,
            "segmentation": term(p, q, entropy(q) / np.log(q.shape[1])),
            "features": term(f, g, entropy(softmax(g)) / np.log(g.shape[1])),
        },
    )
    sum(terms.values()).backward()
    assert student.features.grad.abs().sum() > 0 and student.auxiliary.raw.grad.abs().min() > 0


def test_ugmcl_official_has_one_tensor_for_both_tasks(setting):
    n, batch, student, teacher = setting
    dice, ce, _ = by_hand(n)
    p, q = softmax(n["student"]), softmax(n["teacher"])
    back = sigmoid(-3.0 * np.tanh(n["student"]))
    m = (entropy(q) < (0.75 + 0.25 * RAMP) * np.log(2)).astype(float)
    intra = 0.5 * (m * (p - q) ** 2).sum() / (p.shape[1] * m.sum())
    close(
        UGMCLOfficial(passes=2, sharpness=3.0).losses(student, teacher, batch, MIDDLE),
        {
            "ce": ce / 2,
            "dice": dice / 2,
            "distance_dice": hard_dice(back[:2], n["labels"], n["valid"]) / 2,
            "intra": 0.1 * RAMP * intra,
            "cross": 0.1 * RAMP * ((p - back) ** 2).mean(),
        },
    )


@pytest.mark.parametrize("turns,flips", [(0, ()), (1, (0,)), (2, (1, 2)), (3, (0, 1, 2))])
def test_transformations_are_numpys(turns, flips):
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6, 4)).astype(np.float32)
    wanted = np.flip(np.rot90(x, turns, (2, 3)), [a + 2 for a in flips])
    got = Transformation(1.0, turns, flips)(torch.from_numpy(x)).numpy()
    assert np.allclose(got, wanted, atol=1e-5)


def test_a_zoom_is_about_the_center_and_says_what_it_covers():
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in (8, 8, 6)], indexing="ij")
    x = torch.from_numpy(np.stack(axes)[None]).float()
    zoomed = Transformation(1.25, 0, ())(x)
    assert torch.allclose(zoomed, x / 1.25, atol=1e-5)  # magnified: coordinates grow more slowly
    inside = Transformation(0.5, 0, ())(torch.ones(1, 1, 8, 8, 8), "zeros") > 0.999
    assert inside[0, 0, 2:6, 2:6, 2:6].all() and inside.sum() == 4**3


def test_quarter_turns_are_drawn_only_where_they_fit():
    torch.manual_seed(0)
    even = ((2, 2, 1),) * 4
    square = {draw(torch.empty(1, 1, 8, 8, 4), even, 0.2).turns for _ in range(60)}
    oblong = {draw(torch.empty(1, 1, 8, 6, 4), even, 0.2).turns for _ in range(60)}
    uneven = {draw(torch.empty(1, 1, 8, 8, 4), ((2, 1, 1),) * 4, 0.2).turns for _ in range(60)}
    assert square == {0, 1, 2, 3} and oblong == uneven == {0, 2}


class Pointwise(torch.nn.Module):
    """Logits that depend on each voxel alone, so that it commutes with every flip and turn."""

    def __init__(self, slope, settings):
        super().__init__()
        self.slope, self.settings = torch.nn.Parameter(torch.tensor(slope)), settings

    def forward(self, image, distance=True):
        return Output(torch.cat([-self.slope * image, self.slope * image], 1), None)


def test_tcse_compares_the_transformed_prediction_with_that_of_the_transformed(monkeypatch):
    _, batch, fixed, _ = chosen(2)
    monkeypatch.setattr(teachers, "noisy", lambda image: image)
    student, same, other = (Pointwise(s, fixed.settings) for s in (1.0, 1.0, 0.5))
    method = TCSE(zoom=0.0, weight=0.4)
    assert method.losses(student, same, batch, MIDDLE)["consistency"].item() < 1e-10
    x = batch.image.numpy().astype(float)
    # MSE of p over both classes; a turned mean is the mean
    wanted = 0.4 * RAMP * ((sigmoid(2 * x) - sigmoid(x)) ** 2).mean()
    terms = method.losses(student, other, batch, MIDDLE)
    assert terms["consistency"].item() == pytest.approx(wanted, rel=1e-4)
    zoomed = TCSE(zoom=0.3).losses(student, same, batch, MIDDLE)["consistency"]
    assert 0 < zoomed.item() < 0.1 * RAMP
