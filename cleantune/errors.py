"""The one error a person is meant to read."""


class UserError(Exception):
    """What is wrong, where, and the way out, in words for the person at the console.

    A stage raises it for anything outside its own code: a file, a param, a disk, a network.
    ``cleantune.console.run`` prints it without a traceback and exits with status 1.
    """
