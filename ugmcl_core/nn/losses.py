"""The terms of the objectives: Eq. 2, 4 and 6 of the paper, and their parts.

All compute in float32 and take soft labels. With several processes, sums run over the batch of
all of them.

Shapes: probabilities and labels (B, C, I, J, K), class 0 the background; level sets
(B, C-1, I, J, K); ``valid`` and masks (B, 1, I, J, K), 1 where a voxel counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .parallel import size, total

if TYPE_CHECKING:
    from .batch import Batch
    from .network import Output
    from .teacher import TeacherOutput

EPSILON = 1e-5


def supervised_terms(out: Output, batch: Batch, distance_weight: float = 1.0) -> dict[str, Tensor]:
    """L_sup, Eq. 2: cross-entropy and Dice of f_seg, squared error between f_dis and T(y).

    ``out`` holds the labeled samples alone.
    """
    return {
        **segmentation_terms(out, batch, 1.0),
        "distance": distance_weight * distance_error(out, batch),
    }


def segmentation_terms(out: Output, batch: Batch, weight: float = 0.5) -> dict[str, Tensor]:
    """L_seg of Eq. 2: ``weight`` (CE + Dice) of f_seg; ``out`` holds the labeled samples alone."""
    return {
        "ce": weight * cross_entropy(out.logits, batch.labels, batch.valid),
        "dice": weight * dice_loss(out.probabilities, batch.labels, batch.valid),
    }


def distance_error(out: Output, batch: Batch) -> Tensor:
    """L_dis of Eq. 2: the mean of (f_dis - T(y))² where T(y) is known; ``out`` holds the labeled
    samples alone."""
    return masked_mean((out.distance - batch.level_set).square(), batch.distance_known)


def intra_task_consistency(
    out: Output, targets: TeacherOutput, mask: Tensor, beta: float
) -> Tensor:
    """L_itc, Eq. 4: β Σ m |f_seg - f'_seg|² / Σ m + (1 - β) Σ m |f_dis - f'_dis|² / Σ m.

    ``targets`` are the teacher's, ``mask`` is m, 1 where it is certain. A network without a
    distance head has the first term alone, unweighted.
    """
    segmentation = mean_squared_error(out.probabilities, targets.probabilities, mask)
    if out.distance is None:
        return segmentation
    distance = mean_squared_error(out.distance, targets.distance, mask)
    return beta * segmentation + (1.0 - beta) * distance


def cross_task_consistency(
    out: Output, from_level_set: Tensor, mask: Tensor | None = None
) -> Tensor:
    """L_ctc, Eq. 6: the mean of |f_seg - T⁻¹(f_dis)|² over the foreground classes.

    ``from_level_set`` is T⁻¹(f_dis), see `level_sets.to_mask`.
    """
    return mean_squared_error(out.probabilities[:, 1:], from_level_set, mask)


def dice_loss(probabilities: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 - mean over foreground classes of 2 Σ p y / (Σ p² + Σ y²), sums over the whole batch,
    smoothing 1e-5."""
    return foreground_dice_loss(probabilities[:, 1:], labels[:, 1:], valid)


def foreground_dice_loss(
    foreground: Tensor, labels: Tensor, valid: Tensor | None = None
) -> Tensor:
    """`dice_loss` of the foreground classes alone, (B, C-1, I, J, K) each."""
    p, y = foreground.float(), labels.float()
    products, squares = p * y, p * p + y * y
    if valid is not None:  # once: weights between 0 and 1 count linearly
        products, squares = products * valid, squares * valid
    axes = (0, 2, 3, 4)
    sums = torch.stack([products.sum(axes), squares.sum(axes)])
    overlap, squares = total(sums)
    return 1.0 - ((2.0 * overlap + EPSILON) / (squares + EPSILON)).mean()


def cross_entropy(logits: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean over voxels of -Σ_c y_c ln p_c."""
    loss = -(labels * logits.float().log_softmax(dim=1)).sum(dim=1, keepdim=True)
    return masked_mean(loss, valid)


def mean_squared_error(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over voxels (where ``mask``) of the mean over channels of (a - b)²:
    Σ m mean_C (a - b)² / (Σ m + ε)."""
    return masked_mean((a.float() - b.float()).square().mean(dim=1, keepdim=True), mask)


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Σ m v / (Σ m + ε), or the plain mean without a mask."""
    if mask is None:
        return total(values.mean()) / size()  # every rank has equally many
    weighted, weight = total(torch.stack([(values * mask).sum(), mask.sum()]))
    return weighted / (weight + EPSILON)


def hard_labels(probabilities: Tensor) -> Tensor:
    """The most probable class as class fractions 0 and 1; (B, C, I, J, K) float32."""
    classes = probabilities.shape[1]
    if classes == 2:  # torch's argmax over two channels is slower than the network's decoder
        foreground = (probabilities[:, 1:] > 0.5).float()
        return torch.cat([1.0 - foreground, foreground], dim=1)
    encoded = torch.nn.functional.one_hot(probabilities.argmax(dim=1), classes)
    return encoded.movedim(-1, 1).float()
