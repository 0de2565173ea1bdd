"""Models trained by other programs. Their settings are converted to a card of this program, so the
same windows, views and overlays work for them. They can segment, but not be trained further."""
