"""A fine-tuning: cases -> files -> estimate -> training -> a new model, or a resumable run."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from slicer.i18n import tr as _

from ugmcl_core.training.settings import FinetuneSettings, KeepLearningSettings
from UGMCLSegmentationLib.errors import explaining
from UGMCLSegmentationLib.panel.improve.cases import caseChecks
from UGMCLSegmentationLib.panel.improve.cases.cases import Case
from UGMCLSegmentationLib.panel.improve.finetuning import caseListExport
from UGMCLSegmentationLib.panel.improve.finetuning.caseListExport import CaseListExport
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.scene import corrections
from UGMCLSegmentationLib.storage import computers, runFolder
from UGMCLSegmentationLib.worker.run import MORE, Task
from UGMCLSegmentationLib.worker.worker import Event

SettingsType = TypeVar("SettingsType", FinetuneSettings, KeepLearningSettings)


class FinetuneListener(Protocol):
    """Receives what only a fine-tuning reports."""

    def onEstimate(self, event: Event) -> None: ...

    def onMetrics(self, event: Event) -> None: ...

    def onPaused(self, isPaused: bool) -> None: ...


def newSettings(kind: type[SettingsType], name: str, **choices: Any) -> SettingsType:
    """The settings of a new run, with a free name and its own folder. Raises PanelError."""
    with explaining():
        settings = kind(case_list="", output="", name=models.nameFor(name), **choices)
    folder = runFolder.create(settings.name)
    return replace(settings, case_list=str(folder / runFolder.CASE_LIST), output=str(folder))


def newRun(
    settings: FinetuneSettings | KeepLearningSettings, cases: CaseListExport
) -> runFolder.ResumableRun:
    """The request of a training on these cases, and the facts for its report."""
    about = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "base": settings.base,
        "cases": caseChecks.summary(cases.cases),
        "corrections": [row for case in cases.cases for row in correctionOf(case)],
    }
    return runFolder.ResumableRun(Path(settings.output), settings.request(), about)


def correctionOf(case: Case) -> list[list[Any]]:
    """How a labeled case was corrected, for the report: its name, the voxels changed, those of the
    structures, and the minutes. Empty where that is unknown. A result that was edited and not
    accepted is measured now."""
    node = case.segmentationNode if case.needsLabel else None
    found = None if node is None else corrections.of(node) or corrections.finish(node)
    return [] if found is None else [[case.name, found.edited, found.whole, found.minutes]]


class FinetuneTask(Task):
    """Writes `cases` first; without them, it resumes the run. Its files are in the run's own
    folder. It needs the scene only while it writes the cases."""

    span = (0.0, 1.0)

    def __init__(
        self,
        run: runFolder.ResumableRun,
        listener: FinetuneListener,
        cases: CaseListExport | None = None,
        needsEstimate: bool = False,
        onlyEstimate: bool = False,
    ) -> None:
        """Raises PanelError if another Slicer works on the run that is resumed."""
        if cases is None:
            runFolder.claim(run.folder)
        self._run = run
        self._listener = listener
        self._cases = cases
        self._needsEstimate = needsEstimate or onlyEstimate
        self._onlyEstimate = onlyEstimate
        self._isSaved = cases is None
        self.isTraining = False  # and can be paused

    @property
    def folder(self) -> Path:
        return self._run.folder

    @property
    def resumable(self) -> str:
        return _("The run can be resumed.") if self._isSaved else ""

    def preparing(self) -> str:
        return _("Preparing the cases")

    def starting(self) -> str:
        place = computers.split(self._run.request["device"])[1] or _("this computer")
        measuring = _("Measuring {name}").format(name=place)
        return measuring if self._needsEstimate else _("Starting")

    def write(self, folder: Path) -> Iterator[None]:
        if self._cases is not None:
            yield from caseListExport.write(self._cases, self.folder)
            self._cases = None
            if not self._onlyEstimate:  # which leaves nothing to resume
                runFolder.save(self._run)
                self._isSaved = True

    def request(self, folder: Path) -> dict[str, Any]:
        command = "estimate" if self._needsEstimate else "finetune"
        return {**self._run.request, "command": command}

    def onEvent(self, event: Event) -> None:
        name = event["event"]
        if name == "metrics":
            self.isTraining = True
            if not event.get("part"):  # of the model itself, not of what it is compared with
                runFolder.addMetrics(self.folder, event)
                self._listener.onMetrics(event)
        elif name in ("paused", "continued"):
            self._listener.onPaused(name == "paused")

    def read(self, event: Event, folder: Path) -> Generator[None, None, Any]:
        """Returns the content of the run's result.json, None for an estimate alone."""
        if self._needsEstimate:
            self._needsEstimate = False
            self._listener.onEstimate(event)
            return None if self._onlyEstimate else MORE
        yield
        result = {key: value for key, value in event.items() if key not in ("event", "id")}
        model = models.adopt(Path(event["model"]), self._run.request["name"])
        request = {**self._run.request, "name": model.name}
        result = {**result, "model": str(model), "about": self._run.about, "request": request}
        runFolder.complete(self.folder, result)
        return result

    def close(self) -> None:
        if not self._isSaved:
            runFolder.discard(self.folder)
        elif self.folder.exists():
            runFolder.release(self.folder)
