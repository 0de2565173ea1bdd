"""Choosing among the segments of a segmentation."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored
from ..scene import Observations
from .mrml import qMRMLWidget
from .nodecombo import qMRMLNodeComboBox


def _segments(node: Any) -> list[tuple[str, Any]]:
    if node is None:
        return []
    segmentation = node.GetSegmentation()
    ids = (segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments()))
    return [(segment, segmentation.GetSegment(segment)) for segment in ids]


def _swatch(color: tuple[float, float, float]) -> QtGui.QIcon:
    picture = QtGui.QPixmap(12, 12)
    picture.fill(QtGui.QColor.fromRgbF(*color))
    return QtGui.QIcon(picture)


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    currentNodeChanged = QtCore.Signal(object)
    currentSegmentChanged = QtCore.Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._observations = Observations()
        self._nodes = qMRMLNodeComboBox()
        self._nodes.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._nodes.addEnabled = False
        self._combo = QtWidgets.QComboBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._nodes)
        layout.addWidget(self._combo)
        self._nodes.currentNodeChanged.connect(self._on_node)
        self._combo.currentIndexChanged.connect(self._on_segment)

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._nodes.setMRMLScene(scene)

    def _on_node(self, node: Any) -> None:
        self._observations.clear()
        if node is not None:
            kinds = slicer.vtkSegmentation
            for event in (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified):
                self._observations.add(self, node.GetSegmentation(), event, "_fill")
        self._fill()
        self.currentNodeChanged.emit(node)

    def _fill(self, *_: Any) -> None:
        kept = self.currentSegmentID()
        self._combo.blockSignals(True)
        self._combo.clear()
        if self._nodes.noneEnabled:
            self._combo.addItem("None", "")
        for identifier, segment in _segments(self.currentNode()):
            self._combo.addItem(_swatch(segment.GetColor()), segment.GetName(), identifier)
        self._combo.setCurrentIndex(max(self._combo.findData(kept), 0))
        self._combo.blockSignals(False)
        if self.currentSegmentID() != kept:
            self._on_segment()

    def _on_segment(self, *_: Any) -> None:
        self.currentSegmentChanged.emit(self.currentSegmentID())

    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    def currentNodeID(self) -> str:
        return self._nodes.currentNodeID

    def currentSegmentID(self) -> str:
        return self._combo.itemData(self._combo.currentIndex) or ""

    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    def setCurrentNodeID(self, identifier: str) -> None:
        self._nodes.setCurrentNodeID(identifier)

    def setCurrentSegmentID(self, identifier: str) -> None:
        self._combo.setCurrentIndex(self._combo.findData(identifier))

    noneEnabled = Property(
        bool, lambda self: self._nodes.noneEnabled,
        lambda self, value: setattr(self._nodes, "noneEnabled", value),
    )
    segmentationNodeSelectorVisible = Property(
        bool, lambda self: not self._nodes.isHidden(),
        lambda self, value: self._nodes.setVisible(value),
    )


class qMRMLSegmentsTableView(qMRMLWidget):
    """A list of the segments; the columns for visibility and opacity are not drawn."""

    selectionChanged = QtCore.Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._observations = Observations()
        self._list = QtWidgets.QListWidget()
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._list)
        self._list.itemSelectionChanged.connect(self.selectionChanged)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._observations.clear()
        self._node = node
        if node is not None:
            kinds = slicer.vtkSegmentation
            for event in (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified):
                self._observations.add(self, node.GetSegmentation(), event, "_fill")
        self._fill()

    def _fill(self, *_: Any) -> None:
        kept = self.selectedSegmentIDs()
        self._list.clear()
        for identifier, segment in _segments(self._node):
            item = QtWidgets.QListWidgetItem(_swatch(segment.GetColor()), segment.GetName())
            item.setData(QtCore.Qt.UserRole, identifier)
            self._list.addItem(item)
        self.setSelectedSegmentIDs(kept)

    def segmentCount(self) -> int:
        return self._list.count

    def selectedSegmentIDs(self) -> list[str]:
        return [item.data(QtCore.Qt.UserRole) for item in self._list.selectedItems()]

    def setSelectedSegmentIDs(self, identifiers: list[str]) -> None:
        for row in range(self._list.count):
            item = self._list.item(row)
            item.setSelected(item.data(QtCore.Qt.UserRole) in identifiers)

    def clearSelection(self) -> None:
        self._list.clearSelection()

    selectionMode = Property(
        int, lambda self: int(self._list.selectionMode),
        lambda self, value: self._list.setSelectionMode(
            QtWidgets.QAbstractItemView.SelectionMode(value)
        ),
    )
    headerVisible = stored(bool, True, "headerVisible")
    visibilityColumnVisible = stored(bool, True, "visibilityColumnVisible")
    colorColumnVisible = stored(bool, True, "colorColumnVisible")
    opacityColumnVisible = stored(bool, False, "opacityColumnVisible")
    readOnly = stored(bool, False, "readOnly")


declare_signals(
    qMRMLSegmentSelectorWidget, currentNodeChanged="currentNodeChanged(vtkMRMLNode*)",
    currentSegmentChanged="currentSegmentChanged(QString)",
)
declare_signals(
    qMRMLSegmentsTableView,
    selectionChanged="selectionChanged(QItemSelection,QItemSelection)",
)
