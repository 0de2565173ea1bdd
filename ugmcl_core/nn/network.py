"""The dual-task V-Net: one encoder and decoder, a segmentation head and a distance head.

The V-Net of the semi-supervised literature (Milletari et al., 2016, as in UA-MT, DTC and UG-MCL):
five levels, filters doubling per level, additive skips, no residual sums inside a level. The
encoder and the decoder can be called apart, so that several Monte Carlo decodings share one
encoding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from . import devices
from .convolutions import Convolution, Rectified, Upsampling, rectifies

T = TypeVar("T")
Strides = tuple[tuple[int, int, int], ...]
_ENCODER_CONVOLUTIONS = (1, 2, 3, 3, 3)
_DECODER_CONVOLUTIONS = (1, 2, 3, 3)


@dataclass(frozen=True)
class NetworkSettings:
    """What defines a network: everything needed to build it again from its model card.

    ``strides`` are those between the five levels, ``kernels`` the sizes of each level's
    convolutions, finest first, by axis: where slices are thick, the finest levels may look within
    a slice alone, (3, 3, 1).

    ``distance_dropout`` False leaves out the dropout before the distance head alone. A regression
    trained with dropout is biased without it: batch-norm statistics and tanh were those of
    features that vary more (Li et al., 2019, call it variance shift).
    """

    classes: int = 2
    channels: int = 1
    filters: int = 16
    strides: Strides = ((2, 2, 2),) * 4
    distance_head: bool = True
    dropout: float = 0.5
    distance_dropout: bool = True
    kernels: Strides = ((3, 3, 3),) * 5

    fixed_window: ClassVar[bool] = False
    """Whether the network takes only windows of its patch size, since it normalizes over each
    window."""

    def __post_init__(self) -> None:
        if self.classes < 2 or self.channels < 1 or self.filters < 1:
            raise ValueError("a network needs at least 2 classes, 1 channel and 1 filter")
        if not self.distance_head:  # equal settings for equal networks
            object.__setattr__(self, "distance_dropout", True)
        object.__setattr__(self, "strides", tuple(tuple(map(int, s)) for s in self.strides))
        if len(self.strides) != 4 or any(len(s) != 3 or min(s) < 1 for s in self.strides):
            raise ValueError("strides must be four triples of whole numbers from 1 on")
        object.__setattr__(self, "kernels", tuple(tuple(map(int, k)) for k in self.kernels))
        if len(self.kernels) != 5 or any(len(k) != 3 or set(k) - {1, 3} for k in self.kernels):
            raise ValueError("kernels must be five triples of 1 and 3")

    @property
    def multiple(self) -> tuple[int, int, int]:
        """Patch sizes must be multiples of this along each axis."""
        return tuple(s[0] * s[1] * s[2] * s[3] for s in zip(*self.strides, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """As stored in a model card; cubic kernels, the default, are left out."""
        content = asdict(self)
        if self.kernels == NetworkSettings.kernels:
            del content["kernels"]
        return content


@dataclass(frozen=True)
class Output:
    """The network's outputs for a batch: ``logits`` (B, C, I, J, K) and, with a distance head,
    ``distance`` (B, C-1, I, J, K), the tanh level set of each foreground class, in float32."""

    logits: Tensor
    distance: Tensor | None

    @property
    def probabilities(self) -> Tensor:
        """softmax(logits) in float32, where entropy and consistency do not underflow."""
        return self.logits.float().softmax(dim=1)

    @property
    def foreground(self) -> Tensor:
        """The `probabilities` of all classes but the background, (B, C-1, I, J, K)."""
        if self.logits.shape[1] > 2:
            return self.probabilities[:, 1:]
        background, foreground = self.logits.float().split(1, dim=1)
        return (foreground - background).sigmoid()  # the softmax of two

    def __getitem__(self, samples: slice) -> Output:
        distance = None if self.distance is None else self.distance[samples]
        return Output(self.logits[samples], distance)


def _unit(kind: type[nn.Module], inputs: int, outputs: int, **options) -> nn.Sequential:
    return nn.Sequential(
        kind(inputs, outputs, **options), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)
    )


def _level(
    count: int, inputs: int, filters: int, kernel: tuple[int, int, int]
) -> nn.Sequential:
    return nn.Sequential(
        *(_same(inputs if n == 0 else filters, filters, kernel) for n in range(count))
    )


def _same(inputs: int, outputs: int, kernel: tuple[int, int, int]) -> nn.Sequential:
    """A unit whose output has the size of its input."""
    padding = tuple(k // 2 for k in kernel)
    return _unit(Convolution, inputs, outputs, kernel_size=kernel, padding=padding)


class DualTaskVNet(nn.Module):
    """V-Net with the heads of UG-MCL: f_seg (logits) and f_dis (tanh of a convolution block).

    ``forward`` takes (B, channels, I, J, K) with sizes that are multiples of
    ``settings.multiple``; otherwise torch raises a RuntimeError at the first additive skip.
    ``auxiliary`` is a module that a method trains along (see `methods.base.Method`); it is no
    part of ``forward``, nor of a saved model.
    """

    def __init__(self, settings: NetworkSettings = NetworkSettings()) -> None:
        super().__init__()
        self.settings = settings
        self.auxiliary: nn.Module | None = None
        width = [settings.filters * 2**n for n in range(5)]
        self.levels_down = nn.ModuleList(
            _level(count, width[n] if n else settings.channels, width[n], settings.kernels[n])
            for n, count in enumerate(_ENCODER_CONVOLUTIONS)
        )
        self.down = nn.ModuleList(
            _unit(Convolution, width[n], width[n + 1], kernel_size=s, stride=s)
            for n, s in enumerate(settings.strides)
        )
        self.up = nn.ModuleList(
            _unit(Upsampling, width[n + 1], width[n], kernel_size=s, stride=s)
            for n, s in enumerate(settings.strides)
        )
        self.levels_up = nn.ModuleList(
            _level(count, width[n], width[n], settings.kernels[n])
            for n, count in enumerate(_DECODER_CONVOLUTIONS)
        )
        self.dropout = nn.Dropout3d(settings.dropout)
        self.segmentation_head = nn.Conv3d(width[0], settings.classes, 1)
        self.distance_head = (
            nn.Sequential(
                _same(width[0], width[0], settings.kernels[0]),
                nn.Conv3d(width[0], settings.classes - 1, 1),
            )
            if settings.distance_head
            else None
        )

    def encode(self, image: Tensor) -> list[Tensor]:
        """The features of the five levels, finest first; deterministic but for batch norm."""
        features = [self.levels_down[0](image)]
        for down, level in zip(self.down, self.levels_down[1:], strict=True):
            features.append(level(down(features[-1])))
        return features

    def decode(self, features: list[Tensor], distance: bool = True) -> Output:
        """The heads' outputs from `encode`'s features; each call draws its own dropout.

        ``distance`` False skips the distance head, a sixth of all the work, where only the
        segmentation is needed, as in Monte Carlo passes.
        """
        return self.heads(self.decoded(features)[0], distance)

    def decoded(self, features: list[Tensor]) -> list[Tensor]:
        """The decoder's features of its four levels, finest first, from `encode`'s."""
        x, found = self.dropout(features[-1]), []
        for n in reversed(range(4)):
            x = self.levels_up[n](self.up[n](x) + features[n])
            found.append(x)
        return found[::-1]

    def heads(self, features: Tensor, distance: bool = True) -> Output:
        """The heads' outputs for the decoder's finest features; ``distance`` as in `decode`."""
        distance = distance and self.distance_head is not None
        if distance and self.settings.distance_dropout:
            features = self.dropout(features)
            logits = self.segmentation_head(features)
        else:
            logits = self._dropped_logits(features)
        return Output(logits, self.distance_head(features).float().tanh() if distance else None)

    def _dropped_logits(self, features: Tensor) -> Tensor:
        """f_seg of the features under dropout, which drops whole channels and so can act on the
        weights instead. This saves a pass over the largest feature map, with the same draws."""
        head = self.segmentation_head
        if not self.dropout.training or not len(features):  # a batch may lack unlabeled samples
            return head(features)
        kept = self.dropout(torch.ones_like(features[:, :, :1, :1, :1]))
        weights = head.weight * kept[:, None]  # (B, C, filters, 1, 1, 1)
        samples = zip(features.split(1), weights, strict=True)
        return torch.cat([conv3d(x, weight, head.bias) for x, weight in samples])

    def forward(self, image: Tensor, distance: bool = True) -> Output:
        return self.decode(self.encode(image), distance)


def without_normalization(network: DualTaskVNet) -> DualTaskVNet:
    """A copy of ``network`` for evaluation, its batch normalizations folded into the weights of
    the convolutions before them: the same function with one pass less over each feature map."""
    network = copy.deepcopy(network).eval()
    units = [m for m in network.modules() if isinstance(m, nn.Sequential)]
    for unit in units:
        if len(unit) > 1 and isinstance(unit[1], nn.BatchNorm3d):
            transposed = isinstance(unit[0], nn.ConvTranspose3d)
            unit[0] = fuse_conv_bn_eval(unit[0], unit[1], transpose=transposed)
            unit[1] = nn.Identity()
    return network


def for_inference(network: DualTaskVNet) -> DualTaskVNet:
    """A copy of ``network`` to segment with: `without_normalization`, and on a CPU `Rectified`
    convolutions in the processor's precision. It has no gradients."""
    network = without_normalization(network)
    device = next(network.parameters()).device
    precision = devices.precision(device)
    if device.type == "cpu" and rectifies(precision):
        for unit in list(network.modules()):
            if isinstance(unit, nn.Sequential) and isinstance(unit[-1], nn.ReLU):
                unit[0] = Rectified(unit[0], precision)
                unit[-1] = nn.Identity()
    return network


