"""Errors of a search as a whole."""

from spaces.errors import UserError


class BrokenOffError(UserError):
    """The search could not go on; once the cause is gone, --resume does."""
