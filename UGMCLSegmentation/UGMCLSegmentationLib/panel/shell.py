"""What the sections need of the panel that they are in.

The panel calls a section's `setParameters` with another parameter node or None, its `update` when
the node changed, and its `refresh` when something outside of it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from UGMCLSegmentationLib.panel.qtHelpers import Connections

if TYPE_CHECKING:
    from UGMCLSegmentationLib.logic import UGMCLSegmentationLogic


class Shell(Protocol):
    """The panel: its widgets, its connections, its logic, and what it does for all sections."""

    ui: Any
    connections: Connections
    logic: UGMCLSegmentationLogic

    @property
    def isEntered(self) -> bool:
        """Whether the panel is open, so that it may change the views."""

    def isReady(self, model: str = "", device: str = "") -> bool:
        """Whether a run with that model on that device can start, after all confirmations. Raises
        PanelError if the user did not accept its license, or to send images to the device."""

    def updateButtons(self) -> None:
        """A run started or ended."""

    def showResult(self, segmentationNode) -> None:
        """Show the result of a run; later if another module is open."""

    def onAccepted(self) -> None:
        """The user accepted the result that is shown."""

    def onNewModel(self, key: str, isSelected: bool) -> None:
        """A run trained a model; select it if `isSelected`."""
