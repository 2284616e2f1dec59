"""The answer line: who beats whom, who is not told apart, what cannot be ranked, who beats no floor, two seeds."""

from collections.abc import Sequence

import pytest

from assay.records import ArmAudit, StudyRecord
from assay.report.answer import answer
from report.factory import FLOORS, MadeUp, diverged, run, study

NOISE = (0.01, -0.02, 0.015, -0.004, 0.008)


def made(levels: dict[str, float], seeds: int = 5, noise: float = 1.0) -> list[MadeUp]:
    """Runs of arms at these nats per token."""
    return [
        run(name, seed, level + noise * NOISE[(2 * seed + 3 * index) % 5])
        for index, (name, level) in enumerate(levels.items())
        for seed in range(seeds)
    ]


def cheating(label: str, *checks: str) -> list[ArmAudit]:
    findings = [{"check": check, "status": "fail", "explanation": ""} for check in checks]
    return [
        ArmAudit(label=label, seed=0, moment="before training", sound=False, summary="causality (x)", findings=findings)
    ]


def test_who_beats_whom_and_who_is_not_told_apart() -> None:
    record = study(made({"mamba2": 4.0, "rwkv6": 4.4, "gpt1": 4.401}))
    text = answer(record)
    first, second = text.split("; ")
    assert first.startswith("mamba2 beats rwkv6 by 0.40 ± 0.0")
    assert " and gpt1 by 0.40 ± 0.0" in first
    assert second == "rwkv6 and gpt1 are not told apart."


def test_nothing_told_apart_is_one_clause() -> None:
    assert answer(study(made({"a": 4.0, "b": 4.001, "c": 4.002}))) == "a, b and c are not told apart."


def test_a_difference_never_looks_smaller_than_its_half_width() -> None:
    for noise in (0.5, 1.0, 2.0, 3.0):
        text = answer(study(made({"a": 4.0, "b": 4.06}, noise=noise)))
        if "beats" in text:
            size, half = (float(part.split()[0]) for part in text.split(" by ")[1].split(" ± "))
            assert size > half


def test_no_arm_beats_the_best_ngram_is_in_the_answer_and_early_in_the_headline() -> None:
    record = study(made({"a": 5.3, "b": 5.8}))
    assert answer(record).endswith("nats per token. None beats the best n-gram (order 3).")
    assert record.headline[0] == "a and b do not beat the best n-gram (order 3) floor."
    assert "n-gram" not in answer(study(made({"a": 5.0, "b": 5.8})))
    assert answer(study(made({"a": 5.3}))).endswith("a does not beat the best n-gram (order 3).")


def test_a_study_of_an_older_record_speaks_of_its_trigram() -> None:
    older = {"unigram": FLOORS["unigram"], "trigram": FLOORS["ngram"].model_copy(update={"ngram": None})}
    assert answer(study(made({"a": 5.3}), changes={"floors": older})).endswith("a does not beat the trigram.")


def test_what_does_not_beat_the_unigram_floor_is_not_ranked() -> None:
    record = study(made({"a": 4.0, "b": 4.5, "c": 6.5}))
    assert {arm.label: arm.rank for arm in record.arms} == {"a": 1, "b": 2, "c": None}
    assert [{pair.a, pair.b} for pair in record.pairs] == [{"a", "b"}]
    assert answer(record).endswith("Not ranked: c does not beat the unigram floor.")
    assert record.headline[0] == "c does not beat the unigram and best n-gram (order 3) floors, so it is not ranked."
    alone = study(made({"a": 4.0, "b": 6.4, "c": 6.5}))
    assert answer(alone).startswith("a is the only arm that can be ranked: b and c do not beat the unigram floor.")


def test_where_none_beats_the_unigram_floor_nothing_is_ranked() -> None:
    record = study(made({"a": 6.5, "b": 7.5}))
    assert not record.ranked
    assert {arm.rank for arm in record.arms} == {None}
    assert answer(record) == "No ranking: no arm beats the unigram floor."
    assert not any(pair.resolved for pair in record.pairs)


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        (("causality",), "reads the future"),
        (("parity", "causality"), "reads the future"),
        (("isolation",), "reads other rows, calls or documents"),
        (("accounting",), "fails the audit (accounting)"),
    ],
)
def test_the_only_arm_that_can_be_ranked(checks: Sequence[str], words: str) -> None:
    record = study(made({"gpt1": 4.0, "ema-roll": 1.0}), audits=cheating("ema-roll", *checks))
    assert answer(record).startswith(f"gpt1 is the only arm that can be ranked: ema-roll {words}. gpt1: test loss, 4.0")
    assert record.headline[0].startswith("UNSOUND: ema-roll is not ranked")


def test_a_diverged_arm_is_named() -> None:
    record = study([*made({"a": 4.0}, 2), diverged("b", 0), run("b", 1, 4.0)])
    assert answer(record).startswith("a is the only arm that can be ranked: b diverged with 1 of 2 seeds.")


def two_seeds() -> StudyRecord:
    return study(made({"a": 4.0, "b": 5.0}, 2, 0.1))


def test_two_seeds_are_said_wherever_a_verdict_is_called_resolved() -> None:
    record = two_seeds()
    (pair,) = record.pairs
    assert pair.resolved
    words = "from two seeds alone (one degree of freedom)"
    assert pair.sentence.endswith(f": resolved, {words}.") or f"on these texts, {words}" in pair.sentence
    assert f"The one pair is resolved, {words}." in record.headline
    assert answer(record).endswith("That rests on two seeds, one degree of freedom.")
    more = study(made({"a": 4.0, "b": 5.0}, 3, 0.1))
    assert words not in " ".join([more.pairs[0].sentence, *more.headline, answer(more)])


def test_one_seed_resolves_nothing() -> None:
    text = answer(study(made({"a": 4.0, "b": 5.0}, 1)))
    assert text.startswith("a: lowest test loss, 4.01")
    assert text.endswith("One seed: nothing is resolved.")


def test_many_pairs_are_counted() -> None:
    text = answer(study(made({f"arm{index}": 4.0 + 0.2 * index for index in range(5)})))
    assert text.startswith("arm0 beats arm1 by ")
    assert text.endswith("Of the 6 other pairs 6 are resolved.")
