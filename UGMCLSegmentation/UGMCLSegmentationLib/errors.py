"""What the user sees as one line in the panel."""


class PanelError(RuntimeError):
    """Its message says what is wrong and what to do."""
