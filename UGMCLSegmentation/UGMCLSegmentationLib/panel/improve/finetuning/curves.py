"""The curves of a run in plots of the scene: a table and a chart each for the losses and the
hold-out Dice, since Slicer's charts have one axis for all values.

All runs share these nodes.
"""

from __future__ import annotations

import time
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from UGMCLSegmentationLib.scene import results, taggedNodes
from UGMCLSegmentationLib.worker.incremental import Deadline

_KIND = "UGMCLSegmentation.Curves"  # attribute: which of the nodes it is
_PAUSE = 1.0  # seconds between two updates of the nodes
_MOST = 500  # points of a curve
_COLORS = (
    (0.12, 0.47, 0.71), (1.0, 0.5, 0.05), (0.58, 0.4, 0.74), (0.55, 0.34, 0.29),
    (0.89, 0.47, 0.76), (0.5, 0.5, 0.5), (0.74, 0.74, 0.13), (0.09, 0.75, 0.81),
)  # fmt: skip
_DICE_COLOR = (0.17, 0.63, 0.17)
_LOSSES, _DICE = "chart", "dice chart"  # values of _KIND
_LAYOUT = 1717  # a number that no layout of Slicer has
_VIEWS = ("PlotView1", "PlotView2")


def _view(kind: str, tag: str, more: str = "") -> str:
    return f'<item><view class="{kind}" singletontag="{tag}">{more}</view></item>'


def _slice(tag: str, orientation: str, label: str, color: str) -> str:
    more = "".join(
        f'<property name="{name}" action="default">{value}</property>'
        for name, value in (("orientation", orientation), ("viewlabel", label),
                            ("viewcolor", color))
    )  # fmt: skip
    return _view("vtkMRMLSliceNode", tag, more)


# as Slicer's conventional layout with a plot, but with two of them
_DESCRIPTION = (
    '<layout type="vertical" split="true">'
    f'<item><layout type="horizontal">{_slice("Red", "Axial", "R", "#F34A33")}'
    f'{_view("vtkMRMLViewNode", "1")}</layout></item>'
    f'<item><layout type="horizontal">{"".join(_view("vtkMRMLPlotViewNode", v) for v in _VIEWS)}'
    "</layout></item></layout>"
)


def _words(term: str) -> str:
    """The name of a term of the objective in the plot, whose legend cuts off long names."""
    return {
        "ce": _("Labels: voxels"),
        "dice": _("Labels: overlap"),
        "distance": _("Labels: distance"),
        "distance_dice": _("Labels: level set"),
        "consistency": _("Teacher"),
        "intra": _("Teacher"),
        "cross": _("Both heads"),
        "entropy": _("Certainty"),
        "adversarial": _("Likeness"),
        "discriminator": _("Discriminator"),
    }.get(term, term)


