"""qMRMLLayoutManager over the real layout logic, with offscreen views.

Slice and 3D views render; table and plot views only keep their nodes and widgets.
"""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore

from .qtlayer.connections import declare_signals
from .qtlayer.properties import Property
from .scene import Observations
from .views import SliceView, ThreeDView
from .widgets.tables import qMRMLPlotView, qMRMLTableView


class _Controller:
    """The bar above a view."""

    def __init__(self) -> None:
        self.visible = True

    def setVisible(self, visible: bool) -> None:
        self.visible = visible


class SliceController(_Controller):
    def __init__(self, view: SliceView) -> None:
        super().__init__()
        self._view = view

    def mrmlSliceNode(self) -> Any:
        return self._view.node

    def sliceLogic(self) -> Any:
        return self._view.logic

    def fitSliceToBackground(self) -> None:
        self._view.logic.FitSliceToBackground()


class RenderView:
    """ctkVTKAbstractView: what slice views and 3D views share."""

    def __init__(self, view: SliceView | ThreeDView) -> None:
        self._view = view

    def interactor(self) -> Any:
        return self._view.window.interactor

    def forceRender(self) -> None:
        self._view.render()

    @property
    def width(self) -> int:
        return self._view.size[0]

    @property
    def height(self) -> int:
        return self._view.size[1]


class MRMLSliceView(RenderView):
    def mrmlSliceNode(self) -> Any:
        return self._view.node


class MRMLThreeDView(RenderView):
    def mrmlViewNode(self) -> Any:
        return self._view.node

    def resetFocalPoint(self) -> None:
        self._view.fit()


class SliceWidget:
    def __init__(self, view: SliceView) -> None:
        self._view = view
        self._slice_view = MRMLSliceView(view)
        self._controller = SliceController(view)

    def sliceView(self) -> MRMLSliceView:
        return self._slice_view

    def sliceController(self) -> SliceController:
        return self._controller

    def sliceLogic(self) -> Any:
        return self._view.logic

    def mrmlSliceNode(self) -> Any:
        return self._view.node

    def fitSliceToBackground(self) -> None:
        self._view.logic.FitSliceToBackground()


class ThreeDWidget:
    def __init__(self, view: ThreeDView) -> None:
        self._view = view
        self._three_d_view = MRMLThreeDView(view)
        self._controller = _Controller()

    def threeDView(self) -> MRMLThreeDView:
        return self._three_d_view

    def threeDController(self) -> _Controller:
        return self._controller

    def mrmlViewNode(self) -> Any:
        return self._view.node


class TableWidget:
    def __init__(self, node: Any) -> None:
        self._node, self._controller = node, _Controller()
        self._view = qMRMLTableView()
        self._view.setMRMLScene(slicer.mrmlScene)

    def tableView(self) -> Any:
        self._view.setMRMLTableNode(self._node.GetTableNode())
        return self._view

    def tableController(self) -> _Controller:
        return self._controller


class PlotWidget:
    def __init__(self, node: Any) -> None:
        self._node, self._controller = node, _Controller()
        self._view = qMRMLPlotView()
        self._view.setMRMLScene(slicer.mrmlScene)
        self._view.setMRMLPlotViewNode(node)

    def plotView(self) -> Any:
        return self._view

    def plotController(self) -> _Controller:
        return self._controller

    def mrmlPlotViewNode(self) -> Any:
        return self._node


_KINDS: dict[str, Any] = {
    "vtkMRMLSliceNode": lambda node: SliceWidget(SliceView(node)),
    "vtkMRMLViewNode": lambda node: ThreeDWidget(ThreeDView(node)),
    "vtkMRMLTableViewNode": TableWidget,
    "vtkMRMLPlotViewNode": PlotWidget,
}


class LayoutManager(QtCore.QObject):
    layoutChanged = QtCore.Signal(int)

    def __init__(self, scene: Any, application: Any) -> None:
        super().__init__()
        self._scene, self._observations = scene, Observations()
        self._widgets: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(application)
        self._logic.SetMRMLScene(scene)
        self._node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView)
        self._update()
        self._observations.add(self, self._node, "ModifiedEvent", "_on_layout_modified")
        self._observations.add(self, scene, scene.NodeAddedEvent, "_on_node_added")
        self._arrangement = self._node.GetViewArrangement()

    @property
    def _node(self) -> Any:
        return self._logic.GetLayoutNode()

    def _on_node_added(self, node: Any) -> None:
        self._adopt(node)

    def _on_layout_modified(self, _node: Any) -> None:
        self._update()
        arrangement = self._node.GetViewArrangement()
        if arrangement != self._arrangement:
            self._arrangement = arrangement
            self.layoutChanged.emit(arrangement)

    def _adopt(self, node: Any) -> None:
        """Make the widget of a view node, as the real manager's view factories do."""
        kind = node.GetClassName()
        if kind in _KINDS and node.GetID() not in self._widgets[kind]:
            self._widgets[kind][node.GetID()] = _KINDS[kind](node)

    def _update(self) -> None:
        shown = self._logic.GetViewNodes()
        nodes = [shown.GetItemAsObject(i) for i in range(shown.GetNumberOfItems())]
        for node in nodes:
            self._adopt(node)
        identifiers = {node.GetID() for node in nodes}
        for widgets in self._widgets.values():
            for identifier in widgets:
                node = self._scene.GetNodeByID(identifier)
                if node is not None:
                    node.SetMappedInLayout(int(identifier in identifiers))

    def _alive(self, kind: str) -> list[Any]:
        return [
            widget for identifier, widget in self._widgets[kind].items()
            if self._scene.GetNodeByID(identifier) is not None
        ]

    def mrmlScene(self) -> Any:
        return self._scene

    def layoutLogic(self) -> Any:
        return self._logic

    def setLayout(self, layout: int) -> None:
        self._node.SetViewArrangement(layout)

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(
            widget.mrmlSliceNode().GetLayoutName() for widget in self._alive("vtkMRMLSliceNode")
        )

    def sliceWidget(self, name: str) -> SliceWidget | None:
        for widget in self._alive("vtkMRMLSliceNode"):
            if widget.mrmlSliceNode().GetLayoutName() == name:
                return widget
        return None

    def mrmlSliceLogics(self) -> Any:
        return slicer.app.applicationLogic().GetSliceLogics()

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        return self._nth("vtkMRMLViewNode", index)

    def tableWidget(self, index: int) -> TableWidget | None:
        return self._nth("vtkMRMLTableViewNode", index)

    def plotWidget(self, index: int) -> PlotWidget | None:
        return self._nth("vtkMRMLPlotViewNode", index)

    def _nth(self, kind: str, index: int) -> Any:
        widgets = self._alive(kind)
        return widgets[index] if 0 <= index < len(widgets) else None

    def resetSliceViews(self) -> None:
        for widget in self._alive("vtkMRMLSliceNode"):
            widget.sliceLogic().FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        for widget in self._alive("vtkMRMLViewNode"):
            widget.threeDView().resetFocalPoint()

    layout = Property(
        int, lambda self: self._node.GetViewArrangement(),
        lambda self, value: self.setLayout(value), notify=layoutChanged,
    )
    threeDViewCount = Property(int, lambda self: len(self._alive("vtkMRMLViewNode")))
    tableViewCount = Property(int, lambda self: len(self._alive("vtkMRMLTableViewNode")))
    plotViewCount = Property(int, lambda self: len(self._alive("vtkMRMLPlotViewNode")))


declare_signals(LayoutManager, layoutChanged="layoutChanged(int)")
