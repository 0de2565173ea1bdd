"""The errors that a user sees: one line saying what is wrong, where, and what to do."""


class InputError(ValueError):
    """Something that the user gave cannot be used; the message is shown as it is."""


class Cancelled(Exception):
    """The user asked to stop; nothing half-written is left behind."""