class Curves:
    """Collects the events of a run and shows them, at most once per second."""

    def __init__(self) -> None:
        self._losses: list[tuple[int, dict[str, float]]] = []
        self._dice: list[tuple[int, float, dict[str, float | None]]] = []
        self._shownAt = 0.0
        self._later = Deadline(self.show)

    def clear(self) -> None:
        self._later.stop()
        self._losses.clear()
        self._dice.clear()

    def close(self) -> None:
        self._later.stop()

    def add(self, event: dict[str, Any]) -> None:
        """Add a `metrics` event. A resumed run repeats steps, which replace the former ones."""
        step = int(event["step"])
        if event.get("losses"):
            while self._losses and self._losses[-1][0] >= step:
                self._losses.pop()
            self._losses.append((step, dict(event["losses"])))
        if event.get("dice") is not None:
            while self._dice and self._dice[-1][0] >= step:
                self._dice.pop()
            self._dice.append((step, float(event["dice"]), dict(event.get("classes") or {})))

    def showSoon(self) -> None:
        """Update the nodes, now if there is another chart to show."""
        wanted = bool(self._losses) + bool(self._dice)
        if len(charts()) < wanted or time.monotonic() - self._shownAt >= _PAUSE:
            self.show()
        elif not self._later.isRunning:
            self._later.start(_PAUSE)

    def show(self) -> None:
        """Update the nodes."""
        self._later.stop()
        self._shownAt = time.monotonic()
        if slicer.mrmlScene.IsClosing() or not (self._losses or self._dice):
            return
        series = self._showLosses() if self._losses else []
        if self._dice:
            series += self._showDice()
        _removeOthers(series)

    def _showLosses(self) -> list:
        names = list(dict.fromkeys(name for _step, terms in self._losses for name in terms))
        missing = float("nan")
        losses = [[step, *(terms.get(n, missing) for n in names)] for step, terms in self._losses]
        titles = [_words(name) for name in names]
        table = _fill("losses", _("Fine-tuning losses"), [_("Step"), *titles], losses)
        colors = (_COLORS[n % len(_COLORS)] for n in range(len(titles)))
        series = [_series(table, t, c) for t, c in zip(titles, colors, strict=True)]
        _updateChart(_LOSSES, _("Fine-tuning"), _("Loss"), series)
        return series

    def _showDice(self) -> list:
        """The mean, and each class where there are several."""
        title = _("Hold-out Dice")
        names = list(dict.fromkeys(name for *_rest, classes in self._dice for name in classes))
        rows = [[step, mean, *(_number(classes.get(n)) for n in names)]
                for step, mean, classes in self._dice]  # fmt: skip
        each = [_("{name}: Dice").format(name=name) for name in names]
        table = _fill("dice", title, [_("Step"), title, *each], rows)
        colors = (_DICE_COLOR, *(_COLORS[n % len(_COLORS)] for n in range(len(names))))
        series = [_series(table, t, c) for t, c in zip((title, *each), colors, strict=True)]
        _updateChart(_DICE, title, _("Dice"), series)
        return series


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def charts() -> list:
    """The nodes of the existing plots: that of the losses, that of the hold-out Dice."""
    nodes = [taggedNodes.find("vtkMRMLPlotChartNode", _KIND, kind) for kind in (_LOSSES, _DICE)]
    return [node for node in nodes if node is not None]


def openCharts() -> None:
    """Show the plots in a layout with a view for each."""
    nodes = charts()
    if len(nodes) == 1:
        slicer.modules.plots.logic().ShowChartInLayout(nodes[0])
    elif nodes:
        layout = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
        if not layout.IsLayoutDescription(_LAYOUT):
            layout.AddLayoutDescription(_LAYOUT, _DESCRIPTION)
        layout.SetViewArrangement(_LAYOUT)
        for tag, node in zip(_VIEWS, nodes, strict=True):
            view = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLPlotViewNode")
            view.SetPlotChartNodeID(node.GetID())


def _node(className: str, kind: str, name: str):
    node = taggedNodes.findOrAdd(className, _KIND, kind, name)
    node.SetAttribute(results.OVERLAY, "1")
    return node


def _fill(kind: str, name: str, columns: list[str], rows: list[list[float]]):
    """Fill a table with at most `_MOST` of the rows, including the last one."""
    stride = max(1, -(-len(rows) // _MOST))
    rows = rows[::-1][::stride][::-1]
    node = _node("vtkMRMLTableNode", kind, name)
    taggedNodes.setColumns(node, vtk.vtkDoubleArray, columns, rows)
    return node


def _series(table, column: str, color: tuple[float, float, float]):
    node = _node("vtkMRMLPlotSeriesNode", f"series {column}", column)
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetXColumnName(table.GetTable().GetColumnName(0))
    node.SetYColumnName(column)
    node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    node.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
    node.SetColor(*color)
    return node


def _updateChart(kind: str, title: str, axis: str, series: list) -> None:
    """Show these series in the plot."""
    node = _node("vtkMRMLPlotChartNode", kind, title)
    node.SetTitle(title)
    node.SetXAxisTitle(_("Step"))
    node.SetYAxisTitle(axis)
    shown = [node.GetNthPlotSeriesNodeID(n) for n in range(node.GetNumberOfPlotSeriesNodes())]
    wanted = [item.GetID() for item in series]
    if shown == wanted:
        return
    node.RemoveAllPlotSeriesNodeIDs()
    for identifier in wanted:
        node.AddAndObservePlotSeriesNodeID(identifier)


def _removeOthers(series: list) -> None:
    """Remove the curves of a former run."""
    wanted = [item.GetID() for item in series]
    for other in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"):
        if other.GetAttribute(_KIND) and other.GetID() not in wanted:
            slicer.mrmlScene.RemoveNode(other)
    for chart in charts():
        if not chart.GetNumberOfPlotSeriesNodes():
            slicer.mrmlScene.RemoveNode(chart)
