"""Which unlabeled case is worth correcting: the model looks at all of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from UGMCLSegmentationLib import geometry, inputs
from UGMCLSegmentationLib.cases import Case, Rank
from UGMCLSegmentationLib.process import Event
from UGMCLSegmentationLib.segmentWork import Settings


class RankWork:
    """`onRank` is called for each case as soon as it is known."""

    def __init__(
        self, cases: Sequence[Case], settings: Settings, onRank: Callable[[Case, Rank], None]
    ) -> None:
        self._cases = list(cases)
        self._settings = settings
        self._onRank = onRank
        self._byImage: dict[str, Case] = {}

    def write(self, folder: Path) -> Iterator[None]:
        for number, case in enumerate(self._cases):
            path = case.image
            if case.volumeNode is not None:
                path = str(folder / f"{number:03d}.nrrd")
                box = geometry.fullBox(case.volumeNode)
                yield from inputs.write(case.volumeNode, box, Path(path))
            self._byImage[path] = case

    def request(self, folder: Path) -> dict[str, Any]:
        return {
            "command": "rank",
            "images": list(self._byImage),
            "model": self._settings.model,
            "device": self._settings.device,
            "passes": self._settings.passes,
        }

    def names(self, folder: Path) -> dict[str, str]:
        return {path: case.name for path, case in self._byImage.items() if case.volumeNode}

    def hear(self, event: Event) -> None:
        if event["event"] == "ranked":
            self._tell(event)

    def read(self, event: Event, folder: Path) -> Generator[None, None, list[str]]:
        """The names of the cases, the most uncertain first."""
        for row in event["cases"]:
            self._tell(row)
            yield
        return [self._byImage[row["image"]].name for row in event["cases"]]

    def _tell(self, row: dict[str, Any]) -> None:
        unsure, dice = row["uncertainty"], row.get("predicted_dice")
        rank = Rank(
            1.0 if unsure is None else float(unsure),  # without a surface: the first to look at
            None if dice is None else float(dice),
            self._settings.model,
        )
        self._onRank(self._byImage[row["image"]], rank)
