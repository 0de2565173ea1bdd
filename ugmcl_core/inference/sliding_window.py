"""The sliding window: the network over a whole volume, with Monte Carlo passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import Canceled
from ..nn.network import DualTaskVNet, set_dropout
from ..nn.uncertainty import entropy
from .settings import largest_window

_OVERLAP = 0.5  # of the windows of a larger volume by default


@dataclass(frozen=True)
class Prediction:
    """On the model's grid, float32: ``foreground`` (C-1, I, J, K) probabilities, ``distance``
    (C-1, ...) level sets or None; ``sampled``, in the form of ``foreground``, the mean of the
    samples that the uncertainty is of, or None."""

    foreground: Tensor
    distance: Tensor | None
    sampled: Tensor | None = None

    @cached_property
    def uncertainty(self) -> Tensor | None:
        """Predictive entropy / ln C of the samples, (1, I, J, K), or None."""
        return None if self.sampled is None else spread(self.sampled)

    def pooled(self, n: int) -> np.ndarray:
        """The mean of the samples and of the prediction, which averages the mirrored views, of the
        n-th class, (I, J, K): both show where the surface may be, Monte Carlo passes those of one
        view alone."""
        return ((self.sampled[n] + self.foreground[n]) / 2).cpu().numpy()


def spread(foreground: Tensor) -> Tensor:
    """Predictive entropy / ln C, 0 to 1, of the foreground's mean probabilities (C-1, I, J, K);
    (1, I, J, K)."""
    everything = torch.cat([(1.0 - foreground.sum(0, keepdim=True)).clamp_min(0.0), foreground])
    return (entropy(everything[None])[0] / math.log(len(everything))).clamp(0.0, 1.0)


def class_map(foreground: np.ndarray) -> np.ndarray:
    """The most probable class of each voxel: (C-1, I, J, K) probabilities of the foreground
    classes to (I, J, K) uint8, 0 where the background is at least as probable."""
    if len(foreground) == 1:
        return (foreground[0] > 0.5).astype(np.uint8)
    best = foreground.argmax(axis=0)
    highest = np.take_along_axis(foreground, best[None], axis=0)[0]
    return np.where(highest > 1.0 - foreground.sum(axis=0), best + 1, 0).astype(np.uint8)


def lead(foreground: np.ndarray) -> np.ndarray:
    """By how much the most probable foreground class exceeds the background: (C-1, I, J, K)
    probabilities to (I, J, K). Of two classes 2 p - 1, whose sum over a component is how many more
    of its voxels are expected to be right than wrong."""
    return foreground.max(axis=0) + foreground.sum(axis=0) - 1.0


def window_size(
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    multiple: tuple[int, ...],
    most: float | None = None,
) -> tuple[int, ...]:
    """The window for a volume: all of it where that is at most ``most`` voxels (None:
    `largest_window`), else a patch cut down to the volume; multiples of the network's strides."""
    whole = tuple(-(-n // m) * m for n, m in zip(shape, multiple, strict=True))
    if math.prod(whole) <= (largest_window(patch) if most is None else most):
        return whole
    return tuple(min(w, p) for w, p in zip(whole, patch, strict=True))


def starts(length: int, window: int, overlap: float) -> list[int]:
    """First voxels of windows that cover ``length``, evenly spread, overlapping by at least
    ``overlap`` of a window."""
    if length <= window:
        return [0]
    count = 1 + math.ceil((length - window) / max(1, int(window * (1.0 - overlap))))
    return [round(n * (length - window) / (count - 1)) for n in range(count)]


def importance(window: tuple[int, ...], width: float = 1 / 4, least: float = 0.01) -> Tensor:
    """Weights of a window's voxels: a Gaussian of ``width`` of its size, never below ``least`` of
    its peak."""
    axes = []
    for n in window:
        x = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) / (n * width)
        axes.append(torch.exp(-0.5 * x * x))
    return torch.einsum("i,j,k->ijk", *axes).clamp_min(least)


@dataclass(frozen=True)
class _Tiling:
    """The windows of a volume of ``shape``: ``margins`` before and after it, filled by
    ``padding``; the first voxels of each window in the padded volume; and the ``weight`` of a
    window's voxels, 1 or as large as it."""

    shape: tuple[int, ...]
    window: tuple[int, ...]
    margins: tuple[tuple[int, int], ...]
    padding: str
    corners: tuple[tuple[int, ...], ...]
    weight: Tensor

    def padded(self, image: Tensor) -> Tensor:
        """(channels, I, J, K) to (1, channels, ...) with margins."""
        widths = [m for pair in reversed(self.margins) for m in pair]
        return pad(image[None], widths, mode=self.padding)

    def boxes(self, corners: Sequence[tuple[int, ...]]) -> list[tuple[slice, ...]]:
        """The voxels of the windows at ``corners``."""
        return [
            tuple(slice(a, a + w) for a, w in zip(corner, self.window, strict=True))
            for corner in corners
        ]

    def inner(self, fields: Tensor) -> Tensor:
        """(..., I, J, K) without the margins."""
        return fields[
            (..., *(slice(a, a + n) for (a, _), n in zip(self.margins, self.shape, strict=True)))
        ]


def _tiling(
    network: DualTaskVNet,
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    overlap: float | None,
    device: torch.device,
) -> _Tiling:
    """The windows for ``network``, as `predict` describes them."""
    fixed = network.settings.fixed_window
    most = None if overlap is None else 0.0
    window = patch if fixed else window_size(shape, patch, network.settings.multiple, most)
    overlap = _OVERLAP if overlap is None else overlap
    gaps = [max(0, w - n) for n, w in zip(shape, window, strict=True)]
    margins = tuple((gap // 2, gap - gap // 2) if fixed else (0, gap) for gap in gaps)
    sides = [n + gap for n, gap in zip(shape, gaps, strict=True)]
    corners = tuple(
        itertools.product(*(starts(n, w, overlap) for n, w in zip(sides, window, strict=True)))
    )
    weight = torch.ones(())
    if len(corners) > 1:  # nnU-Net's and MONAI's own weights for theirs
        weight = importance(window, 1 / 8, 1e-6) if fixed else importance(window)
    padding = "constant" if fixed else "replicate"
    return _Tiling(shape, window, margins, padding, corners, weight.to(device))


def _fields(
    network: DualTaskVNet,
    windows: Tensor,
    passes: int,
    distance: bool,
    advance: Callable[[], None],
) -> list[Tensor]:
    """The probabilities of ``windows`` (N, channels, I, J, K); with ``distance`` and where the
    network has them its level sets; with ``passes`` the mean of so many with dropout. ``advance``
    is called before the encoding and before each decoding."""
    advance()
    features = network.encode(windows.contiguous(memory_format=torch.channels_last_3d))
    advance()
    out = network.decode(features, distance=distance)
    fields = [out.foreground]
    if distance and out.distance is not None:
        fields.append(out.distance)
    if passes:
        set_dropout(network, True)
        try:
            mean = torch.zeros_like(out.foreground)
            for _ in range(passes):
                advance()
                mean += network.decode(features, distance=False).foreground
        finally:
            set_dropout(network, False)
        fields.append(mean / passes)
    return fields


@torch.inference_mode()
def predict(
    network: DualTaskVNet,
    image: Tensor,
    patch: tuple[int, int, int],
    *,
    passes: int = 0,
    overlap: float | None = None,
    together: int = 1,
    distance: bool = True,
    progress: Callable[[float], None] | None = None,
    canceled: Callable[[], bool] | None = None,
) -> Prediction:
    """Segment ``image`` (channels, I, J, K), normalized, on the network's device.

    Probabilities and level sets come from one pass without dropout; the uncertainty is the
    predictive entropy (Eq. 3) of ``passes`` passes with dropout, which share the pass's encoding
    in which nothing is random. A volume that is not much larger than a patch is one
    window; with an ``overlap`` windows are patches that overlap by at least this share of theirs.
    A network of a `fixed_window` gets patches alone, a smaller volume in the middle of zeros.
    Results of overlapping windows are averaged by `importance`; ``together`` windows go through
    the network at once. Without ``distance`` only probabilities are computed. Raises Canceled when
    ``canceled()`` turns true, checked at every pass.
    """
    device = next(network.parameters()).device
    tiling = _tiling(network, tuple(image.shape[1:]), patch, overlap, device)
    image = tiling.padded(image).to(device)
    has_distance = distance and network.distance_head is not None
    kinds = 1 + has_distance + (passes > 0)
    size = image.shape[2:]
    total = torch.zeros((kinds, network.settings.classes - 1, *size), device=device)
    weights = torch.zeros(size, device=device)
    corners = tiling.corners
    groups = [corners[n : n + together] for n in range(0, len(corners), together)]
    done, work = 0, len(groups) * (2 + passes)

    def advance() -> None:
        nonlocal done
        if progress is not None:
            progress(done / work)
        if canceled is not None and canceled():
            raise Canceled
        done += 1

    network.eval()
    for group in groups:
        boxes = tiling.boxes(group)
        windows = torch.cat([image[(..., *box)] for box in boxes])
        fields = torch.stack(_fields(network, windows, passes, has_distance, advance))
        for n, box in enumerate(boxes):
            total[(..., *box)] += fields[:, n] * tiling.weight
            weights[box] += tiling.weight
    if progress is not None:
        progress(1.0)
    total = tiling.inner(total.div_(weights))
    return Prediction(total[0], total[1] if has_distance else None, total[-1] if passes else None)


def predict_mirrored(
    network: DualTaskVNet,
    image: Tensor,
    patch: tuple[int, int, int],
    axes: tuple[int, ...],
    *,
    passes: int = 0,
    uncertainty: str = "dropout",
    progress: Callable[[float], None] | None = None,
    **options,
) -> Prediction:
    """`predict`, its probabilities and level sets averaged over all mirrored views along ``axes``.

    The uncertainty is the entropy of a mean: by ``dropout`` over ``passes`` Monte Carlo passes on
    the unmirrored view; by ``flips`` over the views, without dropout; by ``both`` over Monte Carlo
    passes on all views, as many in all as ``passes`` or one a view. Without passes there is none.
    ``options`` are those of `predict`.
    """
    views = [v for n in range(len(axes) + 1) for v in itertools.combinations(axes, n)]
    each = -(-passes // len(views)) if uncertainty == "both" else 0
    first = passes if uncertainty == "dropout" else each
    counts = [first] + [each] * (len(views) - 1)
    costs = [2 + count for count in counts]
    done, total = 0, [None, None, None]
    for view, count, cost in zip(views, counts, costs, strict=True):

        def advance(fraction: float, done: int = done, cost: int = cost) -> None:
            if progress is not None:
                progress((done + fraction * cost) / sum(costs))

        turned = [a + 1 for a in view]
        part = predict(
            network, image.flip(turned), patch, passes=count, progress=advance, **options
        )
        done += cost
        # one sum, not all views at a time: there may be many classes
        for number, field in enumerate((part.foreground, part.distance, part.sampled)):
            if field is not None:
                former, field = total[number], field.flip(turned)
                total[number] = field if former is None else former.add_(field)
    foreground, distance, sampled = total
    foreground /= len(views)
    if distance is not None:
        distance /= len(views)
    if passes and uncertainty == "flips":
        sampled = foreground
    elif passes and uncertainty == "both":
        sampled /= len(views)
    return Prediction(foreground, distance, sampled)
