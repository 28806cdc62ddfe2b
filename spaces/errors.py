"""The base class of errors that the user can fix."""


class UserError(ValueError):
    """Something that the user wrote or pointed to does not work.

    The message is for the user. It names the thing and the way out, with a line for each mistake.
    The command line prints it and exits with 2.
    """
