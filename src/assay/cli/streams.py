"""The standard streams and the arguments as the process got them: made whole, or refused, before anything is read."""

import os
import sys
from collections.abc import Sequence

from assay.errors import RequestError
from assay.parsing import unreadable

PATHS = {"--out", "--to", "--config", "--plugin", "--tokenizer", "--corpus"}
"""Options that take a path."""


def open_missing() -> None:
    """Open each standard descriptor that is closed on the null device; else the next file would get its number.

    Child processes inherit them. What a stream cannot encode is written as an escape.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if number and hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def tell(text: str) -> None:
    """Write a line on standard error; where nobody reads it any more, or it is full, the command goes on without."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # a ValueError where it was closed
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def refuse_unreadable(arguments: Sequence[str]) -> None:
    """Raise a RequestError that names the option, where an argument is no text (not UTF-8, half a surrogate pair).

    An empty path is one too: it would be the working folder, as where a variable of a script is not set.
    """
    for place, argument in enumerate(arguments):
        option, equals, text = argument.partition("=")
        before = arguments[place - 1] if place else ""
        if (equals and not text and option in PATHS) or (not argument and before in PATHS):
            raise RequestError(f"{option or before}: '' given, an empty path; the name of a file or folder would do")
        if not argument and not before.startswith("-"):
            raise RequestError(f"argument {place + 1}: '' given, an empty text, which names nothing")
        if (why := unreadable(argument)) is None:
            continue
        if not argument.startswith("-") or not equals or unreadable(option) is not None:
            option, text = before if before.startswith("-") else f"argument {place + 1}", argument
        raise RequestError(f"{option}: {text!a} given, {unreadable(text) or why}; text in UTF-8 would do")
