"""Runs that did not come to their end, to be resumed or deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib import choices, runs
from UGMCLSegmentationLib.connections import Connections


class ResumeSection:
    """`onResume` is called with the run that the user chose."""

    def __init__(self, ui, connections: Connections, onResume: Callable[[runs.Run], None]) -> None:
        self._ui = ui
        self._onResume = onResume
        self._runs: list[runs.Run] = []
        connections.connect(ui.resumeButton, "clicked(bool)", self._onResumeClicked)
        connections.connect(ui.discardButton, "clicked(bool)", self._onDiscard)

    def refresh(self, underWay: Path | None) -> None:
        """Look for runs again; none is offered while one is under way."""
        self._runs = runs.unfinished() if underWay is None else []
        selector = self._ui.runSelector
        current = selector.itemData(selector.currentIndex)
        entries = [(run.text, str(run.folder), str(run.folder)) for run in self._runs]
        known = [entry[1] for entry in entries]
        choices.fill(selector, entries, current if current in known else next(iter(known), ""))
        for widget in (selector, self._ui.resumeButton, self._ui.discardButton):
            widget.setVisible(bool(entries))

    def _chosen(self) -> runs.Run | None:
        index = self._ui.runSelector.currentIndex
        return self._runs[index] if 0 <= index < len(self._runs) else None

    def _onResumeClicked(self, _checked: bool = False) -> None:
        run = self._chosen()
        if run is not None:
            self._onResume(run)

    def _onDiscard(self, _checked: bool = False) -> None:
        run = self._chosen()
        question = _("Delete this run and all that it learned?")
        if run is not None and slicer.util.confirmOkCancelDisplay(question):
            if not runs.isTaken(run.folder):  # else another Slicer has just resumed it
                runs.discard(run.folder)
            self.refresh(None)
