"""Errors of a search as a whole."""

from spaces.errors import UserError


class BrokenOffError(UserError):
    """The search had to stop. Once the cause is gone, --resume continues it."""
