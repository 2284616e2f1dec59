"""Several texts: bits per byte by hand, what is not there is said, the same windows each time."""

import math
from pathlib import Path

import numpy as np
import pytest

from assay.data.text.elsewhere import BYTES_A_TOKEN, TextWindows, refuse_unknown, text_windows
from assay.data.text.tokenizer import build_tokenizer
from assay.errors import RequestError
from assay.evaluation.config import EvaluationConfig
from assay.evaluation.measurement import MEASUREMENTS
from assay.evaluation.measurements.texts import OnTexts, on_text
from assay.evaluation.measuring import measure_model
from assay.evaluation.scoring import score_windows
from evaluation.small import PLAN, given, tiny, windows

BATCH = windows([[7, 8, 9, 3], [7, 8], [5, 7, 7]], 3, [0, 1, 2], size=2)
BYTES = build_tokenizer("bytes", [])


def text(invertible: bool = True, own: bool = False) -> TextWindows:
    return TextWindows(BATCH, invertible, "digest", own)


def measured(**elsewhere: object) -> OnTexts:
    (values,) = measure_model([MEASUREMENTS.get("texts")], given(tiny(), BATCH, elsewhere=elsewhere))  # type: ignore[list-item]
    assert isinstance(values, OnTexts)
    return values


def test_bits_per_byte_by_hand() -> None:
    nats = score_windows(tiny(), BATCH, PLAN)
    (found,) = measured(mine=text).texts
    assert found.bits_per_byte == pytest.approx(nats.sum() / math.log(2) / 12)  # six targets of two bytes
    assert (found.tokens, found.bytes, found.own, found.low) == (6, 12, False, None)


def test_no_bits_where_bytes_are_unknown_and_a_sentence_where_a_text_is_missing() -> None:
    def missing() -> TextWindows:
        raise RequestError("no such text")

    values = measured(lost=lambda: text(invertible=False), gone=missing)
    assert [of.bits_per_byte for of in values.texts] == [None]
    said = " ".join(MEASUREMENTS.get("texts").sentences(values))
    assert "lost" in said
    assert "gone: not measured, no such text" in said
    assert "a task" in " ".join(measured().lacks.values())


def test_interval_is_over_sources() -> None:
    rows = windows([[1, 2, 3]] * 30, 2, list(range(30)))
    nats = np.random.default_rng(0).normal(3, 0.5, (30, 2))
    found = on_text("x", TextWindows(rows, True, "", own=False), nats)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 3 / math.log(2) < found.high
    assert found.bits_per_byte == pytest.approx((found.low + found.high) / 2)


def test_windows_are_the_same_each_time_and_of_documents_drawn_from_all(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(f"text number {number} " * 20)
    first, again = (text_windows(f"text:{tmp_path}", BYTES, 16, 200) for _ in range(2))
    assert first.digest == again.digest
    assert first.invertible
    assert 150 < int(first.windows.bytes.sum()) <= 200
    drawn = len(np.unique(text_windows(f"text:{tmp_path}", BYTES, 16, 10**6).windows.document))
    assert drawn == 40
    assert 40 * 20 * len("text number 10 ") > BYTES_A_TOKEN * 200, "fewer documents than there are"


def test_a_text_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    refuse_unknown("manual")
    for corpus, part in {"nope": "nope", f"text:{tmp_path}/nothing.txt": "nothing.txt"}.items():
        with pytest.raises(RequestError, match=rf"^evaluation.texts: .*{part}"):
            refuse_unknown(corpus)


def test_paths_are_absolute_and_texts_not_given_twice() -> None:
    assert EvaluationConfig.parse({"texts": ["text:a.txt"]}).texts == [f"text:{Path('a.txt').absolute()}"]
    with pytest.raises(RequestError, match="repeat"):
        EvaluationConfig.parse({"texts": ["stdlib", "stdlib"]})
