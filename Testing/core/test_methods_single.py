"""Objectives of the methods without a teacher, against NumPy."""

import numpy as np
import pytest
from method_samples import MIDDLE, RAMP, by_hand, chosen, close, entropy, sigmoid, softmax

from ugmcl_core.methods import DTC, DualTask, EntropyMinimization, Supervised


@pytest.fixture(params=[2, 3])
def setting(request):
    return chosen(request.param)


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


def test_entropy_minimization_is_over_all_samples_in_units_of_ln_c(setting):
    n, batch, student, _ = setting
    dice, ce, _ = by_hand(n)
    p = softmax(n["student"])
    doubt = entropy(p).mean() / np.log(p.shape[1])
    close(
        EntropyMinimization(weight=0.4).losses(student, None, batch, MIDDLE),
        {"ce": ce / 2, "dice": dice / 2, "entropy": 0.4 * RAMP * doubt},
    )


@pytest.mark.parametrize("start,k", [(0.0, 6.0), (2.0, 4.0)])
def test_dtc(setting, start, k):
    n, batch, student, _ = setting
    dice, _, distance = by_hand(n)
    p, back = softmax(n["student"]), sigmoid(-k * n["student_distance"])
    cross = ((p[:, 1:] - back) ** 2).mean()
    method = DTC(sharpness=6.0, sharpness_start=start, weight=0.7)
    close(
        method.losses(student, None, batch, MIDDLE),
        {"dice": dice, "distance": 0.3 * distance, "cross": 0.7 * RAMP * cross},
    )
