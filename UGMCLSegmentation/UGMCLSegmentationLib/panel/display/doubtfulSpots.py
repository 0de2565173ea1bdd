"""The spots of a result that are worth a look: finding them, and walking from one to the next."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ugmcl_core.inference.settings import UNSURE_MM
from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.qtHelpers import Connections, enable, setUpTable, silent
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import arrays, corrections, resultNodes, results, volumes
from UGMCLSegmentationLib.worker.incremental import Deadline


class ReviewSection:
    def __init__(self, ui, connections: Connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        self._spots: list[Spot] | None = None
        self._later = Deadline(self._tickEdited)
        table = ui.spotsTable
        setUpTable(table, {0: 54, 2: 80, 3: 90}, rowHeight=22)
        for widget, signal, slot in (
            (ui.nextSpotButton, "clicked(bool)", lambda _checked: self._walk(1)),
            (ui.previousSpotButton, "clicked(bool)", lambda _checked: self._walk(-1)),
            (ui.spotsSection, "toggled(bool)", self._onToggled),
            (table, "itemSelectionChanged()", self._onSelected),
            (table, "itemChanged(QTableWidgetItem*)", self._onTicked),
        ):
            connections.connect(widget, signal, slot)
        messages.show(self._ui.spotLabel, "")

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self._later.stop()
        self.refresh()

    def refresh(self) -> None:
        """The result changed: find its spots again when they are needed."""
        self._spots = None
        with silent(self._ui.spotsTable):
            self._ui.spotsTable.setRowCount(0)
        messages.show(self._ui.spotLabel, "")
        self.update()
        if not self._ui.spotsSection.collapsed:
            self._find()

    def onEdited(self) -> None:
        """The segments changed: soon tick the spots there."""
        if self._spots:
            self._later.start(_PAUSE)

    def tickAll(self) -> None:
        """The result was accepted: all its spots are confirmed."""
        table = self._ui.spotsTable
        rows = [row for row in range(table.rowCount) if not self._isTicked(row)]
        with silent(table):
            for row in rows:
                table.item(row, 0).setCheckState(qt.Qt.Checked)
        if rows:
            self._onTicked()

    def _tickEdited(self) -> None:
        """Tick the spots within `_REACH` of voxels that changed since the run."""
        node = self._parameters.segmentation if self._parameters else None
        edited = corrections.changes(node) if resultNodes.isInScene(node) else None
        if not edited or not self._spots:
            return
        spacing = np.array(self._error().GetSpacing())
        table = self._ui.spotsTable
        for row in range(table.rowCount):
            spot = self._spots[int(table.item(row, 0).text()) - 1]
            if not self._isTicked(row) and _isNear(spot, edited, spacing):
                table.item(row, 0).setCheckState(qt.Qt.Checked)

    def update(self) -> None:
        reason = ""
        if self._error() is None:
            reason = _("Segment with at least one uncertainty pass first.")
        text = _("Go to the next spot that is not checked, in the order of the list.")
        enable(self._ui.nextSpotButton, text, unless=reason)
        text = _("Go to the previous spot that is not checked.")
        enable(self._ui.previousSpotButton, text, unless=reason)

    def _onToggled(self, isOpen: bool) -> None:
        if isOpen:
            self._find()

    def _walk(self, step: int) -> None:
        """Go to the next or previous spot that is not checked, and around at the ends."""
        self._find()
        if not self._spots:
            if self._spots is not None:
                text = _("The surface is nowhere expected to be off by more than {limit:g} mm.")
                messages.show(self._ui.spotLabel, text.format(limit=UNSURE_MM))
            return
        count, current = len(self._spots), self._row()
        if current < 0:
            current = -1 if step > 0 else 0
        rows = [(current + step * n) % count for n in range(1, count + 1)]
        row = next((r for r in rows if not self._isTicked(r)), rows[0])
        if row == self._row():
            self._onSelected()  # the only spot: go there again
        self._ui.spotsTable.selectRow(row)
        if self._isTicked(row):
            text = _("{spot}. All spots are checked.").format(spot=self._ui.spotLabel.text)
            messages.show(self._ui.spotLabel, text)

    def _onSelected(self) -> None:
        row = self._row()
        if row < 0 or not self._spots:
            return
        number = int(self._ui.spotsTable.item(row, 0).text())
        spot = self._spots[number - 1]
        jump(self._error(), spot)
        text = _("Spot {number} of {count}: {place}, up to {error:.1f} mm, {volume:.2f} mL")
        text = text.format(
            number=number, count=len(self._spots), place=spot.place, error=spot.millimeters,
            volume=spot.milliliters,
        )  # fmt: skip
        messages.show(self._ui.spotLabel, text)

    def _row(self) -> int:
        rows = self._ui.spotsTable.selectionModel().selectedRows()
        return rows[0].row() if rows else -1

    def _isTicked(self, row: int) -> bool:
        return self._ui.spotsTable.item(row, 0).checkState() == qt.Qt.Checked

    def _onTicked(self, _item=None) -> None:
        """Keep what is checked with the result, so that a saved scene has it too."""
        table = self._ui.spotsTable
        ticked = [row for row in range(table.rowCount) if self._isTicked(row)]
        numbers = [int(table.item(row, 0).text()) for row in ticked]
        places = sorted(self._spots[n - 1].ijk for n in numbers)
        self._parameters.segmentation.SetAttribute(results.CHECKED, json.dumps(places))

    def _find(self) -> None:
        """List the spots, unless they are listed already."""
        node = self._error()
        if node is None or self._spots is not None:
            return
        self._spots = find(node)
        text = self._parameters.segmentation.GetAttribute(results.CHECKED)
        checked = results.fromJson(text, list)
        isAccepted = self._parameters.segmentation.GetAttribute(results.ACCEPTED) == "1"
        table = self._ui.spotsTable
        with silent(table):
            table.setSortingEnabled(False)  # else rows move while they are being filled
            table.setRowCount(len(self._spots))
            for row, spot in enumerate(self._spots):
                # texts of one width sort by value, and show as many decimals in every row
                texts = (f"{row + 1:2}", spot.place, f"{spot.millimeters:6.1f}",
                         f"{spot.milliliters:7.2f}")  # fmt: skip
                for column, text in enumerate(texts):
                    item = qt.QTableWidgetItem(text)
                    if column > 1:
                        item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                    if column == 0:
                        isChecked = isAccepted or list(spot.ijk) in checked
                        item.setCheckState(qt.Qt.Checked if isChecked else qt.Qt.Unchecked)
                    table.setItem(row, column, item)
            table.setSortingEnabled(True)
            table.sortByColumn(0, qt.Qt.AscendingOrder)
        self._tickEdited()  # for what was edited before the spots were listed

    def _error(self):
        node = self._parameters.segmentation if self._parameters else None
        source = results.sourceOf(node) if resultNodes.isInScene(node) else None
        return results.surfaceErrorOf(source, node) if source is not None else None


_PAUSE = 0.4  # seconds without an edit before its spots are ticked: brush strokes are many
_REACH = 3.0  # mm around a spot in which an edit counts as its correction


def _isNear(spot: Spot, edited: list[corrections.Mask], spacing: np.ndarray) -> bool:
    """Whether one of the voxels lies within `_REACH` of the spot; `spacing` (i, j, k) in mm."""
    for mask in edited:
        center = np.array(spot.ijk[::-1]) - mask.start
        reach = np.ceil(_REACH / spacing[::-1]).astype(int)
        low = np.maximum(0, center - reach)
        part = tuple(slice(a, max(a, b)) for a, b in zip(low, center + reach + 1, strict=True))
        found = np.argwhere(mask.voxels[part]) + low - center
        if (((found * spacing[::-1]) ** 2).sum(axis=1) <= _REACH**2).any():
            return True
    return False


_APART = 10.0  # mm between two spots
_NEAR = 3.0  # mm: the Gaussian over which errors add up to a volume
_MOST = 10  # spots
_ASIDE = 0.35  # of half the extent of the surface; closer to its center, a spot has no side


@dataclass(frozen=True)
class Spot:
    """Where (i, j, k) the most error is expected, in words as well, how much, and the volume
    around it that is in doubt; and the middle (i, j, k) of the whole surface, for a camera."""

    ijk: tuple[int, int, int]
    middle: tuple[float, float, float]
    place: str
    millimeters: float
    milliliters: float


def find(errorNode) -> list[Spot]:
    """The spots of a surface error volume, those with the most expected error volume first: peaks
    of the error summed over their neighborhood, at least 10 mm apart, where the surface may be
    off by more than UNSURE_MM."""
    import SimpleITK as sitk  # not at the top: it takes a quarter of a second

    array = slicer.util.arrayFromVolume(errorNode)  # k, j, i
    box = arrays.tightBox(array > 0)
    if box is None:
        return []
    spacing = np.array(errorNode.GetSpacing())
    error = np.array(array[box], np.float32)
    doubtful = np.where(error > UNSURE_MM, error, 0)
    image = sitk.GetImageFromArray(np.pad(doubtful, 2))  # the filter refuses fewer than 4 voxels
    image.SetSpacing(spacing.tolist())
    summed = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(image, _NEAR))
    summed = summed[2:-2, 2:-2, 2:-2]
    summed[doubtful == 0] = 0
    start = np.array([part.start for part in box])
    toWorld = volumes.ijkToRas(errorNode)[:3]
    shell = np.argwhere(error > 0)[:, ::-1] + start[::-1]
    world = shell @ toWorld[:, :3].T + toWorld[:, 3]
    middle = tuple(float(part.start + part.stop - 1) / 2 for part in reversed(box))
    axes = [np.arange(n) * s for n, s in zip(error.shape, spacing[::-1], strict=True)]
    found, left = [], doubtful > 0
    while len(found) < _MOST and summed.max() > 0:
        peak = np.unravel_index(int(summed.argmax()), summed.shape)
        offsets = [(a - a[p]) ** 2 for a, p in zip(axes, peak, strict=True)]
        distance = offsets[0][:, None, None] + offsets[1][:, None] + offsets[2]
        around = distance <= _APART**2
        doubt = around & left  # voxels of an earlier spot do not count again
        ijk = tuple(int(n) for n in (np.array(peak) + start)[::-1])
        place = toWorld[:, :3] @ ijk + toWorld[:, 3]
        milliliters = round(float(doubt.sum() * spacing.prod()) / 1000.0, 2)
        millimeters = float(error[doubt].max())
        found.append(Spot(ijk, middle, inWords(place, world), millimeters, milliliters))
        summed[around], left[around] = 0, False
    return found


def inWords(place: np.ndarray, surface: np.ndarray) -> str:
    """The side of a structure that `place` (RAS) is on, from the points (n, 3) of its surface."""
    low, high = surface.min(axis=0), surface.max(axis=0)
    share = (place - (low + high) / 2) / np.maximum((high - low) / 2, 1e-6)
    names = (
        (_("right"), _("left")), (_("anterior"), _("posterior")), (_("superior"), _("inferior"))
    )  # fmt: skip
    axes = [axis for axis in np.argsort(-np.abs(share))[:2] if abs(share[axis]) > _ASIDE]
    return ", ".join(names[axis][int(share[axis] < 0)] for axis in axes) or _("center")


def jump(errorNode, spot: Spot) -> tuple[float, float, float]:
    """Center all slice views on the spot and turn the 3D views to it; returns the place in world
    coordinates."""
    place, middle = (_inWorld(errorNode, ijk) for ijk in (spot.ijk, spot.middle))
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.CenteredJumpSlice
    )
    _turnCameras(np.array(place), np.array(middle))
    return place


def _inWorld(volumeNode, ijk: tuple[float, float, float]) -> tuple[float, float, float]:
    local = volumes.ijkToRas(volumeNode) @ np.array([*ijk, 1.0])
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        volumeNode.GetParentTransformNode(), None, toWorld
    )
    return toWorld.TransformPoint(local[:3].tolist())


def _turnCameras(place: np.ndarray, center: np.ndarray) -> None:
    """Look at the place from outside, from as far away as before."""
    outward = place - center
    length = np.linalg.norm(outward)
    if length < 1e-3:
        return
    for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
        away = np.linalg.norm(np.subtract(camera.GetPosition(), camera.GetFocalPoint()))
        modified = camera.StartModify()
        camera.SetFocalPoint(*center)
        camera.SetPosition(*(center + outward / length * away))
        upward = (0.0, 0.0, 1.0) if abs(outward[2]) < 0.9 * length else (0.0, 1.0, 0.0)
        camera.SetViewUp(*upward)
        camera.EndModify(modified)
        camera.ResetClippingRange()
