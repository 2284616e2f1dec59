"""Numbers as people read them."""

import math

import pytest

from assay.records import Column, Interval
from assay.report import quantities

COUNTS: dict[float, str] = {0: "0", 412: "412", 999: "999", 1000: "1.00k", 12_345: "12.3k", 999_499: "999k"}
COUNTS |= {999_600: "1.00M", 1_020_480: "1.02M", 4_370_832: "4.37M", 0.5: "0.500", 5e12: "5.00T", 2e18: "2,000P"}
PERPLEXITIES = {1.5: "1.50", 12.345: "12.35", 167.84: "167.8", 9876.5: "9,876", 16e3: "16,000", 3e7: "3.00e+07"}
PERPLEXITIES |= {math.inf: "inf"}


@pytest.mark.parametrize(("number", "text"), COUNTS.items())
def test_count(number: float, text: str) -> None:
    assert quantities.count(number) == text


def test_units() -> None:
    assert quantities.flops(3_100_000) == "3.10 MFLOP"
    assert quantities.bytes_(48_000) == "48.0 kB"
    assert quantities.bytes_(412_000_000) == "412 MB"
    assert quantities.bytes_(0) == "0 B"
    assert quantities.bytes_(None) == "not measured"
    assert quantities.rate(12_345.6) == "12.3k tok/s"


@pytest.mark.parametrize(("number", "text"), PERPLEXITIES.items())
def test_perplexity(number: float, text: str) -> None:
    assert quantities.perplexity(number) == text


def test_ratio_and_interval() -> None:
    assert [quantities.ratio(value) for value in (None, 7.21, 514.2, 1808, 1e6)] == [
        "-",
        "7.21x",
        "514x",
        "1,808x",
        "1.00e+06x",
    ]
    assert quantities.interval(Interval(mean=4.0, low=3.9, high=4.1), quantities.nats) == "3.900-4.100"
    assert quantities.interval(Interval(mean=4.0, low=None, high=None), quantities.nats) == "-"


@pytest.mark.parametrize(("low", "high", "text"), [(0.1, 0.2, "0.100-0.200"), (-0.1, 0.2, "-0.100 to 0.200")])
def test_the_ends_of_a_column(low: float, high: float, text: str) -> None:
    ends = Column(key="gain", head="gain", format="nats", low=low, high=high)
    assert quantities.ends(ends) == text
    assert quantities.ends(ends.model_copy(update={"low": -1e-5})) == f"0.000-{high:.3f}"
