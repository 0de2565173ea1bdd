"""The convolutions of a CPU: torch's functions and gradients, asked for in another way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ugmcl_core.nn import convolutions, devices
from ugmcl_core.nn.convolutions import Convolution, Rectified, Upsampling, rectifies
from ugmcl_core.nn.network import DualTaskVNet, NetworkSettings, for_inference

HALF = pytest.mark.skipif(
    not torch.cpu._is_avx512_bf16_supported(),
    reason="this processor does not compute in bfloat16",
)
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


@HALF
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_is_torchs_in_mixed_precision(dtype):
    torch.manual_seed(0)
    layers = pair(Convolution, nn.Conv3d, 1, 16, 3, padding=1)
    assert_equal(layers, (16, 16, 8), dtype, rtol=2e-2, atol=2e-1)


@HALF
def test_an_upsampling_is_torchs_in_mixed_precision():
    torch.manual_seed(0)
    layers = pair(Upsampling, nn.ConvTranspose3d, 8, 16, 2, stride=2)
    assert_equal(layers, (16, 16, 8), torch.bfloat16, rtol=2e-2, atol=2e-1)


def test_one_channel_and_the_bias_take_the_fast_way(monkeypatch):
    asked = []
    monkeypatch.setattr(convolutions, "conv3d", lambda x, *_: asked.append(x.shape[1]))
    Convolution(1, 4, 3, padding=1)(torch.randn(1, 1, 4, 4, 4))
    Convolution(2, 4, 3, padding=1)(torch.randn(1, 2, 4, 4, 4))
    assert asked == [2]
    found = Upsampling(4, 3, 2, stride=2)(torch.randn(1, 4, 3, 3, 3))
    assert "_Upsampled" in type(found.grad_fn).__name__


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["same", "down", "up"])
def test_a_rectified_convolution_is_one_before_a_relu(kind, channels, dtype):
    if not rectifies(dtype):
        pytest.skip("torch lacks the operation for this processor")
    torch.manual_seed(0)
    layer = {
        "same": Convolution(channels, 8, 3, padding=1),
        "down": Convolution(channels, 8, (1, 2, 2), stride=(1, 2, 2)),
        "up": Upsampling(channels, 8, (2, 2, 1), stride=(2, 2, 1)),
    }[kind]
    x = torch.randn(2, channels, 6, 8, 10).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        found = Rectified(layer, dtype)(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            expected = layer(x).relu()
    assert found.dtype == dtype and 0.2 < (found == 0).float().mean() < 0.8
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(found, expected)


def test_a_network_to_segment_with_is_the_network(monkeypatch):
    monkeypatch.setattr(devices, "precision", lambda device: torch.float32)
    torch.manual_seed(0)
    network = DualTaskVNet(NetworkSettings(filters=4, strides=((2, 2, 1), *((2, 2, 2),) * 3)))
    for _ in range(3):  # statistics of its own
        network(torch.randn(2, 1, 16, 16, 16))
    x = torch.randn(1, 1, 32, 16, 16).contiguous(memory_format=torch.channels_last_3d)
    fast = for_inference(network)
    assert any(isinstance(m, Rectified) for m in fast.modules()) == rectifies(torch.float32)
    with torch.inference_mode():
        found, expected = fast(x), network.eval()(x)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.distance, expected.distance, rtol=1e-4, atol=1e-4)


def test_without_the_operation_a_network_segments_as_it_is(monkeypatch):
    monkeypatch.setattr("ugmcl_core.nn.network.rectifies", lambda dtype: False)
    fast = for_inference(DualTaskVNet(NetworkSettings(filters=4)))
    assert not any(isinstance(m, Rectified) for m in fast.modules())
    assert any(isinstance(m, nn.ReLU) for m in fast.modules())


def test_a_build_that_lacks_the_operation_is_recognized(monkeypatch):
    def absent(*_arguments):
        raise AttributeError("no such operation")

    monkeypatch.setattr(convolutions, "_rectified", absent)
    assert not rectifies.__wrapped__(torch.float32)
    monkeypatch.setattr(convolutions, "_rectified", lambda *_: torch.zeros(1, 2, 1, 1, 1))
    assert not rectifies.__wrapped__(torch.float32)  # there, but something else
