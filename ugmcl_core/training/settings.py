"""The settings and the verdicts of a fine-tuning, shared by all parts of the program.

Imports no torch: Slicer reads it in its own process.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from reprlib import repr as short
from typing import Any

from ..errors import InputError
from ..models.model import open_model

DEFAULT_METHOD = "ugmcl-volumes"
"""The default method: in results, which are made from several views, it is level with training on
the labels alone, and ahead of it in a single view (docs/results/few-labels)."""
_LARGEST = 2**31 - 1  # iterations and seed
BETTER, NOT_BETTER, UNKNOWN = "better", "not better", "not enough evidence"
"""What a fine-tuning's hold-out cases show."""
FEWEST = 3  # cases that show whether a model is better; with fewer nothing is concluded
REPORT = "report.json"


@dataclass(frozen=True)
class FinetuneSettings:
    """Train ``base`` further, or a new model if that is empty, on the volumes of a case list.
    Paths and the model ``name`` are strings; ``output`` is the folder of the run, ``resume``
    continues the one in it. ``minutes`` above 0 set the iterations instead, from a measured step,
    as the computer allows it.
    A new model is trained by a plan, whose ``overrides`` are NAME=VALUE; with ``replan`` one from
    a base is, too, and keeps the weights that fit. Without, ``unlabeled=all`` alone can be given:
    to use also those volumes that are unlike the labeled ones. ``compare`` trains a supervised
    model too, ``leave_one_out`` judges without hold-out cases, ``keep_names`` writes the cases'
    names into the model's card. InputError for invalid values.
    """

    case_list: str
    output: str
    base: str = ""
    method: str = DEFAULT_METHOD
    iterations: int = 1000
    minutes: float = 0.0
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    name: str = ""
    compare: bool = False
    leave_one_out: bool = False
    keep_names: bool = False
    overrides: tuple[str, ...] = ()
    replan: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= _LARGEST:
            raise InputError(f"{short(self.iterations)} iterations: choose 1 to {_LARGEST}")
        if not 0 <= self.seed <= _LARGEST:
            raise InputError(f"seed {self.seed}: choose a whole number from 0 to {_LARGEST}")
        if not 0 <= self.minutes <= _LARGEST:
            raise InputError(f"{self.minutes:g} minutes: choose 0 or more")
        if self.replan and not self.base:
            raise InputError(
                "a training from scratch is always planned: give replan only with a base"
            )
        names = {text.partition("=")[0].strip() for text in self.overrides}
        if names - {"unlabeled"} and self.base and not self.replan:
            raise InputError(
                "a training from a base stays on its grid: give overrides other than unlabeled "
                "only with replan, or from scratch"
            )

    def request(self, command: str = "finetune") -> dict[str, Any]:
        """The worker's request to ``finetune`` or to ``estimate`` by these settings."""
        return {"command": command, **asdict(self), "overrides": list(self.overrides)}


@dataclass(frozen=True)
class KeepLearningSettings:
    """Train ``base`` further for as long as cases are being corrected (`keep_learning.learning`).

    The first fields are those of `FinetuneSettings`; the default ``method`` is different, since it
    cannot be one that labels volumes at fixed steps. Every ``check_minutes`` of training the
    averaged model is compared with the one in use. ``cores`` is the share of the computer's cores
    that the training takes; it waits while the computer runs on battery, unless ``on_battery`` is
    set. After ``patience`` checks without progress it waits for a new case, and ends after
    ``wait_minutes`` without one. InputError for invalid values.
    """

    case_list: str
    output: str
    base: str
    method: str = "ugmcl"
    seed: int = 0
    device: str = "auto"
    resume: bool = False
    name: str = ""
    keep_names: bool = False
    check_minutes: float = 3.0
    cores: float = 0.5
    on_battery: bool = False
    patience: int = 6
    wait_minutes: float = 30.0

    def __post_init__(self) -> None:
        if not self.base:
            raise InputError("keep learning needs a model to start from: give a base")
        if not 0 <= self.seed <= _LARGEST:
            raise InputError(f"seed {self.seed}: choose a whole number from 0 to {_LARGEST}")
        if not 0 < self.check_minutes <= _LARGEST:
            raise InputError(f"{self.check_minutes:g} minutes between checks: choose more than 0")
        if not 0 < self.cores <= 1:
            raise InputError(f"cores {self.cores:g}: choose a share above 0, up to 1")
        if not 1 <= self.patience <= _LARGEST:
            raise InputError(f"patience {self.patience}: choose 1 check or more")
        if not 0 <= self.wait_minutes <= _LARGEST:
            raise InputError(f"{self.wait_minutes:g} minutes to wait: choose 0 or more")

    def request(self) -> dict[str, Any]:
        """The worker's request by these settings."""
        return {"command": "keep_learning", **asdict(self)}


def finished(output: Path, request: FinetuneSettings) -> dict[str, Any]:
    """The result of a finished run; InputError if ``request`` describes a different one."""
    try:
        result = json.loads((output / REPORT).read_text(encoding="utf-8"))
        done = open_model(result["model"]).card.training
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{output / REPORT}: cannot be read ({error}); delete it") from None
    names = ("method", "seed") if request.minutes else ("method", "iterations", "seed")
    for name in names:
        if done.get(name) != getattr(request, name):
            raise InputError(
                f"{output}: holds a finished fine-tuning with different settings ({name} "
                f"{done.get(name)}); choose another folder or the same settings"
            )
    return result
