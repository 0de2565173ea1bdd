"""Views of tables and plots outside the layout.

The table shows its cells. The plot draws the line and scatter series of its chart, plainly: VTK's
chart window is not embedded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from ..qtlayer.connections import declare_signals
from ..scene import Observations


class qMRMLTableView(QtWidgets.QTableView):
    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._table: Any = None
        self._observations = Observations()
        self.setModel(QtGui.QStandardItemModel(self))

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def setMRMLTableNode(self, node: Any) -> None:
        self._observations.clear()
        self._table = node
        if node is not None:
            self._observations.add(self, node, "ModifiedEvent", "_fill")
        self._fill()

    def _fill(self, *_: Any) -> None:
        model = self.model()
        model.clear()
        table = self._table.GetTable() if self._table is not None else None
        if table is None:
            return
        columns, rows = table.GetNumberOfColumns(), table.GetNumberOfRows()
        model.setHorizontalHeaderLabels([table.GetColumnName(i) or "" for i in range(columns)])
        for row in range(rows):
            texts = [table.GetValue(row, column).ToString() for column in range(columns)]
            model.appendRow([QtGui.QStandardItem(text) for text in texts])


class qMRMLPlotView(QtWidgets.QWidget):
    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._view_node: Any = None
        self._observations = Observations()
        self.setMinimumHeight(120)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def mrmlPlotViewNode(self) -> Any:
        return self._view_node

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._observations.clear()
        self._view_node = node
        if node is not None:
            self._observations.add(self, node, "ModifiedEvent", "_changed")
        self.update()

    def _changed(self, _node: Any) -> None:
        self.update()

    def _curves(self) -> list[tuple[str, np.ndarray, np.ndarray, QtGui.QColor]]:
        chart = self._view_node.GetPlotChartNode() if self._view_node is not None else None
        curves = []
        for index in range(chart.GetNumberOfPlotSeriesNodes() if chart is not None else 0):
            series = chart.GetNthPlotSeriesNode(index)
            node = series.GetTableNode()
            table = node.GetTable() if node is not None else None
            y = table.GetColumnByName(series.GetYColumnName()) if table is not None else None
            if y is None or not y.GetNumberOfTuples():
                continue
            values = vtk_to_numpy(y).astype(float)
            x = table.GetColumnByName(series.GetXColumnName()) if series.GetXColumnName() else None
            places = vtk_to_numpy(x).astype(float) if x is not None else np.arange(len(values))
            color = QtGui.QColor.fromRgbF(*series.GetColor())
            curves.append((series.GetName(), places, values, color))
        return curves

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.Antialiasing)
        painter.fillRect(QtCore.QRect(0, 0, self.width, self.height), QtCore.Qt.white)
        area = QtCore.QRectF(40, 12, max(self.width - 52, 10), max(self.height - 36, 10))
        painter.setPen(QtCore.Qt.gray)
        painter.drawRect(area)
        curves = self._curves()
        if not curves:
            return
        x = np.concatenate([curve[1] for curve in curves])
        y = np.concatenate([curve[2] for curve in curves])
        y = y[np.isfinite(y)]
        if not len(y):
            return
        low, high = float(y.min()), float(y.max())
        left, right = float(x.min()), float(x.max())
        for number, (name, places, values, color) in enumerate(curves):
            keep = np.isfinite(values)
            across = area.left() + (places[keep] - left) / (right - left or 1) * area.width()
            down = area.bottom() - (values[keep] - low) / (high - low or 1) * area.height()
            painter.setPen(QtGui.QPen(color, 1.6))
            painter.drawPolyline(
                [QtCore.QPointF(a, b) for a, b in zip(across, down, strict=True)]
            )
            row = area.top() + 24 + 16 * number  # the legend, as the chart's own
            painter.drawLine(QtCore.QPointF(area.right() - 120, row - 4),
                             QtCore.QPointF(area.right() - 100, row - 4))  # fmt: skip
            painter.setPen(QtCore.Qt.black)
            painter.drawText(QtCore.QPointF(area.right() - 94, row), name)
        painter.setPen(QtCore.Qt.black)
        painter.drawText(QtCore.QPointF(4, area.top() + 8), f"{high:.3g}")
        painter.drawText(QtCore.QPointF(4, area.bottom()), f"{low:.3g}")
        painter.drawText(QtCore.QPointF(area.left(), self.height - 6), f"{left:.4g}")
        painter.drawText(QtCore.QPointF(area.right() - 30, self.height - 6), f"{right:.4g}")
        title = self._view_node.GetPlotChartNode().GetXAxisTitle()
        painter.drawText(QtCore.QPointF(area.center().x() - 12, self.height - 6), title)


declare_signals(qMRMLTableView, mrmlSceneChanged="mrmlSceneChanged(vtkMRMLScene*)")
