"""The regions where the model is uncertain: finding them, and walking from one to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.qtHelpers import Connections, enable, setUpTable, silent
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import arrays, resultNodes, results, volumes


class ReviewSection:
    def __init__(self, ui, connections: Connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        self._regions: list[Region] | None = None
        table = ui.regionsTable
        setUpTable(table, rowHeight=22)
        for widget, signal, slot in (
            (ui.nextRegionButton, "clicked(bool)", lambda _checked: self._walk(1)),
            (ui.previousRegionButton, "clicked(bool)", lambda _checked: self._walk(-1)),
            (ui.regionsSection, "toggled(bool)", self._onToggled),
            (table, "itemSelectionChanged()", self._onSelected),
        ):
            connections.connect(widget, signal, slot)
        messages.show(self._ui.regionLabel, "")

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self.refresh()

    def refresh(self) -> None:
        """The result changed: find its regions again when they are needed."""
        self._regions = None
        with silent(self._ui.regionsTable):
            self._ui.regionsTable.setRowCount(0)
        messages.show(self._ui.regionLabel, "")
        self.update()
        if not self._ui.regionsSection.collapsed:
            self._find()

    def update(self) -> None:
        reason = ""
        if self._uncertainty() is None:
            reason = _("Segment with at least one uncertainty pass first.")
        text = _("Go to the next uncertain region, in the order of the list.")
        enable(self._ui.nextRegionButton, text, unless=reason)
        text = _("Go to the previous uncertain region.")
        enable(self._ui.previousRegionButton, text, unless=reason)

    def _onToggled(self, isOpen: bool) -> None:
        if isOpen:
            self._find()

    def _walk(self, step: int) -> None:
        """Go to the next or previous region, and around at the ends of the list."""
        self._find()
        if not self._regions:
            if self._regions is not None:
                messages.show(self._ui.regionLabel, _("There is no uncertain region."))
            return
        current, count = self._row(), len(self._regions)
        if current < 0:
            current = -1 if step > 0 else 0
        row = (current + step) % count
        if row == current:
            self._onSelected()  # the only region: go there again
        self._ui.regionsTable.selectRow(row)

    def _onSelected(self) -> None:
        row = self._row()
        if row < 0 or not self._regions:
            return
        item = self._ui.regionsTable.item(row, 0)
        region = self._regions[int(item.text()) - 1]
        jump(self._uncertainty(), region)
        text = _("Region {number} of {count}: {volume:.2f} mL, uncertainty {mean:.2f}")
        text = text.format(
            number=item.text(), count=len(self._regions), volume=region.milliliters,
            mean=region.mean,
        )  # fmt: skip
        messages.show(self._ui.regionLabel, text)

    def _row(self) -> int:
        rows = self._ui.regionsTable.selectionModel().selectedRows()
        return rows[0].row() if rows else -1

    def _find(self) -> None:
        """List the regions, unless they are listed already."""
        node = self._uncertainty()
        if node is None or self._regions is not None:
            return
        self._regions = find(node)
        table = self._ui.regionsTable
        with silent(table):
            table.setSortingEnabled(False)  # else rows move while they are being filled
            table.setRowCount(len(self._regions))
            for row, region in enumerate(self._regions):
                values = (row + 1, round(region.milliliters, 2), round(region.mean, 2))
                for column, value in enumerate(values):
                    item = qt.QTableWidgetItem()
                    item.setData(qt.Qt.DisplayRole, value)  # numbers sort by value
                    table.setItem(row, column, item)
            table.setSortingEnabled(True)
            table.sortByColumn(0, qt.Qt.AscendingOrder)

    def _uncertainty(self):
        node = self._parameters.segmentation if self._parameters else None
        source = results.sourceOf(node) if resultNodes.isInScene(node) else None
        return results.uncertaintyOf(source, node) if source is not None else None


_LEVEL = 0.5  # of the normalized entropy; half of the largest value if that is lower
_LEAST = 0.05  # a volume whose values are all lower has no uncertain region
_SMALLEST = 5  # voxels
_MOST = 30  # regions


@dataclass(frozen=True)
class Region:
    """Its most uncertain voxel (i, j, k), its size and its mean uncertainty."""

    ijk: tuple[int, int, int]
    milliliters: float
    mean: float


def find(uncertaintyNode) -> list[Region]:
    """The regions of an uncertainty volume, sorted by the sum of their voxels."""
    import SimpleITK as sitk  # not at the top: it takes a quarter of a second

    array = slicer.util.arrayFromVolume(uncertaintyNode)
    peak = float(array.max())
    if peak < _LEAST:
        return []
    mask = array >= min(_LEVEL, peak / 2)
    cut = arrays.tightBox(mask)
    components = sitk.ConnectedComponent(sitk.GetImageFromArray(mask[cut].astype(np.uint8)))
    statistics = sitk.LabelIntensityStatisticsImageFilter()
    statistics.Execute(components, sitk.GetImageFromArray(np.ascontiguousarray(array[cut])))
    voxel = float(np.prod(uncertaintyNode.GetSpacing())) / 1000.0
    found = []
    for label in statistics.GetLabels():
        count = statistics.GetNumberOfPixels(label)
        if count < _SMALLEST:
            continue
        i, j, k = statistics.GetMaximumIndex(label)
        ijk = (i + cut[2].start, j + cut[1].start, k + cut[0].start)
        mean = statistics.GetMean(label)
        found.append((mean * count, Region(ijk, count * voxel, mean)))
    found.sort(key=lambda pair: (-pair[0], pair[1].ijk))
    return [region for _sum, region in found[:_MOST]]


def jump(uncertaintyNode, region: Region) -> tuple[float, float, float]:
    """Center all slice views on the region; returns the place in world coordinates."""
    local = volumes.ijkToRas(uncertaintyNode) @ np.array([*region.ijk, 1.0])
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        uncertaintyNode.GetParentTransformNode(), None, toWorld
    )
    place = toWorld.TransformPoint(local[:3].tolist())
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.CenteredJumpSlice
    )
    return place
