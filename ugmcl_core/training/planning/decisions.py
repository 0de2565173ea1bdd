"""What a training decides for itself, each decision with its reason, and its overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from ...data.cases import Cohort
from ...errors import InputError
from ...models.card import ClassInfo
from ..profiles import Profile
from .fingerprint import Fingerprint

DECISIONS = (
    "unlabeled", "grid", "patch", "strides", "kernels", "filters", "dropout", "batch",
    "normalization", "scale", "foreground", "mirror", "rotation", "intensity", "rate",
    "coarse", "iterations",
)  # fmt: skip
"""What can be overridden, in the order in which it is decided."""

MEANINGS = {
    "unlabeled": "which volumes without labels are used",
    "grid": "voxel size in mm",
    "patch": "voxels seen at once",
    "strides": "how the network coarsens by level",
    "kernels": "voxels that a filter of each level spans",
    "filters": "width of the network",
    "dropout": "share switched off at random",
    "batch": "labeled + unlabeled patches a step",
    "normalization": "how gray values are scaled",
    "scale": "mm around the surface where distances are learned",
    "foreground": "share of labeled patches on a structure",
    "mirror": "directions of mirrored copies",
    "rotation": "degrees of random turns",
    "intensity": "strength of random changes of gray values",
    "rate": "learning rate",
    "coarse": "share of steps first on larger voxels",
    "iterations": "steps of training",
}
"""What each of them is, for people."""


@dataclass(frozen=True)
class Decision:
    """One property of a training: its value, in the form that overrides take, and the reason for
    it."""

    what: str
    value: str
    why: str

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.what} {self.value} ({MEANINGS[self.what]}): {self.why}"


@dataclass(frozen=True)
class Plan:
    """A training's profile and the decisions behind it; ``classes`` are those of the model, and
    ``modality`` is the kind of its images, empty if unknown; ``left_out`` are unlabeled cases that
    are not like the labeled ones, and why; ``found`` is what it was made from."""

    profile: Profile
    decisions: tuple[Decision, ...]
    classes: tuple[ClassInfo, ...]
    modality: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    found: Fingerprint | None = field(default=None, compare=False, repr=False)

    @property
    def lines(self) -> list[str]:
        """One for each decision, and one for each case that is left out."""
        return [d.line for d in self.decisions] + left_out_lines(self.left_out)

    def used(self, cohort: Cohort) -> Cohort:
        """``cohort`` without the cases that are left out."""
        return cohort.without(dict(self.left_out))

    def lasting(self, profile: Profile, why: str) -> Plan:
        """The plan with this profile, which differs in its iterations because of ``why``."""
        last = Decision("iterations", str(profile.iterations), why)
        others = tuple(d for d in self.decisions if d.what != last.what)
        return replace(self, profile=profile, decisions=(*others, last))

    def record(self) -> list[dict[str, str]]:
        """As a model's card and the worker's events have it."""
        return [{**asdict(d), "means": MEANINGS[d.what]} for d in self.decisions]


def left_out_lines(left_out: Sequence[tuple[str, str]]) -> list[str]:
    """One for each unlabeled case that is left out, and why."""
    return [f"{name} is left out: {why}" for name, why in left_out]


def overrides_of(texts: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a dictionary; InputError for others than `DECISIONS`."""
    given = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name.strip() not in DECISIONS:
            raise InputError(
                f"{text!r} is not NAME=VALUE for a line of the plan; the names are "
                f"{', '.join(DECISIONS)}"
            )
        given[name.strip()] = value.strip()
    return given
