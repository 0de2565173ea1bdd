"""The terms that methods add up. All compute in float32; all take soft labels.

With several processes all sums are over the batch of all of them.

Shapes: probabilities and labels (B, C, I, J, K), class 0 the background; level sets
(B, C-1, I, J, K); ``valid`` and masks (B, 1, I, J, K), 1 where a voxel counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .parallel import size, total

EPSILON = 1e-5


def dice_loss(probabilities: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 - mean over foreground classes of 2 Σ p y / (Σ p² + Σ y²), sums over the whole batch,
    smoothing 1e-5."""
    return foreground_dice_loss(probabilities[:, 1:], labels[:, 1:], valid)


def foreground_dice_loss(
    foreground: Tensor, labels: Tensor, valid: Tensor | None = None
) -> Tensor:
    """`dice_loss` of the foreground classes alone, (B, C-1, I, J, K) each."""
    p, y = foreground.float(), labels.float()
    if valid is not None:
        p, y = p * valid, y * valid
    axes = (0, 2, 3, 4)
    sums = torch.stack([(p * y).sum(axes), (p * p).sum(axes) + (y * y).sum(axes)])
    overlap, squares = total(sums)
    return 1.0 - ((2.0 * overlap + EPSILON) / (squares + EPSILON)).mean()


def cross_entropy(logits: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean over voxels of -Σ_c y_c ln p_c."""
    loss = -(labels * logits.float().log_softmax(dim=1)).sum(dim=1, keepdim=True)
    return masked_mean(loss, valid)


def mean_squared_error(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over voxels (where ``mask``) of the mean over channels of (a - b)²; Eq. 4's
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
