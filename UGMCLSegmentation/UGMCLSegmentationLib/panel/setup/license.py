"""The agreement to a model's license before its first use, once for each text."""

from __future__ import annotations

import hashlib

import slicer
from slicer.i18n import tr as _

from UGMCLSegmentationLib.panel.models import models

KEY = "UGMCLSegmentation/AcknowledgedLicenses"
_NOTICE = "NOTICE.txt"


def acknowledge(name: str) -> bool:
    """Show the license of the model of that name unless the user has agreed to it before.

    Fine-tuned models carry their base's license and need no second agreement. Returns whether
    the model may be used.
    """
    if slicer.app.testingEnabled():
        return True  # nobody could answer
    model = next((m for m in models.find() if m.name == name), None)
    if model is None or not model.card.license:
        return True
    mark = hashlib.sha256(model.card.license.encode()).hexdigest()[:16]
    settings = slicer.app.settings()
    marks = str(settings.value(KEY, "")).split()
    if mark in marks:
        return True
    try:
        details = (model.folder / _NOTICE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        details = model.card.intended_use
    text = _("{name}: {license}\n\nFor research, not for clinical use. Do you agree?").format(
        name=name, license=model.card.license
    )
    if not slicer.util.confirmOkCancelDisplay(
        text, _("License of the model"), detailedText=details
    ):
        return False
    settings.setValue(KEY, " ".join([*marks, mark]))
    return True
