"""slicer.i18n without translations: texts come back as they are."""

from __future__ import annotations

from slicer import app


def translate(context: str, text: str) -> str:
    return app.translate(context, text)


def tr(text: str) -> str:
    # The genuine function derives the context from the caller's file; it makes no difference
    # while no translation is installed.
    return translate("", text)
