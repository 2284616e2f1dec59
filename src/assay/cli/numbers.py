"""Numbers as options take them: counts (1M), lists and ranges of learning rates, seeds."""

import math

from assay.errors import RequestError
from assay.parsing import parse_number

POINTS_PER_DECADE = 2
"""The points per decade in a range of learning rates: 1e-3..1e-2 is 0.001, 0.00316 and 0.01."""


def parse_count(option: str, text: str | int) -> int:
    """Read 300k, 1M, 1.5M, 2_000 or 2048 as a number of things."""
    number = parse_number(str(text))
    if not isinstance(number, int) or number < 1:
        raise RequestError(f"{option} {text}: a whole number above zero is needed, as in 300k, 1M or 2048")
    return int(number)


def parse_counts(option: str, text: str) -> list[int]:
    """Read 0.5M,1M,2M."""
    return [parse_count(option, part) for part in text.split(",")]


def parse_rates(option: str, text: str) -> list[float]:
    """Read 3e-3, a list (1e-3,3e-3), or a range: 1e-3..1e-2 has two points per decade and both ends, 1e-3..1e-2:5 five
    points in all.
    """
    if ".." not in text:
        return [_rate(option, text, part) for part in text.split(",")]
    ends, colon, asked = text.partition(":")
    low, high = (_rate(option, text, part) for part in ends.split("..", 1))
    if low == high:
        raise RequestError(f"{option} {text}: the range has one point; {low:g} would do")
    if low > high:
        raise RequestError(f"{option} {text}: the range ends below where it begins; {high:g}..{low:g} would do")
    points = max(2, round(POINTS_PER_DECADE * math.log10(high / low)) + 1)
    if colon:
        points = parse_count(option, asked)
    if points < 2:
        raise RequestError(f"{option} {text}: a range has at least two points, its ends")
    return [float(f"{low * (high / low) ** (index / (points - 1)):.3g}") for index in range(points)]


def _rate(option: str, text: str, part: str) -> float:
    number = parse_number(part)
    if number is None or not 0 < number < math.inf:
        raise RequestError(f"{option} {text}: {part!r} is no number above zero; 3e-3, 1e-3,3e-3 or 1e-3..1e-2 would do")
    return float(number)


def parse_seeds(text: str) -> list[int]:
    """ "3" counts seeds 0, 1, 2; "0,5,7" names them."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise RequestError(f"--seeds {text}: a count (3) or a list (0,5,7) of whole numbers is needed")
    if "," in text:
        return [int(part) for part in parts]
    if int(parts[0]) < 1:
        raise RequestError(f"--seeds {text}: at least one seed is needed")
    return list(range(int(parts[0])))


def parse_looks(text: str) -> list[int]:
    """Read 5,8,12: numbers of seeds."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise RequestError(f"--looks {text}: ascending numbers of seeds are needed, as in 5,8,12")
    return [int(part) for part in parts]


def parse_seed(text: str) -> int:
    """One seed, zero or more."""
    if not text.strip().isdigit():
        raise RequestError(f"--seed {text}: a whole number, zero or more, is needed")
    return int(text)


def parse_names(option: str, text: str) -> list[str]:
    """The names of a comma list; one that names nothing is a RequestError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise RequestError(f"{option} {text!r}: names nothing; one of `assay list measurements` would do")
    return names
