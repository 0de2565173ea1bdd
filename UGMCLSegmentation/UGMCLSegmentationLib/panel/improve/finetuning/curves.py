"""The curves of a run in a plot of the scene: a table each for the losses and the hold-out Dice.

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


def _words(term: str) -> str:
    """What a term of the objective is called in the plot, whose legend cuts long names."""
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
        self._dice: list[tuple[int, float]] = []
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
            self._dice.append((step, float(event["dice"])))

    def showSoon(self) -> None:
        if time.monotonic() - self._shownAt >= _PAUSE:
            self.show()
        elif not self._later.isRunning:
            self._later.start(_PAUSE)

    def show(self) -> None:
        """Update the nodes."""
        self._later.stop()
        self._shownAt = time.monotonic()
        if slicer.mrmlScene.IsClosing() or not (self._losses or self._dice):
            return
        names = list(dict.fromkeys(name for _step, terms in self._losses for name in terms))
        missing = float("nan")
        losses = [[step, *(terms.get(n, missing) for n in names)] for step, terms in self._losses]
        titles = [_words(name) for name in names]
        table = _fill("losses", _("Fine-tuning losses"), [_("Step"), *titles], losses)
        colors = (_COLORS[n % len(_COLORS)] for n in range(len(titles)))
        series = [_series(table, t, c) for t, c in zip(titles, colors, strict=True)]
        if self._dice:
            title = _("Hold-out Dice")
            dice = _fill("dice", title, [_("Step"), title], [list(row) for row in self._dice])
            series.append(_series(dice, title, _DICE_COLOR))
        _updateChart(series)


def chart():
    """The node of the plot, or None."""
    return taggedNodes.find("vtkMRMLPlotChartNode", _KIND, "chart")


def openChart() -> None:
    """Show the plot, if there is one, in a layout with a plot view."""
    node = chart()
    if node is not None:
        slicer.modules.plots.logic().ShowChartInLayout(node)


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


def _updateChart(series: list) -> None:
    """Show these series in the plot and remove those of a former run."""
    node = _node("vtkMRMLPlotChartNode", "chart", _("Fine-tuning"))
    node.SetTitle(_("Fine-tuning"))
    node.SetXAxisTitle(_("Step"))
    node.SetYAxisTitle(_("Loss and Dice"))
    shown = [node.GetNthPlotSeriesNodeID(n) for n in range(node.GetNumberOfPlotSeriesNodes())]
    wanted = [item.GetID() for item in series]
    if shown == wanted:
        return
    node.RemoveAllPlotSeriesNodeIDs()
    for identifier in wanted:
        node.AddAndObservePlotSeriesNodeID(identifier)
    for other in slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode"):
        if other.GetAttribute(_KIND) and other.GetID() not in wanted:
            slicer.mrmlScene.RemoveNode(other)
