"""UG-MCL as its authors' published code computes it, where that departs from the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..nn.batch import Batch
from ..nn.level_sets import to_mask
from ..nn.losses import foreground_dice_loss, mean_squared_error, segmentation_terms
from ..nn.network import DualTaskVNet
from ..nn.schedules import Step, gaussian_ramp, uncertainty_threshold
from ..nn.teacher import mc_dropout_targets
from ..nn.uncertainty import certain, maximal_entropy
from .base import Method
from .options import Count, Weight, option


@dataclass(frozen=True)
class UGMCLOfficial(Method):
    """0.5 (CE + Dice + Dice of T⁻¹(f_dis)) + λ (0.5 Σ m |p - p'|² / (C Σ m) + mean (p -
    T⁻¹(f_dis))²), with f_dis = tanh(f_seg).

    The losses of the published code for BraTS, to be compared with `ugmcl`. Both outputs come
    from one logit tensor of C channels, so the last term, which runs over the background channel
    too, contradicts itself there: inside, T⁻¹ of the background is 1 where its logit is negative,
    which is where p is 0. No level set is regressed, and the intra-task term is on the
    segmentation alone. All consistency is on all samples, the teacher in train mode.

    Of the published code this does not follow: the 3D U-Net with dropout 0.3 (here the V-Net),
    96³ patches, 30000 iterations and a constant learning rate (here the profile's), the ramp over
    them, the checkpoint chosen by validation (here the last), and 1e-6 inside the logarithms of
    the entropy.
    """

    name: ClassVar[str] = "ugmcl-official"
    paper: ClassVar[str] = "Zhang et al., the code published with UG-MCL"
    year: ClassVar[int] = 2022
    when: ClassVar[str] = "only to compare the published code with the published method"
    uses_teacher: ClassVar[bool] = True
    uses_unlabeled: ClassVar[bool] = True

    weight: Weight = option(0.1, "λ at the end of its ramp")
    passes: Count = option(8, "T, Monte Carlo passes of the teacher")
    sharpness: Weight = option(1500.0, "k of T⁻¹")

    def losses(
        self, student: DualTaskVNet, teacher: DualTaskVNet | None, batch: Batch, step: Step
    ) -> dict[str, Tensor]:
        out, known = student(batch.image), batch.labeled
        from_distance = to_mask(out.logits.float().tanh(), self.sharpness)
        drawn = from_distance[known, 1:]
        terms = {
            **segmentation_terms(out[known], batch),
            "distance_dice": 0.5 * foreground_dice_loss(drawn, batch.labels[:, 1:], batch.valid),
        }
        if step.supervised_only:
            return terms
        targets = mc_dropout_targets(teacher, batch.weak, self.passes)
        ramp = gaussian_ramp(step.progress)
        maximum = maximal_entropy(out.logits.shape[1])
        mask = certain(targets.entropy, uncertainty_threshold(ramp, maximum))
        intra = 0.5 * mean_squared_error(out.probabilities, targets.probabilities, mask)
        cross = mean_squared_error(out.probabilities, from_distance)
        return {**terms, "intra": self.weight * ramp * intra, "cross": self.weight * ramp * cross}
