"""From runs to a study: order, refusals to rank, sentences, and requests that make no sense."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from assay.analysis.comparison import compare_runs
from assay.analysis.refresh import refreshed
from assay.analysis.statistics import mean_interval
from assay.errors import RequestError
from assay.records import Arm, ArmColumn, Code, MeasuredRun, Parameters, StudyRecord
from assay.report.drawing.study import study_figures
from report.factory import (
    CORPUS,
    ENVIRONMENT,
    FLOORS,
    PROTOCOL,
    MadeUp,
    changed,
    diverged,
    health,
    run,
    runs,
    signals,
    study,
)

SPREAD = [0.01, -0.02, 0.015]


def clear() -> list[MadeUp]:
    """gpt1 leads by 0.3 nats; the seeds' own differences are far smaller."""
    gpt1 = [run("gpt1", seed, 4.0 + shift) for seed, shift in enumerate(SPREAD)]
    return gpt1 + [run("mamba2", seed, 4.3 + 0.5 * shift) for seed, shift in enumerate(SPREAD)]


def resized(record: MadeUp, total: int, non_embedding: int) -> MadeUp:
    size = Parameters(total=total, embedding=total - non_embedding, non_embedding=non_embedding)
    return changed(record, parameters=size)


def test_arms_stand_best_first_with_ranks_and_scores() -> None:
    record = study(runs())
    assert [(arm.label, arm.rank) for arm in record.arms] == [("mamba2", 1), ("rwkv6", 2), ("gpt1", 3)]
    assert record.ranked
    assert record.chains_equal
    assert record.matched_within == 0.0
    arm = record.arms[0]
    assert arm.test is not None
    assert arm.test.bits_per_byte is not None
    assert arm.test.perplexity.low is not None
    assert arm.peak_memory_bytes == 412_000_002
    assert len({arm.data_chain for arm in record.arms}) == 1
    assert StudyRecord.model_validate_json(record.model_dump_json()) == record


def test_equal_arms_share_a_rank() -> None:
    same = [run("gpt1", 0, 4.0), run("rwkv6", 0, 4.0), run("mamba2", 0, 4.2)]
    assert [arm.rank for arm in study(same).arms] == [1, 1, 3]


def test_a_clear_lead_is_resolved_and_said_so() -> None:
    record = study(clear())
    (pair,) = record.pairs
    assert pair.sentence.startswith("gpt1 beats mamba2 by 0.299 nats per token (95% interval 0.2")
    assert " over 3 seeds, " in pair.sentence
    assert pair.sentence.endswith(" for other texts too): resolved.")
    assert pair.resolved
    assert pair.low is not None
    assert pair.high is not None
    assert pair.low < pair.difference < pair.high < 0
    assert pair.text_low is not None
    assert pair.text_high is not None
    assert pair.text_low < pair.low < pair.high < pair.text_high
    assert (pair.detectable, pair.seeds_needed) == (None, None)
    assert "The one pair is resolved." in record.headline


def test_noise_is_not_resolved_and_says_what_would_be() -> None:
    noise = [run("gpt1", seed, 4.0 + shift) for seed, shift in enumerate(SPREAD)]
    noise += [run("mamba2", seed, 4.005 - shift) for seed, shift in enumerate(SPREAD)]
    (pair,) = study(noise).pairs
    assert not pair.resolved
    assert pair.low is not None
    assert pair.high is not None
    assert pair.low < 0 < pair.high
    assert "gpt1 is ahead of mamba2 by 0.002" in pair.sentence
    assert pair.detectable is not None
    assert pair.detectable > pair.high
    assert f"a difference of {pair.detectable:.3f} would be in 80% of such studies, and one as seen" in pair.sentence
    assert pair.seeds_needed is not None
    assert 100 < pair.seeds_needed[0] < pair.seeds_needed[1]
    assert "No pair is resolved: the order may be chance." in study(noise).headline


def test_every_pair_agrees_with_its_interval() -> None:
    for pair in study(runs()).pairs:
        assert pair.low is not None
        assert pair.high is not None
        assert pair.resolved == (pair.low > 0 or pair.high < 0)


def test_one_seed_resolves_nothing() -> None:
    record = study(runs(seeds=1))
    assert "One seed: nothing is resolved." in record.headline
    assert all(
        (pair.low, pair.level, pair.p_value, pair.resolved) == (None, None, None, False) for pair in record.pairs
    )
    assert all("one seed: nothing is resolved" in pair.sentence for pair in record.pairs)
    assert record.arms[0].test is not None
    assert record.arms[0].test.nats_per_token.low is None


