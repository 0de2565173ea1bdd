"""Errors that the panel shows as a message."""


class PanelError(RuntimeError):
    """Its message explains the problem and what to do."""
