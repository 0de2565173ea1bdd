"""Objectives of the methods without a teacher, against NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from method_samples import (
    MIDDLE,
    RAMP,
    by_hand,
    close,
    entropy,
    hard_dice,
    sigmoid,
    small_networks,
    softmax,
)

from ugmcl_core.methods import DTC, DTML, URPC, DualTask, EntropyMinimization, SASSNet, Supervised
from ugmcl_core.nn.network import DualTaskVNet


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


def said(classes, method):
    """What a real student in evaluation mode says, as the numbers of `by_hand`; and itself."""
    student, _, batch = small_networks(classes, method)
    student.eval()
    with torch.no_grad():
        out = student(batch.image)
    distance = np.zeros((4, classes - 1, 8, 8, 6)) if out.distance is None else out.distance
    numbers = {
        "student": out.logits.numpy().astype(float),
        "student_distance": np.asarray(distance, float),
        "labels": batch.labels.numpy(),
        "level_set": batch.level_set.numpy(),
        "valid": batch.valid.numpy(),
    }
    return numbers, student, batch


@pytest.mark.parametrize("classes", [2, 3])
def test_sassnet_deceives_with_unlabeled_samples_and_judges_all(classes):
    method = SASSNet(weight=0.2)
    n, student, batch = said(classes, method)
    dice, _, distance = by_hand(n)
    student.auxiliary.dropout.p = 0.0
    with torch.no_grad():
        level_sets = torch.from_numpy(n["student_distance"]).float()
        verdict = student.auxiliary(level_sets, batch.image).numpy()[:, 0].astype(float)
    deceived = -np.log(sigmoid(verdict[2:])).mean()
    terms = method.losses(student, None, batch, MIDDLE)
    close(terms, {"dice": dice, "distance": 0.3 * distance, "adversarial": 0.2 * RAMP * deceived})
    labeled = np.array([1, 1, 0, 0])
    likely = np.where(labeled, sigmoid(verdict), 1 - sigmoid(verdict))
    opposing = method.discriminator_losses(student, batch, MIDDLE)
    close(opposing, {"discriminator": -np.log(likely).mean()})
    student.zero_grad()
    opposing["discriminator"].backward()
    assert all(p.grad is not None for p in student.auxiliary.parameters())
    own = [p for k, p in student.named_parameters() if not k.startswith("auxiliary.")]
    assert all(p.grad is None for p in own)


@pytest.mark.parametrize("shape", [(8, 8, 6), (16, 8, 12)])
def test_the_discriminator_takes_any_patch_of_its_network(shape):
    critic = SASSNet().auxiliary(small_networks(3)[0], None)
    assert critic(torch.randn(2, 2, *shape), torch.randn(2, 1, *shape)).shape == (2, 1)


@pytest.mark.parametrize("classes", [2, 3])
def test_urpc(classes):
    method = URPC(weight=0.3)
    n, student, batch = said(classes, method)
    with torch.no_grad():
        decoded = student.decoded(student.encode(batch.image))
        coarse = student.auxiliary(decoded)
    assert all(x.shape == (4, classes, 8, 8, 6) for x in coarse)
    scales = [softmax(n["student"]), *(softmax(x.numpy().astype(float)) for x in coarse)]
    found = [by_hand({**n, "student": np.log(p)}) for p in scales]
    mean = sum(p[2:] for p in scales) / 4
    total = 0.0
    for p in (p[2:] for p in scales):
        divergence = (mean * np.log(mean / p)).sum(1, keepdims=True)
        w = np.exp(-divergence)
        d = ((p - mean) ** 2).mean(1, keepdims=True)
        total += (w * d).sum() / w.sum() + divergence.mean()
    close(
        method.losses(student, None, batch, MIDDLE),
        {
            "ce": np.mean([0.5 * ce for _, ce, _ in found]),
            "dice": np.mean([0.5 * dice for dice, _, _ in found]),
            "consistency": 0.3 * RAMP * total / 4,
        },
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_dtml_teaches_both_networks(classes):
    method = DTML(sharpness=4.0)
    n, student, batch = said(classes, method)
    dice, ce, _ = by_hand(n)
    with torch.no_grad():
        distance = student.auxiliary(batch.image).distance.numpy().astype(float)
    back = sigmoid(-4.0 * distance)
    drawn = np.concatenate([np.zeros_like(back[:2, :1]), back[:2]], 1)
    cross = ((softmax(n["student"])[:, 1:] - back) ** 2).mean()
    terms = method.losses(student, None, batch, MIDDLE)
    close(
        terms,
        {
            "ce": ce / 2,
            "dice": dice / 2,
            "distance_dice": hard_dice(drawn, n["labels"], n["valid"]),
            "cross": RAMP * cross,
        },
    )
    terms["cross"].backward()
    for part in (student.segmentation_head, student.auxiliary.distance_head):
        assert all(float(p.grad.abs().sum()) > 0 for p in part.parameters() if p.ndim > 1)


def test_dtml_fine_tunes_both_networks_from_the_base():
    base = small_networks(2)[0]
    assert base.distance_head is not None
    headless = replace(base.settings, distance_head=False)
    student = DualTaskVNet(headless)
    state = base.state_dict()
    fresh, tuned = (DTML().auxiliary(student, weights) for weights in (None, state))
    for key in ("levels_down.0.0.0.weight", "distance_head.1.weight"):
        assert torch.equal(tuned.state_dict()[key], state[key])
        assert not torch.equal(fresh.state_dict()[key], state[key])
    without = {k: v for k, v in state.items() if not k.startswith("distance_head.")}
    assert DTML().auxiliary(student, without).distance_head is not None
