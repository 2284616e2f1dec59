"""The four questions are answered by their rules; what was not measured, or cannot be, is said in words."""

import pytest

from analysis.character.made_up import arm, context, contribution, signals, state
from assay.analysis.character.answers import amplifies, breaks, forgets, matters
from assay.analysis.character.questions import questions


def test_every_arm_is_answered_and_who_differs_is_said() -> None:
    runs = {"a": arm(3.0, 50.0, (0.5, 0.2)), "b": arm(1.0, 5.0, (0.2, 0.5)), "c": arm(1.0, None, rises=0.3)}
    asked = {of.title: of for of in questions(runs)}
    assert [of.measurement for of in asked.values()] == ["signals", "state", "contribution", "context"]
    assert all(list(of.answers) == ["a", "b", "c"] for of in asked.values())
    first, second, third, fourth = asked.values()
    assert first.short.startswith("a grows most (3x)")
    assert (
        second.short
        == "a forgets last (50 tokens), not clearly apart from b; b forgets first (5 tokens), not clearly apart from a."
    )
    assert third.short == "Mixers more than MLPs: a and c; MLPs more than mixers: b."
    assert fourth.short == "Gets worse: c; no clear rise: a and b."


def test_growth_is_named_by_the_limits_seed_by_seed() -> None:
    assert amplifies(arm(3.0)).text.startswith("amplifies: what its blocks pass on")
    assert amplifies(arm(0.3)).text.startswith("damps")
    mixed = {seed: {"signals": signals(growth)} for seed, growth in enumerate((1.4, 1.6, 1.7))}
    assert "neither amplifies nor damps on 1 seed and amplifies on 2 seeds" in amplifies(mixed).text
    one = signals(1.0)
    single = one.model_copy(update={"values": {**one.values, "trained": {**one.values["trained"], "std": [1.0, 1.0]}}})
    assert amplifies({0: {"signals": single}}).text.startswith("not applicable: it has one block")
    assert amplifies(arm(float("nan"))).text.endswith("is not finite.")
    assert amplifies({0: {}}) == ("not measured; `assay measure --only signals` asks it.", False)


def test_what_does_not_fade_has_no_half_life() -> None:
    assert "within 10 tokens" in forgets(arm(half_life=10.0)).text
    cache = forgets(arm(half_life=None))
    assert not cache.applies
    assert cache.text.startswith("no half-life: it has no state that fades. It keeps keys and values (2,000 bytes")
    nothing = forgets({0: {"state": state(None)}})
    assert nothing.text.startswith("not applicable")


def test_parts_are_told_by_seeds_and_a_single_seed_tells_none() -> None:
    assert "its mixers matter more than its MLPs: 0.5" in matters(arm(parts=(0.5, 0.2))).text
    one = matters({0: {"contribution": contribution(0.5, 0.2)}}).text
    assert one.startswith(
        "one seed does not tell whether its mixers or its MLPs matter more: 0.500 nats (0.490 to 0.510)"
    )
    assert "the single part that matters most is the mixer of block 0" in one
    shares = [{"path": name, "kind": "mean", "share": share} for name, share in (("rwkv6", 0.9), ("mamba2", 0.1))]
    fused = {0: {"contribution": contribution(0.5, 0.2, shares)}}
    assert "of its paths rwkv6 has 90% and mamba2 has 10%" in matters(fused).text


def test_breaking_is_against_the_training_length() -> None:
    worse = breaks(arm(rises=0.3))
    assert "gets worse from 512 tokens on" in worse.text
    assert "from that at the 128 it was trained on" in worse.text
    assert "shows no clear rise up to 512 tokens, 4 times the 128" in breaks(arm()).text
    assert breaks({0: {"context": context(0.3)}}).text.startswith("gets worse from 256 tokens on"), (
        "by its own interval"
    )


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ({0: {"context": context(0.0, positions=128)}}, "Beyond 128 tokens: not applicable, it has learned positions"),
        ({0: {"context": context(0.0, lacks="the data are a task")}}, "not measured: the data are a task."),
        ({0: {}}, "not measured; `assay measure --only context` asks it."),
    ],
)
def test_what_cannot_be_asked_says_why(runs: dict[int, dict[str, object]], said: str) -> None:
    found = breaks(runs)  # type: ignore[arg-type]
    assert said in found.text
    assert not found.applies


def test_nothing_is_asked_where_the_signals_alone_were_measured() -> None:
    assert questions({"a": {0: {"signals": signals(2.0)}}}) == []