def test_seeds_that_change_nothing_resolve_nothing() -> None:
    frozen = [
        run(name, seed, nats) for name, nats in (("gpt1", 4.0), ("rwkv6", 4.5), ("mamba2", 4.0)) for seed in (0, 1)
    ]
    by_names = {frozenset((pair.a, pair.b)): pair for pair in study(frozen).pairs}
    shifted, same = by_names[frozenset(("gpt1", "rwkv6"))], by_names[frozenset(("gpt1", "mamba2"))]
    assert (shifted.resolved, shifted.low, shifted.p_value) == (False, None, None)
    assert "are no repetitions" in shifted.sentence
    assert (same.resolved, same.low, same.p_value) == (False, 0.0, 1.0)
    assert "score the same on every seed" in same.sentence


def test_an_arm_with_a_diverged_seed_is_last_and_not_ranked() -> None:
    record = study([*clear(), run("rwkv6", 0, 3.0), diverged("rwkv6", 1), run("rwkv6", 2, 3.0)])
    assert [(arm.label, arm.rank, arm.diverged) for arm in record.arms] == [
        ("gpt1", 1, 0),
        ("mamba2", 2, 0),
        ("rwkv6", None, 1),
    ]
    assert "rwkv6: 1 of 3 diverged, so it is not ranked." in record.headline
    assert record.chains_equal, "a diverged run stopped early; its chain proves nothing"
    assert len(record.pairs) == 1


def test_scores_that_are_not_finite_count_as_diverged() -> None:
    broken = run("rwkv6", 0)
    broken = changed(broken, test={**broken.inside["test"], "nats_per_token": float("nan")})
    assert study([run("gpt1", 0), broken]).arms[-1].diverged == 1


def test_nothing_but_divergence_is_no_ranking() -> None:
    record = study([diverged("gpt1", 0), diverged("rwkv6", 0)])
    assert record.not_ranked_because == "every arm has a diverged seed"
    assert [arm.test for arm in record.arms] == [None, None]


def test_unequal_chains_forbid_a_ranking() -> None:
    some = runs()
    some[4] = changed(some[4], data_chain="e" * 64)
    record = study(some)
    assert record.not_ranked_because == "with seed 1, rwkv6 saw other batches than gpt1 and mamba2"
    assert not record.chains_equal
    assert [arm.rank for arm in record.arms] == [None] * 3
    assert [arm.label for arm in record.arms] == ["gpt1", "rwkv6", "mamba2"], "the order of the request"
    assert not any(pair.resolved for pair in record.pairs)
    assert all("this study is not ranked" in pair.sentence for pair in record.pairs)


def test_unequal_seeds_forbid_a_ranking() -> None:
    record = study([*runs(2, ("gpt1",)), *runs(3, ("rwkv6",))])
    assert record.not_ranked_because == "rwkv6 ran with seeds 0, 1, 2, gpt1 with seeds 0, 1"
    assert record.pairs[0].n_seeds == 2


def test_sizes_must_match_within_one_percent() -> None:
    small, large = resized(run("gpt1", 0), 1_000_000, 400_000), resized(run("rwkv6", 0), 1_019_000, 480_000)
    assert study([small, large]).matched_within == pytest.approx(9_500 / 1_009_500)
    assert study([small, large]).ranked
    by_non_embedding = study([small, large], match="non-embedding")
    assert by_non_embedding.not_ranked_because is not None
    assert "non-embedding parameters lie up to 9.1% from their mean" in by_non_embedding.not_ranked_because
    too_large = resized(large, 1_021_000, 480_000)
    assert not study([small, too_large]).ranked


def test_sizes_given_by_hand_are_ranked_only_where_totals_match() -> None:
    assert study(runs(), match=None).ranked
    other = study([run("gpt1", 0), resized(run("rwkv6", 0), 2_000_000, 900_000)], match=None)
    assert other.not_ranked_because is not None
    assert other.not_ranked_because.startswith("sizes were given by hand and parameters (total) lie up to 32.4%")
    assert "rwkv6 2,000,000" in other.not_ranked_because


def test_headline_says_what_the_ranking_rests_on() -> None:
    lines = study(runs()).headline
    assert lines[0].startswith("0.642 training tokens per parameter (this ranks early learning)")
    assert "one learning rate, untuned" in lines[1]
    assert lines[2].startswith("Body native")
    enough = [resized(record, 20_000, 10_000) for record in runs()]
    assert study(enough).headline[0] == "32.8 training tokens per parameter."
    bare = [changed(record, spec={}, spec_digest="") for record in runs()]
    common = compare_runs(bare, {**PROTOCOL, "body": "common"}, CORPUS, FLOORS, ENVIRONMENT, "total")
    assert any("only the mixer differs" in line for line in common.headline)


def test_headline_names_broken_chains_and_arms_under_a_floor() -> None:
    some = runs()
    some[0] = changed(some[0], chain_broken="another machine")
    some += [run("mamba3", seed, 5.5) for seed in range(3)]
    lines = study(some).headline
    assert "gpt1: 1 run resumed on another set-up, so not bit for bit." in lines
    assert "mamba3 does not beat the best n-gram (order 3) floor." in lines


