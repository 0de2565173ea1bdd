"""qMRMLNodeComboBox: choose a node of the scene."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

from ..qtlayer.connections import declare_signals
from ..qtlayer.properties import Property, stored
from ..scene import Observations


class qMRMLNodeComboBox(QtWidgets.QWidget):
    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeAddedByUser = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observations = Observations()
        self._types: list[str] = []
        self._attributes: dict[str, dict[str, str | None]] = {}
        self._none_enabled, self._none_text = False, "None"
        self._show_children = True
        self._announced = self._leaving = ""
        self._filling, self._is_empty = False, True
        self._combo = QtWidgets.QComboBox()
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        self._combo.setMinimumContentsLength(8)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.currentIndexChanged.connect(self._announce)
        # Gray until there is a scene, like the real one.
        self._combo.setEnabled(False)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._observations.clear()
        self._scene = scene
        self._combo.setEnabled(scene is not None)
        if scene is not None:
            observe = self._observations.add
            observe(self, scene, scene.NodeAddedEvent, "_on_node_added")
            observe(self, scene, scene.NodeRemovedEvent, "_on_node_removed")
            observe(self, scene, scene.NodeAboutToBeRemovedEvent, "_on_node_leaving")
            observe(self, scene, scene.EndBatchProcessEvent, "_on_batch_end")
        self._fill()

    def _on_node_added(self, node: Any) -> None:
        if not self._scene.IsBatchProcessing() and self._may_match(node):
            self._fill()

    def _on_node_leaving(self, node: Any) -> None:
        # The entry goes now, before references to the node do: whoever is bound to this box gets
        # the neighbor and not None.
        if self._shows(node) and not self._scene.IsBatchProcessing():
            self._leaving = node.GetID()
            self._fill()

    def _on_node_removed(self, node: Any) -> None:
        self._leaving = ""

    def _on_batch_end(self, node: Any) -> None:
        self._fill()

    def _on_node_modified(self, node: Any) -> None:
        index = self._combo.findData(node.GetID())
        shown = self._shows(node)
        if (index >= 0) != shown:
            self._fill()
        elif index >= 0 and self._combo.itemText(index) != node.GetName():
            self._combo.setItemText(index, node.GetName())

    def _shows(self, node: Any) -> bool:
        if node is None or node.GetHideFromEditors():
            return False
        return node.GetID() != self._leaving and self._matches(node)

    def _matches(self, node: Any) -> bool:
        return any(self._is_of(node, kind) for kind in self._types)

    def _may_match(self, node: Any) -> bool:
        """Whether it is of the right class; its attributes may still change."""
        return any(node.IsA(kind) for kind in self._types)

    def _is_of(self, node: Any, kind: str) -> bool:
        if not (node.IsA(kind) if self._show_children else node.GetClassName() == kind):
            return False
        for name, wanted in self._attributes.get(kind, {}).items():
            value = node.GetAttribute(name)
            if value is None or (wanted is not None and value != wanted):
                return False
        return True

    def _candidates(self) -> list[Any]:
        """Nodes of the right class, also those that are hidden or lack an attribute for now."""
        if self._scene is None:
            return []
        every = (self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes()))
        return [node for node in every if self._may_match(node)]

    def _nodes(self) -> list[Any]:
        return [node for node in self._candidates() if self._shows(node)]

    def _fill(self) -> None:
        kept, row, was_empty = self._current_id(), self._combo.currentIndex, self._is_empty
        self._filling = True
        self._combo.clear()
        if self._none_enabled and self._scene is not None:
            self._combo.addItem(self._none_text, "")
        self._observations.clear("nodes")
        for node in self._candidates():
            if self._shows(node):
                self._combo.addItem(node.GetName() or node.GetID(), node.GetID())
            self._observations.add(self, node, "ModifiedEvent", "_on_node_modified", "nodes")
        self._is_empty = not self._combo.count
        index = self._combo.findData(kept) if kept else -1
        if index < 0:
            # As QComboBox does: the first entry of a box that was empty, the neighbor of an
            # entry that went away.
            lost = min(row, self._combo.count - 1) if kept else -1
            index = 0 if was_empty or (self._none_enabled and not kept) else lost
        self._combo.setCurrentIndex(min(index, self._combo.count - 1))
        kind = self._types[0].removeprefix("vtkMRML").removesuffix("Node") if self._types else ""
        self._combo.setPlaceholderText(f"Select a {kind}")
        self._filling = False
        self._announce()

    def _announce(self, *_: Any) -> None:
        current = self._current_id()
        if self._filling or current == self._announced:
            return
        self._announced = current
        node = self.currentNode()
        self.currentNodeChanged.emit(node)
        self.currentNodeIDChanged.emit(current)

    def _current_id(self) -> str:
        return self._combo.itemData(self._combo.currentIndex) or ""

    def _select(self, node_id: str | None) -> None:
        index = self._combo.findData(node_id or "") if node_id or self._none_enabled else -1
        if index < 0 and self._none_enabled:
            index = 0
        self._combo.setCurrentIndex(index)

    def currentNode(self) -> Any:
        current = self._current_id()
        return self._scene.GetNodeByID(current) if self._scene is not None and current else None

    def setCurrentNode(self, node: Any) -> None:
        self._select(node if isinstance(node, str) else node.GetID() if node else None)

    def addNode(self, kind: str | None = None) -> Any:
        kind = kind or self._types[0]
        if kind not in self._types:
            return None
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        base = self.baseName or node.GetDefaultNodeNamePrefix()
        node.SetName(self._scene.GenerateUniqueName(base))
        for name, value in self._attributes.get(kind, {}).items():
            node.SetAttribute(name, value or "")
        node = self._scene.AddNode(node)
        self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def addAttribute(self, kind: str, name: str, value: str | None = None) -> None:
        self._attributes.setdefault(kind, {})[name] = value
        self._fill()

    def _assign(self, attribute: str, value: Any) -> None:
        self.__dict__[attribute] = value
        self._fill()

    nodeTypes = Property(
        "QStringList", lambda self: self._types,
        lambda self, value: self._assign("_types", list(value)),
    )
    noneEnabled = Property(
        bool, lambda self: self._none_enabled,
        lambda self, value: self._assign("_none_enabled", value),
    )
    noneDisplay = Property(
        str, lambda self: self._none_text, lambda self, value: self._assign("_none_text", value)
    )
    showChildNodeTypes = Property(
        bool, lambda self: self._show_children,
        lambda self, value: self._assign("_show_children", value),
    )
    currentNodeID = Property(
        str, lambda self: self._current_id(), lambda self, value: self._select(value),
        notify=currentNodeIDChanged,
    )
    baseName = stored(str, "", "baseName")
    addEnabled = stored(bool, True, "addEnabled")
    removeEnabled = stored(bool, True, "removeEnabled")
    renameEnabled = stored(bool, False, "renameEnabled")
    sizeAdjustPolicy = stored(int, 1, "sizeAdjustPolicy")


declare_signals(
    qMRMLNodeComboBox,
    currentNodeChanged="currentNodeChanged(vtkMRMLNode*)",
    currentNodeIDChanged="currentNodeIDChanged(QString)",
    nodeAddedByUser="nodeAddedByUser(vtkMRMLNode*)",
)
