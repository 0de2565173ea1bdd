"""The See section of the panel: what of the result is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel.display import appearance, surfaces
from UGMCLSegmentationLib.panel.display.uncertainRegions import ReviewSection
from UGMCLSegmentationLib.panel.qtHelpers import Connections
from UGMCLSegmentationLib.parameters import Parameters
from UGMCLSegmentationLib.scene import labelmaps, results
from UGMCLSegmentationLib.scene.overlays import OVERLAYS
from UGMCLSegmentationLib.scene.resultNodes import isInScene

_SHOWN = (
    *("shownClass", "showSegmentation", "segmentationOpacity", "showSurface", "showLegends"),
    *(name for o in OVERLAYS for name in (o.shownParameter, o.opacityParameter)),
)  # parameters


class SeeSection:
    def __init__(self, ui, connections: Connections) -> None:
        self._ui = ui
        self._parameters: Parameters | None = None
        self._applied: tuple | None = None
        self._review = ReviewSection(ui, connections)
        self._updating = False
        self._ui.resultSelector.addAttribute(
            "vtkMRMLSegmentationNode", results.ROLE, results.SEGMENTATION
        )
        connections.connect(ui.classSelector, "currentIndexChanged(int)", self.onClassChanged)

    def setParameters(self, parameters: Parameters | None) -> None:
        self._parameters = parameters
        self._review.setParameters(parameters)
        self.refresh()

    def refresh(self) -> None:
        """The result itself changed, or the scene did: show everything anew."""
        self._applied = None
        self._review.refresh()
        self.update()

    def update(self) -> None:
        """Follow the parameter node."""
        parameters = self._parameters
        if parameters is None or self._updating:
            return
        node = parameters.segmentation
        if not isInScene(node):  # removed just now: the reference goes a little later
            node = None
        settings = self._settings(node)
        if settings == self._applied:
            return
        if self._applied is not None and self._applied[0] != settings[0]:
            self._applied = settings
            appearance.showAlone(node)
            self.refresh()
            return
        self._boundSurface(node, isAsked=self._applied is not None)
        self._applied = self._settings(node)
        self._updateClasses(node)
        self._updateMeasures(node)
        appearance.apply(node, parameters)

    def _settings(self, node) -> tuple:
        return (node.GetID() if node else "", *(getattr(self._parameters, n) for n in _SHOWN))

    def _boundSurface(self, node, isAsked: bool) -> None:
        """Leave out a surface that takes long, unless the user asked for it by ticking its box
        while this result was shown; the box is ticked again for the next result."""
        parameters = self._parameters
        isLeftOut = parameters.surfaceLeftOut
        isWanted = parameters.showSurface or isLeftOut
        if isAsked:
            isLeftOut &= not parameters.showSurface
        else:
            count = 0
            if isWanted and node is not None and not surfaces.isMade(node):
                count = surfaces.faces(node)
            isLeftOut = count > surfaces.MOST_FACES
            self._ui.surfaceLabel.text = _(
                "The surface is rough, of about {count} faces, and takes long to make: tick "
                "3D surface to see it all the same."
            ).format(count=count)
        with self._changing():
            parameters.surfaceLeftOut = isLeftOut
            if not isAsked:
                parameters.showSurface = isWanted and not isLeftOut
        self._ui.surfaceLabel.setVisible(isLeftOut)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """While this section changes the parameters or its widgets itself."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    def onClassChanged(self, index: int) -> None:
        if not self._updating and self._parameters is not None and index >= 0:
            self._parameters.shownClass = int(self._ui.classSelector.itemData(index))

    def _updateClasses(self, node) -> None:
        classes = results.summary(node).get("classes", [])
        with self._changing():
            self._ui.classSelector.clear()
            for info in classes:
                self._ui.classSelector.addItem(info["name"], info["value"])
            index = self._ui.classSelector.findData(self._parameters.shownClass)
            self._ui.classSelector.currentIndex = index if index >= 0 else min(0, len(classes) - 1)
        for widget in (self._ui.classLabel, self._ui.classSelector):
            widget.setVisible(len(classes) > 1)

    def _updateMeasures(self, node) -> None:
        lines = labelmaps.lines(node)
        self._ui.measureLabel.text = "\n".join(lines)
        self._ui.measureLabel.setVisible(bool(lines))
        self._review.update()
