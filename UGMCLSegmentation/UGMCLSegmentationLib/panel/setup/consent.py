"""The agreement to send images to another computer, once for each."""

from __future__ import annotations

from dataclasses import replace

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.storage import computers


def agreed(destination: str) -> bool:
    """Ask whether images may be sent to the computer, unless the user has agreed before. Returns
    whether they may."""
    computer = computers.find(destination)
    if computer.isAgreed or slicer.app.testingEnabled():  # in tests nobody could answer
        return True
    text = _(
        "The work is done on {name}, over ssh. These are sent there:\n\n"
        "\u2022 to segment and to rank: the voxels of the volume, or of its region, and the "
        "model\n"
        "\u2022 to fine-tune: the voxels and the labels of the cases with their names, and the "
        "base model; Keep learning also sends each case that you accept later\n\n"
        "They lie in a folder there that only your account can read. Images are removed after "
        "use; models, and a training until its end is fetched, stay in ~/.ugmcl.\n\n"
        "May they be sent to {name}?"
    ).format(name=destination)
    if not slicer.util.confirmOkCancelDisplay(text, _("Another computer")):
        return False
    computers.save(replace(computer, isAgreed=True))
    return True
