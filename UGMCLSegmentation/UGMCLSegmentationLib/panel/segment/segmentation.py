"""Segmentation of one volume or of many: volumes as files, results as nodes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.panel.models import models
from UGMCLSegmentationLib.scene import channels, resultNodes, results, volumes
from UGMCLSegmentationLib.scene.volumes import Box
from UGMCLSegmentationLib.worker.run import (
    CANCELED,
    DONE,
    Task,
    TaskListener,
    TaskResult,
    WorkerTask,
)
from UGMCLSegmentationLib.worker.worker import Event, Worker


@dataclass(frozen=True)
class Settings:
    """What the worker needs besides the image."""

    model: str
    device: str = "auto"
    passes: int = 8
    uncertainty: str = "dropout"
    allComponents: bool = False

    @property
    def channels(self) -> tuple[str, ...]:
        """The images of a case that the model takes."""
        return models.channelsOf(self.model)


def settingsOf(parameters) -> Settings:
    """The settings in the panel's parameters. Raises PanelError without a model."""
    if not parameters.model:
        raise PanelError(_("Select a model first."))
    return Settings(
        model=parameters.model,
        device=parameters.device,
        passes=parameters.passes,
        uncertainty=parameters.uncertainty,
        allComponents=parameters.allComponents,
    )


class SegmentTask(Task):
    """Segments `part` of the volume, with the other volumes of its case if the model takes
    several. Updates its newest result if `resultNodes.build` may."""

    def __init__(self, volumeNode, part: Box, settings: Settings, former=None) -> None:
        """Raises PanelError for channels that are missing or do not fit."""
        self._volumeNode = volumeNode
        self._images = [volumeNode]
        if len(settings.channels) > 1:
            self._images = channels.check(volumeNode, settings.channels)
        self._part = part
        self._settings = settings
        isOwn = results.sourceOf(former) is volumeNode
        self._former = former if isOwn else results.latestOf(volumeNode)

    def occupation(self) -> str:
        return _("A segmentation is running.")

    def write(self, folder: Path) -> Iterator[None]:
        for node, path in zip(self._images, self._paths(folder), strict=True):
            yield from volumes.write(node, self._part, Path(path))

    def request(self, folder: Path) -> dict[str, Any]:
        paths = self._paths(folder)
        return {
            "command": "segment",
            "image": list(paths) if len(paths) > 1 else paths[0],
            "output": str(folder),
            "model": self._settings.model,
            "device": self._settings.device,
            "passes": self._settings.passes,
            "uncertainty": self._settings.uncertainty,
            "roi": None,  # only the region is in the file
            "all_components": self._settings.allComponents,
            "stem": "image",
        }

    def names(self, folder: Path) -> dict[str, str]:
        pairs = zip(self._paths(folder), self._images, strict=True)
        return {path: node.GetName() for path, node in pairs}

    def _paths(self, folder: Path) -> tuple[str, ...]:
        return channels.paths(folder / "image.nrrd", len(self._images))

    def read(self, event: Event, folder: Path) -> Generator[None, None, Any]:
        return (yield from resultNodes.build(event, self._volumeNode, self._part, self._former))


class SegmentQueue:
    """Segments volumes one after the other, as one task for its listener.

    A volume that fails does not stop the others. The `value` of the result is the list of the
    segmentations, also of a canceled queue; its message includes what failed.
    """

    def __init__(
        self, worker: Worker, volumeNodes: Sequence, settings: Settings, listener: TaskListener
    ) -> None:
        if not volumeNodes:
            raise PanelError(
                _("There is no volume to segment: load some, or set their roles in Improve to "
                  "another than Ignore.")
            )  # fmt: skip
        self.occupation = _("A batch is running.")
        self._worker = worker
        self._waiting = channels.leads(volumeNodes, settings.channels)
        self._count = len(self._waiting)
        self._settings = settings
        self._listener = listener
        self._made: list = []
        self._failures: list[str] = []
        self._run: WorkerTask | None = None
        self._name = ""
        self.running = True
        self._next()

    def cancel(self) -> None:
        if self.running:
            self._waiting.clear()
            self._run.cancel()

    def abandon(self) -> None:
        self.running = False
        if self._run is not None:
            self._run.abandon()

    # TaskListener of the volume under way

    def onProgress(self, fraction: float, text: str, remaining: float | None) -> None:
        done = self._count - len(self._waiting) - 1
        words = _("{name} ({n} of {count}): {text}").format(
            name=self._name, n=done + 1, count=self._count, text=text
        )
        whole = (done + max(0.0, fraction)) / self._count
        self._listener.onProgress(whole if fraction >= 0 else fraction, words, None)

    def onLog(self, level: str, text: str) -> None:
        self._listener.onLog(level, f"{self._name}: {text}")

    def onEnd(self, result: TaskResult) -> None:
        if result.kind == CANCELED:
            self._end(CANCELED, _("Canceled."))
            return
        if result.kind == DONE:
            self._made.append(result.value)
        else:
            self._failures.append(f"{self._name}: {result.message}")
        self._next()

    def _next(self) -> None:
        while self._waiting:
            node = self._waiting.pop(0)
            if not resultNodes.isInScene(node):
                continue
            self._name = node.GetName()
            try:
                volumes.check(node)
                task = SegmentTask(node, volumes.box(node, None), self._settings)
                self._run = WorkerTask(self._worker, task, self)
                return
            except PanelError as error:
                self._failures.append(str(error))
        self._end(DONE, "")

    def _end(self, kind: str, message: str) -> None:
        made = _("{n} of {count} volumes were segmented.").format(
            n=len(self._made), count=self._count
        )
        text = "\n".join([f"{message} {made}".strip(), *self._failures])
        self.running = False
        self._listener.onEnd(TaskResult(kind, text, self._made))
