"""The selectors of base, effort and method, which follow the parameter node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from ugmcl_core.training.settings import DEFAULT_METHOD
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.panel.qtHelpers import Connections, enable, fill, silent
from UGMCLSegmentationLib.parameters import SCRATCH, Parameters


def baseOf(parameters: Parameters) -> str:
    """The base for the worker; "" trains from scratch."""
    return "" if parameters.base == SCRATCH else parameters.base


class FinetuneChoices:
    def __init__(self, ui, connections: Connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        self._methods = [{"name": DEFAULT_METHOD, "text": _("The default.")}]
        fill(ui.presetSelector, presets(), DEFAULT)
        for widget, slot in (
            (ui.baseSelector, self._onBase),
            (ui.presetSelector, self._onPreset),
            (ui.methodSelector, self._onMethod),
        ):
            connections.connect(widget, "currentIndexChanged(int)", slot)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.refresh()

    def setMethods(self, methods: list[dict[str, str]]) -> None:
        """Offer the worker's methods."""
        self._methods = methods or self._methods
        self.refresh()

    def refresh(self) -> None:
        """Look for models again and fill the lists."""
        parameters = self._parameters
        if parameters is None:
            return
        found = models.installed()
        keys = [info.key for info in found]
        if not parameters.base:
            parameters.base = parameters.model or (keys[0] if keys else SCRATCH)
        entries = [(info.text, info.key, info.toolTip) for info in found]
        if parameters.base not in (*keys, SCRATCH):
            entries.append((Path(parameters.base).name, parameters.base, parameters.base))
        entries.append((_("From scratch"), SCRATCH, _("For structures that no model knows.")))
        fill(self._ui.baseSelector, entries, parameters.base)
        entries = [(_text(m["name"]), m["name"], m["text"]) for m in self._methods]
        if parameters.method not in [entry[1] for entry in entries]:
            entries.append((_text(parameters.method), parameters.method, ""))
        fill(self._ui.methodSelector, entries, parameters.method)
        self.update()

    def update(self) -> None:
        parameters = self._parameters
        if parameters is None:
            return
        text = _("Number of training steps. The effort sets it; you can enter any other number.")
        reason = _("Minutes set the length of the run. Set them to 0 to choose a number of steps.")
        enable(self._ui.iterationsSpinBox, text, unless=reason if parameters.minutes else "")
        isScratch = parameters.base == SCRATCH
        text = _(
            "Plan the training for these cases, as from scratch, instead of staying on the grid "
            "of the model to start from; its weights are kept where they fit. For cases unlike "
            "those of the model: another modality, thick slices, or structures thinner than three "
            "voxels of its grid."
        )
        reason = _("A training from scratch is planned for its cases anyway.")
        enable(self._ui.replanCheckBox, text, unless=reason if isScratch else "")
        for widget in (self._ui.channelsLabel, self._ui.channelsEdit):
            widget.setVisible(isScratch)
        for selector, value in (
            (self._ui.presetSelector, presetFor(parameters.iterations, parameters.minutes)),
            (self._ui.baseSelector, parameters.base),
            (self._ui.methodSelector, parameters.method),
        ):
            if selector.itemData(selector.currentIndex) != value:
                if selector.findData(value) < 0:
                    self.refresh()
                    return
                with silent(selector):
                    selector.currentIndex = selector.findData(value)

    def _onBase(self, index: int) -> None:
        if self._isChoice(index):
            self._parameters.base = self._ui.baseSelector.itemData(index)

    def _onMethod(self, index: int) -> None:
        if self._isChoice(index):
            self._parameters.method = self._ui.methodSelector.itemData(index)

    def _onPreset(self, index: int) -> None:
        if not self._isChoice(index):
            return
        name = self._ui.presetSelector.itemData(index)
        if name == CUSTOM:
            self._ui.finetuneAdvancedSection.collapsed = False
        else:
            self._parameters.iterations = ITERATIONS[name]
            self._parameters.minutes = 0
            self._parameters.compare = name == COMPARED

    def _isChoice(self, index: int) -> bool:
        return self._parameters is not None and index >= 0


def _text(name: str) -> str:
    return {
        "ugmcl": _("UG-MCL, as published"),
        "ugmcl-plus": _("UG-MCL, strong augmentation"),
        "ugmcl-volumes": _("UG-MCL by volumes (default)"),
        "supervised": _("Labeled cases only"),
    }.get(name, name)


CUSTOM = "custom"
ITERATIONS = {"quick": 200, "standard": 1000, "thorough": 4000}
DEFAULT = "standard"
COMPARED = "thorough"  # a user who has time for it also has time for a comparison


@dataclass(frozen=True)
class Estimate:
    """The worker's measurement: `seconds` for a run with `steps` steps in all its trainings,
    including preparation and validation. `plan` has a line for each decision of a training from
    scratch."""

    seconds: float
    secondsPerStep: float
    memoryBytes: float
    steps: int
    plan: tuple[str, ...] = ()

    def text(self, steps: int, place: str = "") -> str:
        """The estimate for a run that differs from the measured one in the number of `steps`, on
        the computer of that name or on this one."""
        seconds = self.seconds + self.secondsPerStep * (steps - self.steps)
        return _("Takes about {time} and {memory} of memory on {computer}.").format(
            computer=place or _("this computer"),
            time=messages.duration(max(0.0, seconds)),
            memory=_("{n:.1f} GB").format(n=max(0.1, self.memoryBytes / 1e9)),
        )


def presets() -> list[tuple[str, str, str]]:
    """The entries of the preset selector."""
    return [
        (_("Quick ({n} steps)").format(n=ITERATIONS["quick"]), "quick", ""),
        (_("Standard ({n} steps)").format(n=ITERATIONS["standard"]), "standard", ""),
        (_("Thorough ({n} steps)").format(n=ITERATIONS["thorough"]), "thorough", ""),
        (_("Custom (see Advanced)"), CUSTOM, ""),
    ]


def presetFor(iterations: int, minutes: int = 0) -> str:
    """The preset with this number of steps; a length in minutes is none."""
    if minutes:
        return CUSTOM
    return next((name for name, n in ITERATIONS.items() if n == iterations), CUSTOM)
