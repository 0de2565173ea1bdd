"""What only the application has: the plot view, the Segment Editor, a browser. One call each."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer


def showChart(chartNode) -> None:
    """Show the plot, in a layout that has a plot view."""
    slicer.modules.plots.logic().ShowChartInLayout(chartNode)


def openSegmentEditor(segmentationNode, volumeNode) -> None:
    """Edit the segmentation over its volume in Slicer's own editor."""
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSegmentationNode(segmentationNode)
    editor.setSourceVolumeNode(volumeNode)


def openFile(path: Path) -> None:
    """In the program that the system uses for such files."""
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
