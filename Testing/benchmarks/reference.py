"""The field's protocol written plainly: what `bench.py` compares with.

float32, default memory layout, one window after the other copied to NumPy, the distance map of a
crop computed in the training loop, T = 8 Monte Carlo passes as 4 over the doubled batch, and the
teacher's targets in a pass of their own: as the published implementations of mean-teacher methods
for 3D segmentation run. The network is this project's, with torch's own layers (`plain`), so that
only the way of computing differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ugmcl_core.nn.network import DualTaskVNet

PASSES = 8
STRIDE = (18, 18, 4)


def crop_distance(mask: np.ndarray) -> np.ndarray:
    """The normalized level set of one crop: two Euclidean transforms, each divided by its
    maximum."""
    if not mask.any():
        return np.ones(mask.shape, np.float32)
    outside, inside = distance_transform_edt(~mask), distance_transform_edt(mask)
    return (outside / max(outside.max(), 1e-5) - inside / max(inside.max(), 1e-5)).astype(
        np.float32
    )


def load_crop(
    image: np.ndarray, mask: np.ndarray, patch: tuple[int, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random crop, turned by k·90° in the plane where it is square, then flipped."""
    box = tuple(
        slice(a := int(rng.integers(0, max(1, n - p + 1))), a + p)
        for n, p in zip(image.shape, patch, strict=True)
    )
    image, mask = image[box], mask[box]
    if patch[0] == patch[1]:
        turns = int(rng.integers(4))
        image, mask = np.rot90(image, turns), np.rot90(mask, turns)
    axis = int(rng.integers(2))
    return np.flip(image, axis).copy(), np.flip(mask, axis).copy()


@dataclass
class Training:
    """A student, a teacher, SGD, and the volumes that crops come from."""

    student: DualTaskVNet
    teacher: DualTaskVNet
    volumes: list[tuple[np.ndarray, np.ndarray]]
    patch: tuple[int, int, int]
    labeled: int = 2
    size: int = 4

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), 0.01, momentum=0.9, weight_decay=1e-4
        )
        self.device = next(self.student.parameters()).device
        for parameter in self.teacher.parameters():
            parameter.detach_()
        self.student.train()
        self.teacher.train()

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` crops: images (B, 1, I, J, K) and labels (B, I, J, K)."""
        crops = []
        for _ in range(count):
            image, mask = self.volumes[int(self.rng.integers(len(self.volumes)))]
            crops.append(load_crop(image, mask, self.patch, self.rng))
        images, masks = zip(*crops, strict=True)
        image = torch.from_numpy(np.stack(images))[:, None].to(self.device)
        return image, torch.from_numpy(np.stack(masks)).to(self.device)

    def supervised_step(self) -> None:
        """Dice + cross-entropy on a batch that is all labeled."""
        image, label = self.batch(self.size)
        out = self.student(image)
        self._descend(0.5 * (cross_entropy(out.logits, label.long()) + _dice(out.logits, label)))

    def ugmcl_step(self) -> None:
        """Eq. 7 with exact Monte Carlo passes over both streams."""
        image, label = self.batch(self.size)
        known = label[: self.labeled]
        out = self.student(image)
        with torch.no_grad():
            target = self.teacher(_noisy(image))
            doubled = image.repeat(2, 1, 1, 1, 1)
            samples = out.logits.new_zeros(PASSES * self.size, *out.logits.shape[1:])
            for n in range(PASSES // 2):
                part = slice(2 * self.size * n, 2 * self.size * (n + 1))
                samples[part] = self.teacher(_noisy(doubled)).logits
        samples = samples.softmax(1).reshape(PASSES, self.size, *samples.shape[1:])
        mean = samples.mean(0)
        entropy = -(mean * torch.log(mean + 1e-6)).sum(1, keepdim=True)
        mask = (entropy < 0.75 * math.log(2)).float()
        level_set = torch.from_numpy(np.stack([crop_distance(m.cpu().numpy() > 0) for m in known]))
        probabilities = out.logits.softmax(1)
        supervised = (
            cross_entropy(out.logits[: self.labeled], known.long())
            + _dice(out.logits[: self.labeled], known)
            + ((out.distance[: self.labeled, 0] - level_set.to(self.device)) ** 2).mean()
        )
        apart = (probabilities - target.logits.softmax(1)) ** 2
        seg = (mask * apart).sum() / (2 * mask.sum() + 1e-16)
        dis = (mask * (out.distance - target.distance) ** 2).sum() / (mask.sum() + 1e-16)
        cross = ((probabilities[:, 1:] - torch.sigmoid(-1500 * out.distance)) ** 2).mean()
        self._descend(supervised + 0.1 * (0.75 * seg + 0.25 * dis) + 0.1 * cross)
        for own, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            own.data.mul_(0.99).add_(new.data, alpha=0.01)

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _noisy(image: Tensor) -> Tensor:
    return image + torch.clamp(torch.randn_like(image) * 0.1, -0.2, 0.2)


def _dice(logits: Tensor, label: Tensor) -> Tensor:
    p, y = logits.softmax(1)[:, 1], (label > 0).float()
    return 1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + (y * y).sum() + 1e-5)


def plain(network: DualTaskVNet) -> DualTaskVNet:
    """``network`` with torch's own convolutions in the place of this project's faster ones."""
    for module in network.modules():
        for own in (nn.Conv3d, nn.ConvTranspose3d):
            if isinstance(module, own):
                module.__class__ = own
    return network


def corners(shape: tuple[int, ...], patch: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The first voxels of all windows at `STRIDE`."""
    axes = []
    for n, p, stride in zip(shape, patch, STRIDE, strict=True):
        count = math.ceil((n - p) / stride) + 1
        axes.append([min(stride * m, n - p) for m in range(count)])
    return [(x, y, z) for x in axes[0] for y in axes[1] for z in axes[2]]


@torch.no_grad()
def segment(
    network: DualTaskVNet,
    image: np.ndarray,
    patch: tuple[int, int, int],
    passes: int = 0,
    most: int | None = None,
) -> np.ndarray:
    """Mean softmax over all windows (or the first ``most``), and with ``passes`` the entropy of
    the mean of full Monte Carlo passes over each; (classes or classes + 1, I, J, K)."""
    classes = network.settings.classes
    score = np.zeros((classes + bool(passes), *image.shape), np.float32)
    count = np.zeros(image.shape, np.float32)
    network.eval()
    device = next(network.parameters()).device
    for corner in corners(image.shape, patch)[:most]:
        box = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        window = torch.from_numpy(image[box])[None, None].to(device)
        found = network(window).logits.softmax(1)[0].cpu().numpy()
        score[(slice(0, classes), *box)] += found
        if passes:
            network.dropout.train()
            mean = np.mean(
                [network(window).logits.softmax(1)[0].cpu().numpy() for _ in range(passes)], axis=0
            )
            network.dropout.eval()
            score[(classes, *box)] += -(mean * np.log(mean + 1e-6)).sum(0)
        count[box] += 1
    return score / np.maximum(count, 1)
