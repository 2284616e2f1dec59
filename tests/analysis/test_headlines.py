"""What must be read before the table: the rule, additions after a look, set-ups, speeds, what arms differ in."""

from typing import Any

import numpy as np
import pytest

from assay.analysis.comparison import compare_runs
from assay.analysis.rule import Rule
from assay.errors import RequestError
from assay.records import Addition, Floor, StudyRecord
from report.factory import (
    CORPUS,
    ENVIRONMENT,
    FLOORS,
    PROTOCOL,
    MadeUp,
    arm_run,
    changed,
    diverged,
    run,
    runs,
    speeds,
    study,
)
from report.made_up import speed

WHEN = "2026-11-28T18:00:00Z"


def clear(seeds: int = 3) -> list[MadeUp]:
    """Three arms, 0.3 nats apart."""
    noise = (0.01, -0.02, 0.015, -0.004, 0.008)
    return [
        run(name, seed, 4 + 0.3 * index + noise[(seed + index) % 5])
        for index, name in enumerate(("gpt1", "rwkv6", "mamba2"))
        for seed in range(seeds)
    ]


def line_with(record: StudyRecord, words: str) -> str:
    (line,) = [line for line in record.headline if words in line]
    return line


def differing(**asked: dict[str, Any]) -> list[str]:
    """The headline of one run for each label, each asked for something."""
    some = []
    for name, of in asked.items():
        architecture = of.pop("architecture", "gpt1")
        some.append(arm_run(name, 0, None, architecture, **of))
    return study(some).headline


def test_rule_is_said_and_kept() -> None:
    record = study(clear())
    assert line_with(record, "Rule:") == (
        "Rule: paired differences of test nats per token over seeds; the 95% intervals of all 3 pairs hold together, "
        "and a pair is resolved where its own excludes zero."
    )
    strict = study(clear(), rule=Rule(level=0.999))
    assert (strict.level, strict.correction) == (0.999, "simultaneous")
    assert "the 99.9% intervals of all 3 pairs" in line_with(strict, "Rule:")
    assert {pair.level for pair in strict.pairs} == {0.999}
    assert not all(pair.resolved for pair in strict.pairs)
    assert "(99.9% interval" in strict.pairs[0].sentence
    wide, narrow = strict.arms[0].test, record.arms[0].test
    assert wide is not None
    assert narrow is not None
    assert (wide.nats_per_token.low or 9) < (narrow.nats_per_token.low or 0)
    for pair in strict.pairs:
        assert pair.low is not None
        assert pair.high is not None
        assert pair.resolved == (pair.low > 0 or pair.high < 0)


def test_a_baseline_is_compared_with_each_and_the_others_are_not() -> None:
    record = study(clear(), rule=Rule(baseline="rwkv6"))
    assert [{pair.a, pair.b} for pair in record.pairs] == [{"rwkv6", "gpt1"}, {"rwkv6", "mamba2"}]
    assert "of rwkv6 to each other arm; the 95% intervals of all 2 pairs" in line_with(record, "Rule:")
    widths = {frozenset((p.a, p.b)): (p.high or 0) - (p.low or 0) for p in study(clear()).pairs}
    assert all((p.high or 9) - (p.low or 0) < widths[frozenset((p.a, p.b))] for p in record.pairs), "fewer pairs"
    gone = study([*clear(), *(diverged("twin", seed) for seed in range(3))], rule=Rule(baseline="twin"))
    assert gone.pairs == []
    assert line_with(gone, "Rule:").endswith("of twin to each other arm; no pair to decide.")


def test_few_seeds_promise_less_and_say_so() -> None:
    assert "3 seeds for 3 pairs: 5% false alarms are promised for noise with one peak" in " ".join(
        study(clear()).headline
    )
    assert not any("one peak" in line for line in study(clear(5)).headline)


def test_planned_looks_are_said() -> None:
    plan = Rule(looks=[3, 5])
    early, late = study(clear(3), rule=plan), study(clear(5), rule=plan)
    assert line_with(early, "Looks planned") == (
        "Looks planned after 3 and 5 seeds: stopped at the first, as all 3 pairs are resolved. Intervals of pairs "
        "allow for stopping."
    )
    assert "stopped at the second, as all 3 pairs are resolved." in line_with(late, "Looks planned")
    (p, q) = study(clear(3)).pairs[0], early.pairs[0]
    assert (p.high or 0) - (p.low or 0) < (q.high or 0) - (q.low or 0), "several looks take wider intervals"
    assert (p.p_value is None, q.p_value) == (False, None)
    assert line_with(study(clear(4), rule=plan), "Looks planned").endswith("with 4 seeds no look was planned.")
    alone = study([run("gpt1", seed) for seed in range(3)], rule=plan)
    assert line_with(alone, "Looks planned").endswith(
        "there is no pair to decide, so that the study stops at the first."
    )


def test_a_seed_that_stands_apart_is_named() -> None:
    some = clear(5)
    some[7] = run("rwkv6", 2, 4.9)
    line = line_with(study(some), "stands apart")
    assert line.startswith("Seed 2 of rwkv6 stands apart: 0.585")
    assert "nats above what the other runs suggest" in line
    assert not any("stands apart" in line for line in study(clear(5)).headline)


