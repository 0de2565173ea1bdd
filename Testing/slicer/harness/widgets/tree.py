"""qMRMLSubjectHierarchyTreeView: names and selection only."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored
from ..scene import Observations


class qMRMLSubjectHierarchyTreeView(QtWidgets.QTreeView):
    currentItemChanged = QtCore.Signal(object)
    currentItemsChanged = QtCore.Signal(list)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._types: list[str] = []
        self._observations = Observations()
        self.setModel(QtGui.QStandardItemModel(self))
        self.setHeaderHidden(True)
        self.selectionModel().selectionChanged.connect(self._on_selection)

    def setMRMLScene(self, scene: Any) -> None:
        self._observations.clear()
        self._scene = scene
        if scene is not None:
            hierarchy = self.subjectHierarchyNode()
            for name in ("Added", "Removed", "Modified", "Reparented"):
                event = getattr(slicer.vtkMRMLSubjectHierarchyNode, f"SubjectHierarchyItem{name}"
                                "Event")
                self._observations.add(self, hierarchy, event, "_fill")
        self._fill()

    def subjectHierarchyNode(self) -> Any:
        return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self._scene)

    def _fill(self, *_: Any) -> None:
        model = self.model()
        model.clear()
        if self._scene is not None:
            hierarchy = self.subjectHierarchyNode()
            self._add(hierarchy, hierarchy.GetSceneItemID(), model.invisibleRootItem())
            self.expandAll()

    def _add(self, hierarchy: Any, parent: int, row: Any) -> None:
        children = vtk.vtkIdList()
        hierarchy.GetItemChildren(parent, children)
        for index in range(children.GetNumberOfIds()):
            identifier = children.GetId(index)
            node = hierarchy.GetItemDataNode(identifier)
            if self._types and node is not None and not any(map(node.IsA, self._types)):
                continue
            entry = QtGui.QStandardItem(hierarchy.GetItemName(identifier))
            entry.setData(identifier, QtCore.Qt.UserRole)
            row.appendRow(entry)
            self._add(hierarchy, identifier, entry)

    def _on_selection(self, *_: Any) -> None:
        self.currentItemChanged.emit(self.currentItem())
        self.currentItemsChanged.emit(self._selected())

    def _selected(self) -> list[int]:
        return [index.data(QtCore.Qt.UserRole) for index in self.selectedIndexes()]

    def currentItem(self) -> int:
        selected = self._selected()
        return selected[0] if selected else 0

    def setCurrentItem(self, identifier: int) -> None:
        model = self.model()
        found = model.match(
            model.index(0, 0), QtCore.Qt.UserRole, identifier, 1,
            QtCore.Qt.MatchExactly | QtCore.Qt.MatchRecursive,
        )
        if found:
            self.setCurrentIndex(found[0])

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentItem(self.subjectHierarchyNode().GetItemByDataNode(node))

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self._fill()

    nodeTypes = Property(
        "QStringList", lambda self: self._types, lambda self, value: self._set_types(value)
    )
    multiSelection = stored(bool, False, "multiSelection")


declare_signals(
    qMRMLSubjectHierarchyTreeView, currentItemChanged="currentItemChanged(vtkIdType)",
    currentItemsChanged="currentItemsChanged(QList<vtkIdType>)",
)
