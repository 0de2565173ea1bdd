"""Keys for frequent actions. They work while the module is open, wherever the focus is."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.scene.overlays import OVERLAYS

KEYS = (
    ("Alt+G", "segmentButton"),
    ("Alt+1", "showSegmentationCheckBox"),
    *((overlay.shortcut, overlay.checkBox) for overlay in OVERLAYS if overlay.shortcut),
    ("Alt+N", "nextSpotButton"),
)


class Shortcuts:
    """Each clicks a button of the panel, and does nothing while that button is disabled."""

    def __init__(self, ui, panel) -> None:
        parent = slicer.util.mainWindow() or panel
        self._made = []
        for key, name in KEYS:
            button = getattr(ui, name)
            shortcut = qt.QShortcut(parent)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", button.click)
            self._made.append((shortcut, button.click))
            if name.startswith("show"):  # the other buttons' tooltips change with their state
                # Slicer wraps a tooltip in a paragraph: appended text would be outside of it
                text = button.toolTip.removeprefix("<p>").removesuffix("</p>").rstrip(".")
                button.toolTip = _("{text} ({key})").format(text=text, key=key)
        self.setEnabled(False)

    def setEnabled(self, isOn: bool) -> None:
        for shortcut, _slot in self._made:
            shortcut.setEnabled(isOn)

    def close(self) -> None:
        """The main window outlives the panel."""
        while self._made:
            shortcut, slot = self._made.pop()
            shortcut.disconnect("activated()", slot)
            shortcut.setParent(None)
            shortcut.deleteLater()
