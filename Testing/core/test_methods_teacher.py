"""Objectives of the methods with a teacher, against NumPy."""

import dataclasses

import numpy as np
import pytest
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

from ugmcl_core.methods import UAMT, UGMCL, MeanTeacher, UGMCLPlus


@pytest.fixture(params=[2, 3])
def setting(request):
    return chosen(request.param)


def test_mean_teacher(setting):
    n, batch, student, teacher = setting
    dice, ce, _ = by_hand(n)
    difference = ((softmax(n["student"]) - softmax(n["teacher"]))[2:] ** 2).mean()
    close(
        MeanTeacher(weight=0.3).losses(student, teacher, batch, MIDDLE),
        {"ce": ce / 2, "dice": dice / 2, "consistency": 0.3 * RAMP * difference},
    )


def test_ua_mt_asks_certain_voxels_of_unlabelled_samples(setting):
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
        assert (method.uses_teacher, method.uses_unlabelled, method.uses_distance) == needs, off


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
