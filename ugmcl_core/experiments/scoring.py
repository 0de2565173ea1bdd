"""Scoring a finished training: its model segments cases, and every measure is kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..data import volume
from ..data.cases import Case, read_pair
from ..data.components import keep_largest
from ..data.preprocessing import normalization_of, prepare
from ..data.volume import Volume
from ..evaluation import metrics
from ..inference.segmenter import Segmenter
from ..inference.settings import SegmentSettings
from ..inference.sliding_window import class_map
from ..models.model import Model
from ..nn import devices
from ..nn.network import DualTaskVNet

PAPER_STRIDE = (18, 18, 4)


@dataclass(frozen=True)
class Scoring:
    """Which cases are scored (``dev`` or ``report``) and how they are segmented: with the
    program's own windows, or with the paper's stride of 18x18x4 and plain means."""

    cases: str = "dev"
    paper_stride: bool = False

    @property
    def key(self) -> str:
        """Its name in records and folders."""
        return f"{self.cases}-paper-stride" if self.paper_stride else self.cases


def score_cases(
    model: Model,
    cases: list[Case],
    scoring: Scoring,
    device: str,
    predictions: Path,
    progress: Callable[[float, str], None],
) -> list[dict[str, Any]]:
    """One row per case and class: ``case``, ``label``, the measures of `metrics.Scores`, and under
    ``largest`` the same with only the largest component kept.

    The label maps are written into ``predictions``. Raises InputError for unusable files.
    """
    segmenter = Segmenter(model, device)
    predictions.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, case in enumerate(cases):
        progress(number / len(cases), f"scoring {case.name}")
        images, reference = read_pair(case)
        assert reference is not None
        if scoring.paper_stride:
            labels = segment_as_published(segmenter, images)
        else:
            settings = SegmentSettings(passes=0, all_components=True)
            labels = segmenter.segment(images, settings).labels
        volume.write(predictions / f"{case.name}.nrrd", labels)
        rows += case_rows(
            case.name, labels.array, reference, [c.value for c in model.card.classes]
        )
        devices.release_memory()
    return rows


def case_rows(
    name: str, labels: np.ndarray, reference: Volume, values: list[int]
) -> list[dict[str, Any]]:
    """The measures of one case, see `score_cases`; ``labels`` (I, J, K)."""
    rows = []
    for value in values:
        truth = reference.array == value
        largest = labels.copy()
        keep_largest(largest, value)
        spacing = reference.grid.spacing
        rows.append(
            {
                "case": name,
                "label": value,
                **asdict(metrics.score(labels == value, truth, spacing)),
                "largest": asdict(metrics.score(largest == value, truth, spacing)),
            }
        )
    return rows


def segment_as_published(segmenter: Segmenter, images: Volume | Sequence[Volume]) -> Volume:
    """The labels of an image (or one for each channel) by the published inference: windows of the
    patch every 18x18x4 voxels of the model's grid, the mean of their probabilities, argmax;
    nothing mirrored."""
    card = segmenter.model.card
    prepared = prepare(images, card.spacing, normalization_of(card.normalization))
    with devices.autocast(segmenter.device):
        foreground = predict_strided(segmenter.network, prepared.image, card.patch, PAPER_STRIDE)
    return Volume(class_map(prepared.restore(foreground.cpu()).numpy()), prepared.grid)


@torch.inference_mode()
def predict_strided(
    network: DualTaskVNet, image: Tensor, patch: tuple[int, int, int], stride: tuple[int, int, int]
) -> Tensor:
    """Foreground probabilities (C-1, I, J, K), float32, of ``image`` (channels, I, J, K): the mean
    over windows of ``patch`` every ``stride`` voxels, the last ones at the border. A volume
    smaller than the patch is padded with zeros on both sides."""
    device = next(network.parameters()).device
    gaps = [max(0, p - n) for n, p in zip(image.shape[1:], patch, strict=True)]
    before = [g // 2 for g in gaps]
    around = [m for g, b in zip(reversed(gaps), reversed(before), strict=True) for m in (b, g - b)]
    padded = pad(image, around).to(device)
    corners = itertools.product(
        *(
            [min(s * n, size - p) for n in range(math.ceil((size - p) / s) + 1)]
            for size, p, s in zip(padded.shape[1:], patch, stride, strict=True)
        )
    )
    total = torch.zeros((network.settings.classes - 1, *padded.shape[1:]), device=device)
    count = torch.zeros(padded.shape[1:], device=device)
    network.eval()
    for corner in corners:
        box = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        part = padded[(slice(None), *box)][None]
        out = network(part.contiguous(memory_format=torch.channels_last_3d))
        total[(slice(None), *box)] += out.probabilities[0, 1:]
        count[box] += 1.0
    where = tuple(slice(b, b + n) for b, n in zip(before, image.shape[1:], strict=True))
    return (total / count)[(slice(None), *where)]
