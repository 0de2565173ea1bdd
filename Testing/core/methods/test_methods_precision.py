"""Mixed precision: objectives are computed in float32, also where probabilities underflow."""

import math

import pytest
import torch
from method_samples import MIDDLE, Fixed, chosen, made, small_networks

from ugmcl_core.methods import METHODS
from ugmcl_core.nn.level_sets import to_mask
from ugmcl_core.nn.network import Output


@pytest.mark.parametrize("name", METHODS)
def test_terms_under_autocast_are_float32_and_those_without(name):
    totals = []
    for enabled in (False, True):
        method = made(name)
        student, teacher, batch = small_networks(3, method)
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            terms = method.losses(student, teacher, batch, MIDDLE)
        assert {v.dtype for v in terms.values()} == {torch.float32}
        totals.append(sum(float(v.detach()) for v in terms.values()))
    assert totals[1] == pytest.approx(totals[0], rel=0.05)


class Half(Fixed):
    """Says everything in bfloat16, and its logits loudly."""

    def forward(self, image, distance=True):
        out = super().forward(image)
        level_set = out.distance.bfloat16() if distance else None
        return Output((40.0 * out.logits).bfloat16(), level_set)


@pytest.mark.parametrize("name", ["entropy-minimization", "ua-mt", "dtc", "ugmcl"])
def test_sure_logits_in_half_precision_give_finite_terms_and_gradients(name):
    _, batch, student, teacher = chosen(3)
    student.__class__ = teacher.__class__ = Half
    terms = METHODS[name]().losses(student, teacher, batch, MIDDLE)
    sum(terms.values()).backward()
    assert all(math.isfinite(v.detach()) for v in terms.values())
    assert bool(student.logits.grad.isfinite().all())


def test_a_level_set_in_half_precision_is_inverted_in_float32():
    z = torch.tensor([-0.004, 0.004]).bfloat16()
    inverse = to_mask(z, 1500.0)
    assert inverse.dtype == torch.float32
    wanted = [1 / (1 + math.exp(1500 * float(v))) for v in z]
    assert inverse.tolist() == pytest.approx(wanted, rel=1e-4)
