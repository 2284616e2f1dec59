"""Bits saved per second are the right way up where document 004's ratio is not."""

import math

import pytest

from assay.analysis.efficiency import efficiency
from assay.records.inference import ArmInference, Timing


def arm(prefill: float | None, generation: float = 0.01) -> ArmInference:
    def timing(seconds: float | None) -> Timing | None:
        return None if seconds is None else Timing(median=seconds, low=0.8 * seconds, high=1.2 * seconds, repeats=3)

    return ArmInference(
        prefill=timing(prefill), generation=timing(generation), training_step=None, weight_bytes=1, peak_bytes=None,
        contexts=[], time_growth=None, step_growth=None, memory_growth=None,
    )  # fmt: skip


def test_the_formula() -> None:
    found = efficiency("a", math.log(4), math.log(16), arm(0.5), 1024)
    assert found.bits_saved_per_token == pytest.approx(2)
    assert found.prefill is not None
    assert found.generation is not None
    assert found.prefill == pytest.approx((2 * 1024 / 0.5, 2 * 1024 / 0.6, 2 * 1024 / 0.4))
    assert found.generation.value == pytest.approx(2 / 0.01)
    assert found.document_004_cer == pytest.approx(4 / 0.5)
    said = (
        "a saves 2.000 bits a token against the unigram floor, 4,096 (3,413 to 5,120) per second of prefill and 200 ("
    )
    assert found.sentence().startswith(said)


def test_a_worse_perplexity_is_less_efficient_though_the_documents_ratio_rises() -> None:
    better, worse = (efficiency("a", nats, 4.0, arm(0.1), 1024) for nats in (2.0, 3.0))
    assert better.prefill is not None
    assert worse.prefill is not None
    assert better.document_004_cer is not None
    assert worse.document_004_cer is not None
    assert better.prefill.value > worse.prefill.value > 0
    assert better.document_004_cer < worse.document_004_cer


def test_worse_than_the_floor_is_negative_and_what_was_not_timed_is_left_out() -> None:
    found = efficiency("a", 5.0, 4.0, arm(None), 1024)
    assert found.bits_saved_per_token < 0
    assert (found.prefill, found.document_004_cer) == (None, None)
    assert "prefill" not in found.sentence()