def set_dropout(network: nn.Module, on: bool) -> None:
    """Switch dropout alone, leaving batch normalization in the mode that it is in."""
    for module in network.modules():
        if isinstance(module, nn.Dropout3d):
            module.train(on)


def load_weights(
    network: DualTaskVNet, weights: Mapping[str, Tensor], same_heads: bool = True
) -> None:
    """Load ``weights`` (any floating precision) into ``network``; ValueError if they do not fit.

    Unless ``same_heads``, either may lack the distance head: it then stays as initialized, or is
    left out.
    """
    state = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    if not same_heads:
        own = {k: v for k, v in network.state_dict().items() if k.startswith("distance_head.")}
        head = {k: state.pop(k) for k in list(state) if k.startswith("distance_head.")}
        state.update({**own, **{k: v for k, v in head.items() if k in own}})
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit the network: {error}") from error


def take_over(network: DualTaskVNet, weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Load those of a network's ``weights`` that fit ``network``, which may have other strides,
    kernels and heads. Returns the number of layers loaded, and of all layers.

    A layer fits if all its weights have the sizes of the network's. Where the network looks along
    an axis at one voxel instead of several, the weights along it are added up (of an upsampling,
    averaged): the response to an image that is constant along it.
    """
    own = network.state_dict()
    averaged = {name for name, m in network.named_modules() if isinstance(m, Upsampling)}
    layers: dict[str, dict[str, Tensor | None]] = {}
    for key, tensor in own.items():
        layer = key.rpartition(".")[0]
        given = weights.get(key)
        fit = None if given is None else _narrowed(given, tensor.shape, layer in averaged)
        layers.setdefault(layer, {})[key] = fit
    found = [layer for layer in layers.values() if all(w is not None for w in layer.values())]
    network.load_state_dict({**own, **{k: w for layer in found for k, w in layer.items()}})
    return len(found), len(layers)


def _narrowed(weight: Tensor, shape: torch.Size, averaged: bool) -> Tensor | None:
    """``weight`` in this ``shape``, None if it does not fit."""
    axes = [a for a in range(2, weight.ndim) if a < len(shape) and shape[a] == 1]
    if axes and weight.ndim == len(shape):
        weight = weight.float().mean(axes, True) if averaged else weight.float().sum(axes, True)
    return weight if weight.shape == shape else None


def without_auxiliary(named: Iterable[tuple[str, T]]) -> dict[str, T]:
    """A network's named parameters, buffers or state without those of its auxiliary module."""
    return {name: value for name, value in named if not name.startswith("auxiliary.")}


_SEGMENTATION, _DISTANCE = "segmentation_head", "distance_head.1"
_OUTSIDE = 1.0  # tanh(1) = 0.76: far outside, not yet at the limit, where no gradient is left


def with_new_classes(weights: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """The state of a network with ``classes`` classes, made from that of one with fewer.

    Existing weights stay as they are: every old class's logit, and so the odds between old
    classes, are the base's. A new class's segmentation channel starts with the background's bias,
    less ln n for n new ones, and a random kernel; its distance channel at random around "far
    outside". Raises ValueError if there are fewer classes than before.

    To the base the new class was background, so that it could start as a copy of that (Cermelli et
    al., 2020). But an optimizer that moves each weight by at most its learning rate a step takes
    hundreds of steps to separate the two then, the more of them the less probable the new class
    is at first, since equal kernels give the features no gradient that separates them.
    """
    state = dict(weights)
    kernel, bias = (state[f"{_SEGMENTATION}.{k}"] for k in ("weight", "bias"))
    more = classes - len(bias)
    if more < 0:
        raise ValueError(f"the base has {len(bias)} classes, more than {classes}")
    if more == 0:
        return state
    state[f"{_SEGMENTATION}.weight"] = torch.cat([kernel, _random(kernel, more)])
    share = bias[:1] - math.log(more)
    state[f"{_SEGMENTATION}.bias"] = torch.cat([bias, share.expand(more)])
    if f"{_DISTANCE}.weight" in state:
        kernel, bias = (state[f"{_DISTANCE}.{k}"] for k in ("weight", "bias"))
        state[f"{_DISTANCE}.weight"] = torch.cat([kernel, _random(kernel, more)])
        state[f"{_DISTANCE}.bias"] = torch.cat([bias, torch.full((more,), _OUTSIDE)])
    return state


def start_at(network: DualTaskVNet, shares: Sequence[float]) -> None:
    """Let an untrained ``network`` predict the foreground classes with their ``shares`` of the
    voxels everywhere, and level sets far outside (the prior of Lin et al., Focal loss, 2017).

    An optimizer that moves each weight by at most its learning rate a step takes hundreds of
    steps to learn that most voxels are background.
    """
    shares = [max(float(s), 1e-4) for s in shares]
    odds = torch.tensor([max(1.0 - sum(shares), 1e-4), *shares]).log()
    with torch.no_grad():
        network.segmentation_head.bias.copy_(odds)
        if network.distance_head is not None:
            network.distance_head[1].bias.fill_(_OUTSIDE)


def _random(kernel: Tensor, count: int) -> Tensor:
    """``count`` new kernels of the same size as ``kernel``'s, initialized as torch initializes
    convolutions."""
    new = torch.empty(count, *kernel.shape[1:])
    torch.nn.init.kaiming_uniform_(new, a=math.sqrt(5.0))
    return new
