"""The one exception that means "the request is wrong": its text is the one line a user reads."""


class RequestError(ValueError):
    """A request that cannot be met. The message names the option, what was given and what would do."""
