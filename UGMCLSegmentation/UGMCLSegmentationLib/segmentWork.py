"""One click on Segment: the volume as a file, and the results as nodes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from UGMCLSegmentationLib import inputs, outputs, results
from UGMCLSegmentationLib.errors import PanelError
from UGMCLSegmentationLib.geometry import Box
from UGMCLSegmentationLib.process import Event

UNCERTAINTIES = ("dropout", "flips", "both")  # where the uncertainty comes from


@dataclass(frozen=True)
class Settings:
    """What the worker is told besides the image."""

    model: str
    device: str = "auto"
    passes: int = 8
    uncertainty: str = "dropout"
    allComponents: bool = False


def settingsOf(parameters) -> Settings:
    """As the panel's parameters say. Raises PanelError without a model."""
    if not parameters.model:
        raise PanelError(_("Select a model first."))
    return Settings(
        model=parameters.model,
        device=parameters.device,
        passes=parameters.passes,
        uncertainty=parameters.uncertainty,
        allComponents=parameters.allComponents,
    )


class SegmentWork:
    """`part` of the volume is segmented; its newest result is updated, if `outputs.build` may."""

    def __init__(self, volumeNode, part: Box, settings: Settings, former=None) -> None:
        self._volumeNode = volumeNode
        self._part = part
        self._settings = settings
        isOwn = results.sourceOf(former) is volumeNode
        self._former = former if isOwn else results.latestOf(volumeNode)

    def write(self, folder: Path) -> Iterator[None]:
        yield from inputs.write(self._volumeNode, self._part, folder / "image.nrrd")

    def request(self, folder: Path) -> dict[str, Any]:
        return {
            "command": "segment",
            "image": str(folder / "image.nrrd"),
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
        return {str(folder / "image.nrrd"): self._volumeNode.GetName()}

    def hear(self, event: Event) -> None:
        """Nothing is told but progress."""

    def read(self, event: Event, folder: Path) -> Generator[None, None, Any]:
        return (yield from outputs.build(event, self._volumeNode, self._part, self._former))
