"""The one base of errors that are the user's to mend."""


class UserError(ValueError):
    """Something that the user wrote or pointed to does not work.

    The message is for the user: it names the thing and the way out, a line for each mistake. The
    command line prints it and exits with 2.
    """
