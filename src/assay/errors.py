"""Exceptions whose text is the one line that a user reads."""

WRONG_REQUEST = 2
"""Exit status of a process, the command's or a worker's, that a RequestError has ended."""


class RequestError(ValueError):
    """A request that cannot be met. The message names the option, what was given and what would do."""


class WorkerError(Exception):
    """Runs that could not be finished, each with the last lines of its worker processes' output."""
