"""What is trained and how: the input of a training, and when it is the same as another one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..data.cases import Cohort
from ..data.preprocessing import stored_normalization
from ..methods.base import Method
from ..models.model import Model
from ..nn.network import NetworkSettings
from .profiles import Profile, check_channels


@dataclass(frozen=True)
class TrainingSettings:
    """How one training runs, apart from protocol and method.

    ``memory`` is the budget in bytes for prepared cases, of all processes on this machine; what
    exceeds it is mapped from disk. ``resident``: those that are trained on lie on the GPU, if
    there is one, while they fit (`devices.room_for_cases`).
    ``checkpoint_every`` and ``evaluate_every`` (hold-out Dice; 0: at the end only) count
    iterations.
    """

    seed: int = 2022
    device: str = "auto"
    checkpoint_every: int = 200
    evaluate_every: int = 0
    memory: int = 4 << 30
    resident: bool = True
    half_precision: bool = True


@dataclass(frozen=True)
class TrainingTask:
    """What is trained: ``method`` by ``profile`` on ``cohort``, from the weights of ``base`` if
    there is one, into the folder ``output``. The network has a distance head if the method needs
    one, and an input for each channel of the cases. With a profile whose grid or network differs
    from the base's, only those of its weights that fit are used. ``course`` is the profile whose
    stage this training is, if it has several (`profiles.stages`); ``base`` is then the model of
    the stage before."""

    cohort: Cohort
    method: Method
    profile: Profile
    output: Path
    settings: TrainingSettings = TrainingSettings()
    base: Model | None = None
    course: Profile | None = None

    def __post_init__(self) -> None:
        if self.base is not None:
            check_channels(self.base, self.channels)
        network = replace(
            self.profile.network,
            distance_head=self.method.uses_distance,
            channels=len(self.channels),
        )
        profile = replace(self.profile, network=network)
        if self.method.renewals:
            alone, own = self.alone, profile.iterations
            if self.goes_on and self.gives_unlabeled:
                # a network must get used to its new grid before it labels anything
                alone = max(alone - (self.course.iterations - own), own // 4)
            profile = replace(profile, warmup=min(alone, own))
        object.__setattr__(self, "profile", profile)

    @property
    def goes_on(self) -> bool:
        """Whether this is a further stage of a course."""
        return self.course is not None and self.base is not None

    @property
    def has_learned(self) -> bool:
        """Whether there is a base that knows all classes on this grid, and so can label volumes
        from the first iteration on."""
        if self.base is None or self.goes_on or self.replanned:
            return False
        return len(self.base.card.classes) + 1 == self.profile.network.classes

    @property
    def alone(self) -> int:
        """The iterations of the whole course that learn from the labels alone (`Method.alone`),
        perhaps more than it has; 0 without unlabeled patches, and where it `has_learned`."""
        if self.has_learned or not self.gives_unlabeled:
            return 0
        seen = self.profile.batch.size / len(self.cohort.labeled)
        return self.method.alone((self.course or self.profile).iterations, seen)

    @property
    def gives_unlabeled(self) -> bool:
        """Whether there are unlabeled cases, and a batch has patches of them."""
        return bool(self.cohort.unlabeled) and self.profile.batch.unlabeled > 0

    @property
    def uses_unlabeled(self) -> bool:
        """Whether unlabeled cases take part, for which a training may be too short."""
        is_short = self.method.renewals and self.profile.warmup == self.profile.iterations
        return self.method.uses_unlabeled and self.gives_unlabeled and not is_short

    @property
    def replanned(self) -> bool:
        """Whether there is a base on another grid or with another network, classes aside."""
        if self.base is None:
            return False
        card, profile = self.base.card, self.profile
        own, network = NetworkSettings(**card.network), profile.network
        same = (own.filters, own.strides, own.kernels)
        same = same == (network.filters, network.strides, network.kernels)
        return not same or tuple(card.spacing) != tuple(profile.representation.spacing)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the images of a case; for a single image the base's name, if there is a
        base."""
        own = self.cohort.channels
        known = own if self.base is None else self.base.card.channels
        return known if len(own) == len(known) == 1 else own

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued, as it comes back from JSON. The
        batch size may differ: a training that ran out of memory continues with a smaller one.
        """
        profile = asdict(self.profile)
        # in the form of cards, so that a new, unused setting changes nothing
        profile["network"] = self.profile.network.to_dict()
        normalization = self.profile.representation.normalization
        profile["representation"]["normalization"] = stored_normalization(normalization)
        for key in ("patch", "labeled", "unlabeled"):
            del profile["batch"][key]
        if self.method.renewals:  # it depends on the batch
            del profile["warmup"]
        if self.profile.batch.augmentation.reflected:
            del profile["batch"]["augmentation"]["reflected"]
        if not self.profile.prior:
            del profile["prior"]
        if not self.profile.batch.balanced:
            del profile["batch"]["balanced"]
        if not self.profile.optimization.rate.length:
            del profile["optimization"]["rate"]["length"]
        del profile["coarse"]
        content = {
            "method": {"name": self.method.name, **asdict(self.method)},
            "profile": profile,
            "seed": self.settings.seed,
            "base": self.base.card.sha256 if self.base is not None else None,
            "labeled": [c.name for c in self.cohort.labeled],
            "unlabeled": [c.name for c in self.cohort.unlabeled],
        }
        if self.base is None and self.channels != Cohort.channels:
            content["channels"] = self.channels
        if self.course is not None:
            content["course"] = {"iterations": self.course.iterations,
                                 "spacing": self.course.coarse.spacing}  # fmt: skip
        return json.loads(json.dumps(content))
