"""The Display section of the panel: which result is shown, and which parts of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from UGMCLSegmentationLib.panel import messages
from UGMCLSegmentationLib.panel.display import appearance, coloredSurface, surfaces
from UGMCLSegmentationLib.panel.display.doubtfulSpots import ReviewSection
from UGMCLSegmentationLib.panel.qtHelpers import Connections, fill
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import corrections, results, segmentStatistics
from UGMCLSegmentationLib.scene.overlays import OVERLAYS
from UGMCLSegmentationLib.scene.resultNodes import isInScene
from UGMCLSegmentationLib.worker.incremental import Deadline

_SHOWN = (
    *("shownClass", "showSegmentation", "segmentationOpacity", "showSurface", "showLegends"),
    *(name for o in OVERLAYS for name in (o.shownParameter, o.opacityParameter)),
)  # parameters
_PAUSE = 0.5  # seconds after an edit: a stroke is many of them


class DisplaySection(VTKObservationMixin):
    def __init__(self, ui, connections: Connections) -> None:
        VTKObservationMixin.__init__(self)
        self._ui = ui
        self._parameters: Parameters | None = None
        self._applied: tuple | None = None
        self._review = ReviewSection(ui, connections)
        self._stopwatch = corrections.Stopwatch()
        self._shown = corrections.Watch(lambda _node: self._later.start(_PAUSE))
        self._tabled = corrections.Watch(lambda _node: self._onTabledChanged())
        self._later = Deadline(self._followEdits)
        self._updating = False
        ui.resultSelector.setMRMLScene(slicer.mrmlScene)
        ui.resultSelector.addAttribute(
            "vtkMRMLSegmentationNode", results.ROLE, results.SEGMENTATION
        )
        for button, slot in (
            (ui.segmentStatisticsButton, self._onSegmentStatistics),
            (ui.resultsTableButton, self._onResultsTable),
        ):
            connections.connect(button, "clicked(bool)", slot)
        connections.connect(ui.classSelector, "currentIndexChanged(int)", self._onClassChanged)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        if parameters is None:
            self._observe(None)
            self._later.stop()
            coloredSurface.hide()
        hasTable = parameters is not None and segmentStatistics.shownTable() is not None
        self._tabled.follow(results.find(results.SEGMENTATION) if hasTable else ())
        self._review.setParameters(parameters)
        self.refresh()

    def show(self, segmentationNode) -> None:
        """Show this result instead of the one shown now; it may be the same with new contents."""
        with self._changing():
            self._parameters.segmentation = segmentationNode
        appearance.showAlone(segmentationNode)
        self.refresh()

    def onAccepted(self) -> None:
        """The user accepted the result that is shown."""
        self._review.tickAll()

    def refresh(self) -> None:
        """Show everything again because the result or the scene changed."""
        self._applied = None
        self._later.stop()
        if self._tabled.nodes and {*self._tabled.nodes} != {*results.find(results.SEGMENTATION)}:
            self._onTabledChanged()
        self._review.refresh()
        self.update()

    def update(self) -> None:
        parameters = self._parameters
        if parameters is None or self._updating:
            return
        node = parameters.segmentation
        if not isInScene(node):  # just removed: the parameter node drops it a little later
            node = None
        settings = self._settings(node)
        if settings == self._applied:
            return
        if self._applied is not None and self._applied[0] != settings[0]:
            self._applied = settings
            appearance.showAlone(node)
            self.refresh()
            return
        self._observe(node)
        self._limitSurface(node, isUserChange=self._applied is not None)
        self._applied = self._settings(node)
        self._showClasses(node)
        self._showStatistics(node)
        appearance.apply(node, parameters)

    def _observe(self, node) -> None:
        """Watch the voxels of this result, and of no other."""
        segmentation = node.GetSegmentation() if node is not None else None
        event = slicer.vtkSegmentation.SourceRepresentationModified
        if segmentation is None or not self.hasObserver(segmentation, event, self._onEdited):
            self.removeObservers()
            self._shown.follow((node,))
            self._stopwatch.start(node)
            if segmentation is not None:
                self.addObserver(segmentation, event, self._onEdited)

    def _onEdited(self, _caller, _event) -> None:
        """The colors of the surface are those of the run, so an edited one is plain."""
        node = self._parameters.segmentation if self._parameters is not None else None
        if isInScene(node) and not self._updating:
            self._stopwatch.tick()
            self._review.onEdited()
            appearance.applySurface(node, self._parameters, isEdited=True)

    def _settings(self, node) -> tuple:
        return (node.GetID() if node else "", *(getattr(self._parameters, n) for n in _SHOWN))

    def _limitSurface(self, node, isUserChange: bool) -> None:
        """Do not make a surface that takes long, unless the user ticked its box while this result
        was shown. The box is ticked again for the next result."""
        parameters = self._parameters
        isLeftOut = parameters.surfaceLeftOut
        isWanted = parameters.showSurface or isLeftOut
        if isUserChange:
            isLeftOut &= not parameters.showSurface
        else:
            count = 0
            if isWanted and node is not None and not surfaces.isMade(node):
                count = surfaces.faces(node)
            isLeftOut = count > surfaces.MOST_FACES
            self._ui.surfaceLabel.text = _(
                "The surface is rough (about {count} faces), so making it takes long. Tick 3D "
                "surface to show it anyway."
            ).format(count=count)
        with self._changing():
            parameters.surfaceLeftOut = isLeftOut
            if not isUserChange:
                parameters.showSurface = isWanted and not isLeftOut
        self._ui.surfaceLabel.setVisible(isLeftOut)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Ignore the events of changes that this section makes itself."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    def _onClassChanged(self, index: int) -> None:
        if self._parameters is not None and index >= 0:
            self._parameters.shownClass = int(self._ui.classSelector.itemData(index))

    def _showClasses(self, node) -> None:
        classes = results.summary(node).get("classes", [])
        values = [info["value"] for info in classes]
        shown = self._parameters.shownClass
        shown = shown if shown in values else next(iter(values), None)
        fill(self._ui.classSelector, [(c["name"], c["value"], "") for c in classes], shown)
        for widget in (self._ui.classLabel, self._ui.classSelector):
            widget.setVisible(len(classes) > 1)

    def _onSegmentStatistics(self, _checked: bool = False) -> None:
        segmentStatistics.openModule(self._parameters.segmentation)

    def _onResultsTable(self, _checked: bool = False) -> None:
        node = segmentStatistics.table()
        if node is not None:
            self._tabled.follow(results.find(results.SEGMENTATION))
            segmentStatistics.show(node)

    def _onTabledChanged(self) -> None:
        """The table is not of what is there now: it is filled anew on request."""
        self._tabled.follow(())
        segmentStatistics.markOutdated()

    def _followEdits(self) -> None:
        node = self._parameters.segmentation if self._parameters is not None else None
        if isInScene(node):
            self._showStatistics(node)
            if self._parameters.showSurface:
                surfaces.make(node)

    def _showStatistics(self, node) -> None:
        for button in (self._ui.segmentStatisticsButton, self._ui.resultsTableButton):
            button.setVisible(node is not None)
        lines = segmentStatistics.lines(node)
        messages.show(self._ui.statisticsLabel, "\n".join(lines))
