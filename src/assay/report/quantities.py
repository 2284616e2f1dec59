"""Numbers as people read them: 1.02M, 3.10 MFLOP, 48.0 kB, 12.3k tok/s; steps of 1000, three digits."""

import math
from collections.abc import Callable, Mapping

from assay.records import Column, Interval
from assay.records.measurement import Format

MISSING = "-"


def count(number: float) -> str:
    """412, 12.3k, 1.02M."""
    value, prefix = _scaled(number)
    return f"{value}{prefix}"


def flops(number: float) -> str:
    """3.10 MFLOP."""
    value, prefix = _scaled(number)
    return f"{value} {prefix}FLOP"


def bytes_(number: float | None) -> str:
    """48.0 kB; None is what could not be measured."""
    if number is None:
        return "not measured"
    value, prefix = _scaled(number)
    return f"{value} {prefix}B"


def rate(tokens_per_second: float) -> str:
    """12.3k tok/s."""
    return f"{count(tokens_per_second)} tok/s"


def percent(share: float) -> str:
    """95%, 99.5%."""
    return f"{100 * share:.4g}%"


def nats(number: float) -> str:
    """Nats or bits, three decimals: the seeds of a small model spread in the second or third."""
    return f"{round(number, 3) + 0.0:.3f}"  # never -0.000


def with_ends(of: Interval, signed: bool = False) -> str:
    """2.104 (2.090 to 2.118), or -0.031 (-0.050 to -0.012); without ends where there are none."""
    mean, low, high = (
        None if end is None else f"{end:+.3f}" if signed else nats(end) for end in (of.mean, of.low, of.high)
    )
    return f"{mean}" if low is None or high is None else f"{mean} ({low} to {high})"


def perplexity(number: float) -> str:
    """Four digits: 12.34, 167.8, 9,876."""
    if not math.isfinite(number):
        return "inf"
    decimals = max(0, 3 - math.floor(math.log10(number))) if number >= 1 else 3
    return f"{number:,.{min(decimals, 2)}f}" if number < 1e6 else f"{number:.2e}"


def ratio(number: float | None) -> str:
    """7.21x; a dash where it was not measured."""
    if number is None:
        return MISSING
    return f"{_three_digits(number)}x" if number < 1e5 else f"{number:.2e}x"


def digits(number: float) -> str:
    """Three digits, of any magnitude: 0.0204, 12.3, 5.80e-05."""
    return f"{number:#.3g}".rstrip(".")


def interval(over_seeds: Interval, form: Callable[[float], str], to: str = "-") -> str:
    """Both ends, or a dash with fewer than two seeds."""
    if over_seeds.low is None or over_seeds.high is None:
        return MISSING
    return f"{form(over_seeds.low)}{to}{form(over_seeds.high)}"


FORMS: Mapping[Format, Callable[[float], str]] = {
    "nats": nats,
    "perplexity": perplexity,
    "ratio": ratio,
    "number": digits,
    "count": count,
    "percent": percent,
    "bytes": bytes_,
    "flops": flops,
    "rate": rate,
    "text": str,
}
"""How a column of each format is written."""


def written(column: Column | None) -> str:
    """The value or the text of a column; a dash where there is none."""
    if column is None:
        return MISSING
    if column.format == "text":
        return MISSING if column.text is None else column.text.lower()
    return MISSING if column.value is None else FORMS[column.format](column.value)


def ends(column: Column) -> str:
    """Both ends of a column's interval or range, without the unit of a rate; empty where it has none."""
    if column.low is None or column.high is None:
        return ""
    form = count if column.format == "rate" else FORMS[column.format]
    low = form(column.low)
    return f"{low}{' to ' if low.startswith('-') else '-'}{form(column.high)}"


def _scaled(number: float) -> tuple[str, str]:
    """Three digits and a prefix; whole numbers below 1000 as they are."""
    if abs(number) < 1000 and float(number).is_integer():
        return str(int(number)), ""
    for prefix in ("", "k", "M", "G", "T"):
        text = _three_digits(number)
        if "," not in text:
            return text, prefix
        number /= 1000
    return _three_digits(number), "P"


def _three_digits(number: float) -> str:
    if abs(number) >= 999.5:
        return f"{number:,.0f}"
    return f"{number:#.3g}".rstrip(".")
