"""What the tests of the module share: the loaded panel, volumes, and clicks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np

HERE = Path(__file__).resolve().parent
_SOURCE = HERE.parents[1] / "UGMCLSegmentation"
ENTRY = Path(os.environ.get("UGMCL_INSTALLED", _SOURCE)) / "UGMCLSegmentation.py"
FAKE = [sys.executable, str(HERE / "fake_worker.py")]

OBLIQUE = ((0.94, -0.3, 0.16), (0.34, 0.84, -0.42), (-0.01, 0.45, 0.89))


class Panel:
    """The module as its user sees it, with the fake worker unless told otherwise.

    ``shown`` overlays alone are ticked; None leaves those that a new user sees.
    """

    def __init__(
        self,
        command: Sequence[str] | None = FAKE,
        shown: Sequence[str] | None = ("distance", "uncertainty"),
    ) -> None:
        harness.start()
        for name in ("Red", "Green", "Yellow"):
            harness.slice_view(name).render()  # views are there before modules, as in Slicer
        harness.three_d_view(0).render()
        self.loaded = harness.load_module(ENTRY)
        for worker in (self.widget.logic.worker, self.widget.logic.trainer):
            worker.command = list(command) if command else None
        if command:
            self.widget.parameters.model = "fake"
        for role in ("distance", "uncertainty", "surfaceError") if shown is not None else ():
            name = f"show{role[0].upper()}{role[1:]}"
            setattr(self.widget.parameters, name, role in shown)

    @property
    def widget(self) -> Any:
        return self.loaded.widget

    @property
    def ui(self) -> Any:
        return self.loaded.ui

    @property
    def parameters(self) -> Any:
        return self.widget.parameters

    @property
    def message(self) -> str:
        return self.ui.messageLabel.text

    def select(self, volume: Any) -> None:
        self.ui.inputVolumeSelector.setCurrentNode(volume)

    def click(self, name: str) -> None:
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} cannot be clicked: {button.toolTip}"
        button.click()

    def finish(self, seconds: float = 60.0) -> None:
        harness.wait_until(lambda: not self.widget.logic.running, seconds)

    def segment(self, volume: Any = None, seconds: float = 60.0) -> Any:
        """Select, click Segment, wait; returns the segmentation node."""
        if volume is not None:
            self.select(volume)
        self.click("segmentButton")
        self.finish(seconds)
        assert not self.message, self.message
        return self.parameters.segmentation

    def close(self) -> None:
        self.loaded.unload()


def blob(size: Sequence[int] = (40, 36, 30), seed: int = 0) -> np.ndarray:
    """A k, j, i image with a bright body, of values about 0 to 200."""
    i, j, k = size
    kk, jj, ii = np.meshgrid(
        np.linspace(-1, 1, k), np.linspace(-1, 1, j), np.linspace(-1, 1, i), indexing="ij"
    )
    body = 200 * np.exp(-3 * ((kk - 0.1) ** 2 + 1.4 * (jj + 0.1) ** 2 + (ii - 0.15) ** 2))
    noise = np.random.default_rng(seed).normal(0, 4, body.shape)
    return (body + noise).astype(np.float32)


def matrix(
    axes: Sequence[Sequence[float]] = OBLIQUE,
    spacing: Sequence[float] = (1.25, 1.25, 2.0),
    origin: Sequence[float] = (-20.0, 35.0, 12.0),
) -> np.ndarray:
    """IJK to RAS; the axes are made orthogonal and keep their handedness."""
    q, r = np.linalg.qr(np.array(axes, float))
    result = np.eye(4)
    result[:3, :3] = q * np.sign(np.diag(r)) * np.array(spacing)
    result[:3, 3] = origin
    return result


def add_volume(array: np.ndarray | None = None, geometry: np.ndarray | None = None,
               name: str = "scan") -> Any:  # fmt: skip
    import slicer

    array = blob() if array is None else array
    node = slicer.util.addVolumeFromArray(array, matrix() if geometry is None else geometry, name)
    node.CreateDefaultDisplayNodes()
    return node


def add_segment(segmentation: Any, image: Any, label: int) -> None:
    """A segment of the voxels of one value in a labelmap, which others may share."""
    import slicer

    segment = slicer.vtkSegment()
    segment.AddRepresentation("Binary labelmap", image)
    segment.SetLabelValue(label)
    segmentation.GetSegmentation().AddSegment(segment, f"class_{label}")


def segment_array(segmentation: Any, volume: Any, label: int = 1) -> np.ndarray:
    import slicer

    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, f"class_{label}", volume)


def fill(segmentation: Any, volume: Any, slices: slice, value: int) -> np.ndarray:
    """What a user does in the Segment Editor: some slices of class 1 are filled or erased;
    returns its voxels then."""
    import slicer

    voxels = segment_array(segmentation, volume).astype(np.uint8)
    voxels[slices] = value
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, segmentation, "class_1", volume)
    return voxels


def node_counts() -> dict[str, int]:
    import slicer

    counts: dict[str, int] = {}
    for index in range(slicer.mrmlScene.GetNumberOfNodes()):
        name = slicer.mrmlScene.GetNthNode(index).GetClassName()
        counts[name] = counts.get(name, 0) + 1
    return counts


def result_nodes() -> list[str]:
    """The names of all that runs left in the scene."""
    import slicer
    from UGMCLSegmentationLib.scene import results

    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    nodes += [node for _overlay, node in results.overlayVolumes()]
    return [node.GetName() for node in nodes]


def private_folders() -> list[str]:
    import slicer

    return [n for n in os.listdir(slicer.app.temporaryPath) if n.startswith("ugmcl-")]
