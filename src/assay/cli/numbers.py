"""Numbers as options take them: counts (1M), lists and ranges of learning rates, seeds."""

import math

from assay.errors import RequestError
from assay.parsing import parse_number

POINTS_PER_DECADE = 2
"""The points per decade in a range of learning rates: 1e-3..1e-2 is 0.001, 0.00316 and 0.01."""

MOST_SEEDS = 10_000
"""As many runs of an arm as nobody waits for."""


def parse_count(option: str, text: str | int) -> int:
    """Read 300k, 1M, 1.5M or 2048 as a number of things."""
    number = parse_number(str(text))
    if not isinstance(number, int) or number < 1:
        raise RequestError(f"{option} {_shown(text)}: a whole number above zero is needed, as in 300k, 1M or 2048")
    return int(number)


def _shown(text: str | int) -> str:
    """What was given, in quotes where it could not be seen."""
    return str(text) if str(text).strip() else repr(text)


def parse_counts(option: str, text: str) -> list[int]:
    """Read 0.5M,1M,2M."""
    if "," not in text:
        return [parse_count(option, text)]
    return [parse_count(f"{option} {text}:", part) for part in text.split(",")]


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


def parse_seeds(option: str, text: str) -> list[int]:
    """ "3" counts seeds 0, 1, 2; "0,5,7" names them."""
    if "," in text:
        seeds = [_seed(part) for part in text.split(",") if part.strip()]
        if seeds and None not in seeds:
            return [seed for seed in seeds if seed is not None]
    elif (count := _seed(text)) is not None:
        if count < 1:
            raise RequestError(f"{option} {text}: at least one seed is needed")
        if count > MOST_SEEDS:
            raise RequestError(
                f"{option} {text}: counts seeds, at most {MOST_SEEDS:,}; 5 would do, and 0,{text} names two"
            )
        return list(range(count))
    raise RequestError(f"{option} {_shown(text)}: a count (3) or a list (0,5,7) of whole numbers is needed")


def parse_looks(option: str, text: str) -> list[int]:
    """Read 5,8,12: numbers of seeds."""
    looks = [_seed(part) for part in text.split(",")]
    if any(look is None or look > MOST_SEEDS for look in looks):
        raise RequestError(f"{option} {_shown(text)}: ascending numbers of seeds are needed, as in 5,8,12")
    return [look for look in looks if look is not None]


def parse_seed(text: str) -> int:
    """One seed, zero or more."""
    seed = _seed(text)
    if seed is None:
        raise RequestError(f"--seed {_shown(text)}: a whole number, zero or more, is needed")
    return seed


def _seed(text: str) -> int | None:
    number = parse_number(text)
    return number if isinstance(number, int) and number >= 0 else None


def parse_real(option: str, text: str) -> float:
    """Any number, as in 0.9."""
    number = parse_number(text)
    if number is None:
        raise RequestError(f"{option} {_shown(text)}: a number is needed, as in 0.9")
    return float(number)


def parse_names(option: str, text: str) -> list[str]:
    """The names of a comma list; one that names nothing is a RequestError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise RequestError(f"{option} {text!r}: names nothing; one of `assay list measurements` would do")
    return names
