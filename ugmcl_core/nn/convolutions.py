"""Faster forms of convolutions that are slow in oneDNN on a CPU, with torch's values, gradients,
parameters and names of weights (docs/performance.md)."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import conv3d, conv_transpose3d, pad


class Convolution(nn.Conv3d):
    """A convolution that gives an image of one channel a second one, with weights of 0.

    oneDNN has no fast kernels for one channel: in bfloat16 it takes up to five times as long as
    for two, and its weight gradient as well.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels != 1 or _plain(x):
            return super().forward(x)
        weight = _for_two_channels(self.weight)
        return conv3d(_doubled(x), weight, self.bias, self.stride, self.padding, self.dilation)


class Upsampling(nn.ConvTranspose3d):
    """A transposed convolution, unpadded, whose bias gets its gradient from a sum.

    oneDNN computes that gradient in a plain loop, which takes six times as long as the rest of the
    backward pass of the network's last upsampling.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or _plain(x):
            return super().forward(x)
        parameters = (p.to(x.dtype) for p in (self.weight, self.bias))
        with torch.autocast("cpu", enabled=False):  # x has been cast by the layers before
            return _Upsampled.apply(x, *parameters, self.stride)


class _Upsampled(torch.autograd.Function):
    """Transposed convolution of x (B, C, I, J, K) by weight (C, filters, *stride), with bias."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return conv_transpose3d(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_input, of_weight, of_bias, _ = ctx.needs_input_grad
        transposed, none, ones = True, [0, 0, 0], [1, 1, 1]
        by_input, by_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, ctx.stride, none, ones, transposed, none, 1,
            (of_input, of_weight, False),
        )  # fmt: skip
        return by_input, by_weight, gradient.sum((0, 2, 3, 4)) if of_bias else None, None


class Rectified(nn.Module):
    """A convolution, transposed or not, and the ReLU after it in one operation, computed in
    ``dtype`` on a CPU. The values are the same, and a pass over the output is saved. It has no
    gradients."""

    def __init__(self, convolution: Convolution | Upsampling, dtype: torch.dtype) -> None:
        super().__init__()
        self.settings = [list(convolution.padding), list(convolution.stride), [1, 1, 1], 1]
        self.transposed = isinstance(convolution, nn.ConvTranspose3d)
        if self.transposed:
            self.settings.insert(1, [0, 0, 0])  # the padding of the output
        weight = convolution.weight.detach()
        self.single = convolution.in_channels == 1 and not self.transposed
        weight = _for_two_channels(weight) if self.single else weight
        weight = weight.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", convolution.bias.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        x = _doubled(x) if self.single else x
        operation = _rectified_transposed if self.transposed else _rectified
        return operation(x, self.weight, self.bias, *self.settings)


@cache
def rectifies(dtype: torch.dtype) -> bool:
    """Whether torch and the processor have what `Rectified` needs: an operation meant for torch's
    own compiler, hence tried and compared."""
    sizes = (1, 2, 2, 2, 2), (2, 2, 2, 2, 2), (2,)
    x, weight, bias = (torch.ones(size, dtype=dtype) for size in sizes)
    weight[1] = -1.0
    none, ones, twos = [0, 0, 0], [1, 1, 1], [2, 2, 2]
    try:
        found = (
            _rectified(x, weight, bias, none, ones, ones, 1),
            _rectified_transposed(x, weight, bias, none, none, twos, ones, 1),
        )
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = (conv3d(x, weight, bias), conv_transpose3d(x, weight, bias, 2))
    return all(torch.equal(a, b.relu()) for a, b in zip(found, expected, strict=True))


def _rectified(*arguments: object) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(*arguments, "relu", [], "")


def _rectified_transposed(*arguments: object) -> Tensor:
    return torch.ops.mkldnn._convolution_transpose_pointwise(*arguments, "relu", [], "")


def _doubled(x: Tensor) -> Tensor:
    return x.expand(-1, 2, -1, -1, -1).contiguous(memory_format=torch.channels_last_3d)


def _for_two_channels(weight: Tensor) -> Tensor:
    return pad(weight, (0, 0, 0, 0, 0, 0, 0, 1))


def _plain(x: Tensor) -> bool:
    """Whether to use torch's own operation: on other devices than a CPU, and while the network is
    traced for export to other programs."""
    return x.device.type != "cpu" or torch.jit.is_tracing()