def test_what_was_not_measured_is_none_and_verdicts_are_over_seeds() -> None:
    some = runs(2, ("gpt1",))
    some[1] = changed(some[1], peak_memory_bytes=None, output_health=health("OVERCONFIDENT"))
    (arm,) = study(some).arms
    assert arm.peak_memory_bytes == 412_000_000, "of the run that was measured"
    assert shown(arm, "output_health", "verdict").text == "OVERCONFIDENT 1/2"
    assert shown(arm, "signals", "verdict").text == "AMPLIFIER"
    bare = [
        changed(record, signals_initial=None, signals_trained=None, output_health=None, peak_memory_bytes=None)
        for record in some
    ]
    (arm,) = study(bare).arms
    assert arm.peak_memory_bytes is None
    assert {column.measurement for column in arm.columns} == {"recall"}


def test_numbers_over_seeds_are_means_with_their_interval() -> None:
    flat, steep = (signals(2, factor, np.random.default_rng(0)) for factor in (1.0, 4.0))
    some = [changed(run("gpt1", seed), signals_trained=profile) for seed, profile in enumerate((flat, steep))]
    (arm,) = study(some).arms
    growths = [profile["growth_without_embedding"] for profile in (flat, steep)]
    column, interval = shown(arm, "signals", "growth"), mean_interval(growths, 0.95)
    assert (column.value, column.low, column.high, column.seeds) == (interval.mean, interval.low, interval.high, 2)
    assert shown(arm, "signals", "verdict").text == "AMPLIFIER 1/2", "the one that does not go without saying"


def test_one_measurement_by_two_versions_is_said_and_not_shown() -> None:
    some = runs(2, ("gpt1",))
    newer = some[1].results["recall"].model_copy(update={"measurement_version": 2})
    record = study([some[0], some[1].with_results([newer])])
    assert "recall" not in {column.measurement for column in record.arms[0].columns}
    assert any(line.startswith("recall was measured by versions 1 and 2 of it") for line in record.headline)


def shown(arm: Arm, measurement: str, key: str) -> ArmColumn:
    """The one column of this name."""
    (column,) = [of for of in arm.columns if (of.measurement, of.key) == (measurement, key)]
    return column


WRONG: dict[str, tuple[Callable[[], list[MadeUp]], str]] = {
    "none": (list, "at least one run"),
    "twice": (lambda: [run("gpt1", 0), run("gpt1", 0)], "is there twice"),
    "corpus": (lambda: [run("gpt1", 0), run("rwkv6", 0, corpus_digest="x")], "another corpus than gpt1"),
    "tokens": (lambda: [run("gpt1", 0), run("rwkv6", 0, tokens=4096)], "4,096 tokens, not 655,360 of gpt1"),
    "no test": (lambda: [run("gpt1", 0, test=None)], "no test scores"),
    "two sizes": (lambda: [run("gpt1", 0), resized(run("gpt1", 1), 5, 2)], "one size with seed 0, another with 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_runs_that_do_not_belong_together_are_refused(case: str) -> None:
    make, words = WRONG[case]
    with pytest.raises(RequestError, match=words):
        study(make())


def test_other_test_documents_are_refused() -> None:
    other = run("rwkv6", 0)
    counts = other.inside["test"]["document_tokens"][::-1]
    other = changed(other, test={**other.inside["test"], "document_tokens": counts})
    with pytest.raises(RequestError, match="other test documents than gpt1"):
        study([run("gpt1", 0), other])


@pytest.mark.parametrize("which", ["version", "digest"])
def test_what_is_mixed_is_shown_of_no_arm(which: str) -> None:
    """Also of arms whose own runs agree: beside the others their numbers would mean something else."""

    def other(of: MeasuredRun) -> MeasuredRun:
        recall = of.results["recall"]
        code = Code(kind="plug-in", name="recall.py", digest="b" * 64)
        change = {"measurement_version": 2} if which == "version" else {"code": code}
        return of.with_results([recall.model_copy(update=change)])

    some = runs(2, ("gpt1", "rwkv6"))
    made = [other(one) if one.record.label == "gpt1" else one for one in some]
    shown = {column.measurement for arm in study(made).arms for column in arm.columns}
    assert "recall" not in shown
    assert "signals" in shown
    assert "recall" in {column.measurement for arm in study(some).arms for column in arm.columns}
    assert "recall" not in study_figures(study(made), made, {})


def test_what_some_seeds_of_an_arm_lack_is_said_until_they_have_it() -> None:
    some = runs(3, ("gpt1", "rwkv6"))
    less = replace(some[0], results={name: of for name, of in some[0].results.items() if name != "recall"})
    said = "recall of gpt1 is of 2 of its 3 seeds; `assay measure` measures what is missing."
    record = study([less, *some[1:]])
    assert record.headline.count(said) == 1
    assert said not in study(some).headline
    now = refreshed(record, some, {}, (), ())
    assert said not in now.headline