def test_texts_of_few_sources_have_no_interval_and_the_reason_is_said() -> None:
    def with_sources(of: MadeUp, sources: list[int] | None) -> MadeUp:
        return changed(of, test={**of.inside["test"], "document_sources": sources})

    n = len(clear()[0].inside["test"]["document_tokens"])
    few = study([with_sources(of, [index % 19 for index in range(n)]) for of in clear()])
    assert {pair.text_low for pair in few.pairs} == {None}
    assert (
        "The intervals speak of these texts alone: they are from 19 sources, and an interval for other texts takes 20."
        in (few.headline)
    )
    unknown = study([with_sources(of, None) for of in clear()])
    assert "from which sources they are is not known" in line_with(unknown, "these texts alone")
    assert not any("these texts alone" in line for line in study(clear()).headline)


def one_text_better() -> list[MadeUp]:
    """gpt1 is ahead by a third of the texts alone."""
    some = []
    for of in clear():
        test = dict(of.inside["test"])
        nats, tokens = np.array(test["document_nats"]), np.array(test["document_tokens"])
        if of.record.label == "gpt1":  # one third of the texts much better, the others worse, for the same mean
            shift = np.where(np.arange(len(tokens)) % 3 == 0, 6.0, -3.0)
            shift = shift - (shift * tokens).sum() / tokens.sum()
            nats = nats + shift * tokens
        some.append(changed(of, test={**test, "document_nats": nats.tolist()}))
    return some


def test_what_holds_for_these_texts_alone_is_named() -> None:
    record = study(one_text_better())
    assert (
        "On other texts of this kind the order may be another for gpt1 and rwkv6; gpt1 and mamba2." in record.headline
    )
    by_names = {(pair.a, pair.b): pair for pair in record.pairs}
    assert by_names["gpt1", "rwkv6"].sentence.endswith("resolved on these texts.")
    assert by_names["rwkv6", "mamba2"].sentence.endswith(": resolved.")


def test_of_a_task_sequences_are_named() -> None:
    floors = {"chance": Floor(nats_per_token=9.0, perplexity=8103.0, bits_per_byte=None)}
    record = compare_runs(one_text_better(), PROTOCOL, CORPUS, floors, ENVIRONMENT, "total")
    assert any(line.startswith("On other sequences of this kind ") for line in record.headline)
    said = " ".join([*record.headline, *(pair.sentence for pair in record.pairs)])
    assert "for other sequences too" in said
    assert "resolved on these sequences." in said
    assert "texts" not in said


def test_only_pairs_that_rest_on_additions_after_a_look_are_nominal() -> None:
    arms = study(clear(), added=[Addition(when=WHEN, looks=1, arms=["mamba2"])])
    nominal = {frozenset((pair.a, pair.b)): pair.nominal for pair in arms.pairs}
    assert nominal[frozenset(("gpt1", "rwkv6"))] is None
    assert nominal[frozenset(("gpt1", "mamba2"))] == "arm mamba2 was added after the first look"
    assert "All 3 pairs are resolved, 2 of them nominally." in arms.headline
    by_arm = [pair for pair in arms.pairs if pair.nominal]
    assert all(
        pair.sentence.endswith(": nominally resolved, as arm mamba2 was added after the first look.") for pair in by_arm
    )


def test_seeds_added_after_a_look() -> None:
    record = study(clear(5), added=[Addition(when=WHEN, looks=1, seeds=[3, 4])])
    assert line_with(record, "looking and adding") == (
        "Seeds 3 and 4 after the first look (2026-11-28): looking and adding is a choice, so verdicts that rest on "
        "them are nominal."
    )
    assert {pair.nominal for pair in record.pairs} == {"seeds 3 and 4 were added after the first look"}
    assert record.added[0].seeds == [3, 4]


@pytest.mark.parametrize(
    "addition",
    [Addition(when=WHEN, looks=0, seeds=[1]), Addition(when=WHEN, looks=2, measurements=["speed"])],
    ids=["before a look", "a measurement"],
)
def test_what_no_verdict_rests_on_makes_none_nominal(addition: Addition) -> None:
    record = study(clear(), added=[addition])
    assert [pair.nominal for pair in record.pairs] == [None] * 3
    lines = [line for line in record.headline if "2026-11-28" in line]
    assert lines == (
        ["Measurement speed after 2 looks (2026-11-28): no verdict rests on it."] if addition.looks else []
    )


def test_an_undecided_pair_says_what_would_be_resolved() -> None:
    some = [
        run(name, seed, 4 + 0.02 * ((seed * k) % 3)) for name, k in (("gpt1", 1), ("rwkv6", 2)) for seed in range(4)
    ]
    some[0] = run("gpt1", 0, 4.01)
    (pair,) = study(some, added=[Addition(when=WHEN, looks=1, seeds=[3])]).pairs
    assert "not resolved (nominally, as seed 3 was added after the first look);" in pair.sentence
    assert "would be in 80% of such studies" in pair.sentence


