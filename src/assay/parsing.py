"""Numbers as a person writes them, as 1M, and which texts can be written and read again."""

import re
from decimal import Decimal, localcontext

LARGEST = 2**63 - 1
"""The largest number that is read, so that no whole one is rounded or overflows on its way."""
LONGEST = 40
"""Characters of a number: more digits than any float tells apart."""

PLAIN = r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(rf"({PLAIN}(?:[eE][-+]?[0-9]{{1,3}})?)([kKmMgGbB]?)")
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def parse_number(text: str) -> int | float | None:
    """300k, 1M, 1.5M, 2048, 0.1 or 1e-3 as a number, whole where it is one; None where it is none.

    Digits are ASCII, without _ and leading zeros; up to LARGEST in size, and never rounded to zero.
    """
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if match is None:
        return None
    with localcontext(prec=2 * LONGEST):
        number = Decimal(match[1]) * _FACTORS[match[2].lower()]
        if abs(number) > LARGEST:
            return None
        if number == number.to_integral_value():
            return int(number)
    value = float(number)
    return value if value else None


def unreadable(text: str) -> str | None:
    """What makes `text` no text that can be written and read again, or None: half a surrogate pair, a zero byte.

    Bytes of a command line that are not UTF-8 are surrogates U+DC80 to U+DCFF in Python.
    """
    for place, letter in enumerate(text):
        after = f" after {place} character{'' if place == 1 else 's'}"
        if "\ud800" <= letter <= "\udfff":
            byte = ord(letter) - 0xDC00
            what = f"not UTF-8 (0x{byte:02x})" if 0x80 <= byte <= 0xFF else f"half a surrogate pair (U+{ord(letter):X})"
            return f"{what}{after}"
        if letter == "\0":
            return f"a zero byte{after}"
    return None
