"""The convolutions of a CPU: torch's functions and gradients, asked for in another way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ugmcl_core.convolutions import Convolution, Upsampling

SIZE = st.integers(1, 7)
STRIDE = st.sampled_from([(2, 2, 2), (1, 2, 2), (2, 2, 1), (1, 1, 1)])


def outcome(layer, x, gradient, dtype=None):
    """What a layer makes of ``x``, and all gradients; with a ``dtype`` in mixed precision, where
    bfloat16 rounds sums to 1/256."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        found = layer(x if dtype is None else x.to(dtype))
    found.backward(gradient.to(found.dtype))
    return found, x.grad, layer.weight.grad, layer.bias.grad


def pair(own, theirs, *arguments, **options):
    """A layer of this project and torch's own with the same weights."""
    a, b = own(*arguments, **options), theirs(*arguments, **options)
    b.load_state_dict(a.state_dict())
    return a, b


def assert_equal(layers, size, dtype=None, **tolerance):
    a, b = layers
    kind = torch.float32 if dtype else torch.float64
    x = torch.randn(2, a.in_channels, *size, dtype=kind)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    if dtype is None:
        a, b = a.double(), b.double()
    gradient = torch.randn_like(b(x))
    for found, expected in zip(*(outcome(m, x, gradient, dtype) for m in (a, b)), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, **tolerance)


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIZE, SIZE, SIZE), st.integers(1, 3), st.integers(0, 2**32))
def test_a_convolution_is_torchs(size, channels, seed):
    torch.manual_seed(seed)
    assert_equal(pair(Convolution, nn.Conv3d, channels, 4, 3, padding=1), size)


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIZE, SIZE, SIZE), STRIDE, st.integers(0, 2**32))
def test_an_upsampling_is_torchs(size, stride, seed):
    torch.manual_seed(seed)
    layers = pair(Upsampling, nn.ConvTranspose3d, 4, 3, kernel_size=stride, stride=stride)
    assert_equal(layers, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_is_torchs_in_mixed_precision(dtype):
    torch.manual_seed(0)
    layers = pair(Convolution, nn.Conv3d, 1, 16, 3, padding=1)
    assert_equal(layers, (16, 16, 8), dtype, rtol=2e-2, atol=2e-1)


def test_an_upsampling_is_torchs_in_mixed_precision():
    torch.manual_seed(0)
    layers = pair(Upsampling, nn.ConvTranspose3d, 8, 16, 2, stride=2)
    assert_equal(layers, (16, 16, 8), torch.bfloat16, rtol=2e-2, atol=2e-1)


@pytest.mark.parametrize("frozen", [("weight",), ("bias",), ("weight", "bias")])
def test_what_is_frozen_gets_no_gradient(frozen):
    layer = Upsampling(4, 3, 2, stride=2)
    for name in frozen:
        getattr(layer, name).requires_grad_(False)
    x = torch.randn(1, 4, 3, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    for name in ("weight", "bias"):
        assert (getattr(layer, name).grad is None) == (name in frozen)
    ones = torch.ones(1, 3, 6, 6, 6)
    expected = torch.nn.functional.conv3d(ones, layer.weight.detach(), stride=2)
    torch.testing.assert_close(x.grad, expected)