def test_set_ups_and_plans_that_differ_are_said() -> None:
    some = runs(2, ("gpt1", "rwkv6"))
    assert not any("set-ups" in line or "plans" in line for line in study(some).headline)
    other = some[3].record.environment | {"processor": "four cores", "threads": "4"}
    some[3] = changed(some[3], environment=other, plan=some[3].record.plan | {"threads": 4})
    lines = study(some).headline
    assert (
        "Runs had different set-ups: processor two cores (3 runs) and four cores (rwkv6 seed 1); threads not recorded "
        "(3 runs) and 4 (rwkv6 seed 1)." in lines
    )
    assert any(line.startswith("Runs had different execution plans") and "threads 2 (" in line for line in lines)


def test_speeds_are_the_arms_and_what_a_study_s_result_says_stands_in_the_headline() -> None:
    results = speeds(gpt1=speed(3000), rwkv6=speed(2000, 0.4))
    said = results["speed"].model_copy(update={"sentences": ["Speed is not to be trusted."]})
    record = study(runs(1), results={"speed": said})
    found = {arm.label: of.value for arm in record.arms for of in arm.columns if of.measurement == "speed"}
    assert found == {"gpt1": 3000, "rwkv6": 2000}
    assert "Speed is not to be trusted." in record.headline


def test_the_validation_split_is_said_and_the_test_stays_closed() -> None:
    some = [changed(of, test=None, validation=of.inside["test"]) for of in runs()]
    record = study(some, split="validation")
    assert "Scored on the validation split; the test split stays closed." in record.headline
    assert "paired differences of validation nats" in line_with(record, "Rule:")
    assert [arm.test for arm in record.arms] == [None] * 3
    assert all(arm.validation for arm in record.arms)
    assert [arm.rank for arm in record.arms] == [1, 2, 3]
    assert record.split == "validation"


def test_settings_that_differ_are_merged_into_one_line() -> None:
    lines = differing(a={}, b={"dropout": 0.1}, c={"weight_decay": 0.0}, d={"d_ff": 8})
    assert (
        "Beyond the mixer, arms differ in weight_decay (0 for c, 0.1 for the others) and dropout (0.1 for b, 0 for the "
        "others)." in lines
    )
    assert "Arms of gpt1 differ in d_ff (8 for d, 512 for the others)." in lines


def test_another_draw_is_a_placebo_only_where_nothing_else_differs() -> None:
    lines = differing(a={}, b={"replicate": 1}, c={"replicate": 1, "d_ff": 8})
    assert "b is a with another draw of initialisation and dropout (replicate 1): a placebo." in lines
    assert "c has another draw of initialisation and dropout (replicate 1)." in lines


def test_a_common_body_names_the_shapes_that_are_left() -> None:
    common = {"body": "common"}
    lines = differing(a=dict(common), b={**common, "architecture": "rwkv6", "d_model": 120})
    assert "Body common: tables, norms, SwiGLU and head are shared." in lines
    assert "The common body has different shapes: d_model (128 for a, 120 for b)." in lines
    alike = differing(a=dict(common), b={**common, "architecture": "rwkv6"})
    assert any("only the mixer differs" in line for line in alike)
    mixed = differing(a=dict(common), b={"architecture": "rwkv6"})
    assert not any(line.startswith("Body ") for line in mixed)
    assert "Beyond the mixer, arms differ in body (common for a, native for b)." in mixed


def with_heads(**untied: bool) -> list[MadeUp]:
    """Arms asked for heads as published, each with a head of its own or without."""
    some = []
    for name, own in untied.items():
        one = arm_run(name, 0, None, "gpt1", heads="published", d_ff=len(some) + 1)
        counted = one.record.parameters.model_copy(update={"groups": {"head": 1000 if own else 0}})
        some.append(changed(one, parameters=counted))
    return some


def test_heads_are_said() -> None:
    assert "Heads as published: tied for a, untied for b and c." in study(with_heads(a=False, b=True, c=True)).headline
    assert "Heads as published: untied for all." in study(with_heads(a=True, b=True)).headline
    asked = [changed(of, spec={**of.record.spec, "model": {**of.record.spec["model"], "heads": heads}})
             for of, heads in zip(with_heads(a=False, b=True), ("tied", "untied"), strict=True)]  # fmt: skip
    assert "Heads differ: tied for a, untied for b." in study(asked).headline
    assert not any("Heads" in line for line in study(clear()).headline)  # groups of older records do not say


def test_blocks_and_head_of_an_older_record_are_not_guessed() -> None:
    with pytest.raises(RequestError, match="gpt1: its record is older than the match blocks\\+head; total would do"):
        study(clear(), match="blocks+head")


def test_version_1_says_nothing_of_differences() -> None:
    bare = [changed(of, spec={}, spec_digest="", plan={}) for of in runs()]
    assert study(bare).headline[:4] == study(runs()).headline[:4]
    common = compare_runs(bare, {**PROTOCOL, "body": "common"}, CORPUS, FLOORS, ENVIRONMENT, "total")
    assert any("only the mixer differs" in line for line in common.headline)
