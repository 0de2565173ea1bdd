"""How long to train: the choices of the panel, and what they will take on this computer."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

CUSTOM = "custom"
ITERATIONS = {"quick": 200, "standard": 1000, "thorough": 4000}
DEFAULT = "standard"


@dataclass(frozen=True)
class Estimate:
    """What the worker measured on this computer: `seconds` for a run of so many `steps` in all its
    trainings, the preparations and looks at the hold-out cases included; seconds of one step."""

    seconds: float
    secondsPerStep: float
    memoryBytes: float
    steps: int

    def text(self, steps: int) -> str:
        """For a run of so many `steps`, otherwise like the one that was measured."""
        seconds = self.seconds + self.secondsPerStep * (steps - self.steps)
        return _("Takes about {time} and {memory} of memory on this computer.").format(
            time=duration(max(0.0, seconds)),
            memory=_("{n:.1f} GB").format(n=max(0.1, self.memoryBytes / 1e9)),
        )


def texts() -> list[tuple[str, str]]:
    """What the panel lists, and the name of each."""
    return [
        (_("Quick ({n} steps)").format(n=ITERATIONS["quick"]), "quick"),
        (_("Standard ({n} steps)").format(n=ITERATIONS["standard"]), "standard"),
        (_("Thorough ({n} steps)").format(n=ITERATIONS["thorough"]), "thorough"),
        (_("Custom (see Advanced)"), CUSTOM),
    ]


def of(iterations: int) -> str:
    """The preset of that many steps."""
    return next((name for name, n in ITERATIONS.items() if n == iterations), CUSTOM)


def duration(seconds: float) -> str:
    if seconds < 90:
        return _("{n} s").format(n=max(1, round(seconds)))
    if seconds < 5400:
        return _("{n} min").format(n=round(seconds / 60))
    return _("{n:.1f} h").format(n=seconds / 3600)
