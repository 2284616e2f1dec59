"""Contexts are found that models were made to have, on text where it is known which token decides."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import planted
from assay.analysis.intervals.texts import Drawn
from assay.audit.redraw import redrawn
from assay.data.scoring import ScoringWindows
from assay.evaluation.context_lengths import ContextCurve, ContextProtocol, context_curve, context_lengths, long_windows
from assay.evaluation.measurement import MEASUREMENTS
from assay.evaluation.measurements import context
from assay.evaluation.measurements.context import ContextUse, as_use
from assay.evaluation.measuring import measure_model
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import LanguageModel
from evaluation.small import PLAN, given, tiny

TRAINED = 16


def recut(period: int, windows: int = 40) -> Callable[[int, int], ScoringWindows]:
    """Text of any length whose tokens repeat with `period`."""
    return lambda tokens, _: planted.repeating(windows, tokens, period)


def use(model: LanguageModel, period: int, targets: int = 1, per_doubling: int = 2, seed: int = 0) -> ContextUse:
    found = long_windows(recut(period, 400), context_lengths(TRAINED, per_doubling), seed, 100)
    assert found is not None
    windows, lengths = found
    return as_use(context_curve(model, windows, lengths, TRAINED, PLAN, targets))


@pytest.mark.parametrize("tokens", [3, 6, 8, 11, 16])
def test_a_model_that_sees_w_tokens_has_a_context_of_w(tokens: int) -> None:
    """Token w decides, so that one token less says nothing, and more tokens say no more."""
    values = use(planted.seeing(tokens), tokens)
    assert tokens in context_lengths(TRAINED, 2)
    assert (values.effective_low, values.effective, values.effective_high) == (tokens, tokens, tokens)
    assert values.first_worse is None
    shorter = [at for at in values.lengths if at.tokens < tokens]
    assert all(at.nats.mean == pytest.approx(np.log(16), rel=1e-5) for at in shorter), "it knows nothing"


def test_where_it_gets_worse_is_found() -> None:
    """A model that adds up all tokens without a decay is lost in text that it repeats ever more often."""
    model = planted.model_of([planted.Leaky(16, 1.0)], width=16, tables=planted.table_of(1.0))
    values = use(model, 40)
    assert values.first_worse is not None
    assert values.first_worse > 2
    worst = values.lengths[-1].above_best
    assert worst.low is not None
    assert worst.low > 0


def test_lengths_reach_from_short_to_eight_times() -> None:
    assert context_lengths(256, 1) == [32, 64, 128, 256, 512, 1024, 2048]
    assert context_lengths(1024, 1)[0] == 64
    for trained in (1, 7, 16, 100, 256, 1000):
        for steps in (1, 2):
            lengths = context_lengths(trained, steps)
            assert trained in lengths
            assert lengths[-1] == 8 * trained
            assert lengths == sorted(set(lengths))


def test_batches_and_seeds_agree() -> None:
    model = planted.seeing(8)
    found = long_windows(recut(8), [8, 16], 0, 40)
    assert found is not None
    curves = [context_curve(model, *found, TRAINED, PLAN, 4, pass_tokens=tokens) for tokens in (1, 1_000)]
    assert curves[0].nats == pytest.approx(curves[1].nats, rel=1e-5)
    one, other = (use(model, 8, seed=seed) for seed in (0, 1))
    assert one.lengths != other.lengths
    assert one.effective == other.effective


def test_a_length_is_called_worse_only_where_it_is() -> None:
    """Of 200 texts on which all lengths are alike at most a few name one that is worse; where one is, most do."""
    draw, lengths = np.random.default_rng(0), [32, 64, 128, 256, 512, 1_024]
    alike, worse, held = 0, 0, 0
    for _ in range(200):
        nats = draw.normal(40, 3, (len(lengths), 40))
        curve = ContextCurve(lengths, nats, np.full(40, 16), 16, Drawn("sources", np.arange(40)), 256)
        alike += curve.first_worse() is not None
        _, low, high = curve.effective()
        held += low == 32 and high is not None
        nats[-1] += 4
        worse += curve._replace(nats=nats).first_worse() == 1_024
    assert alike <= 10
    assert held >= 184, "the shortest is as good as the others, and is within the range"
    assert worse >= 180


def measured(
    model: LanguageModel, tokens: int, text: Callable[[int, int], ScoringWindows], **changes: object
) -> ContextUse:
    of = given(model, text(tokens, 0), recut=text, quick=True, **changes)
    (values,) = measure_model([MEASUREMENTS.get("context")], of)  # type: ignore[list-item]
    assert isinstance(values, ContextUse)
    return values


def short_text(tokens: int, _: int) -> ScoringWindows:
    return planted.random_text(20, tokens, vocabulary=61)


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_every_architecture_is_measured_or_says_why_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "QUICK", ContextProtocol(windows=20, per_doubling=1))
    model = redrawn(tiny(name), torch.Generator().manual_seed(0))
    assert isinstance(model, LanguageModel)
    for precision, tokens in (("bfloat16", 8), ("float32", 1)):
        values = measured(model, tokens, short_text, plan=PLAN.model_copy(update={"precision": precision}))
        longest = values.lengths[-1].tokens
        assert longest == 8 * tokens or longest <= (values.positions or 0)
        assert all(np.isfinite(at.nats.mean) for at in values.lengths)
        assert values.effective is not None


def test_learned_positions_end_the_lengths() -> None:
    values = measured(tiny("gpt1", max_positions=16), 16, short_text)
    assert [at.tokens for at in values.lengths] == [2, 4, 8, 16]
    assert values.positions == 16
    said = MEASUREMENTS.get("context").sentences(values)
    assert any("no learned positions: not applicable" in line for line in said)


def test_documents_that_are_too_short_end_them_too() -> None:
    def text(tokens: int, _: int) -> ScoringWindows:
        return short_text(min(tokens, 32), 0) if tokens <= 32 else planted.random_text(5, tokens, vocabulary=61)

    values = measured(tiny("rwkv6"), 16, text)
    assert values.lengths[-1].tokens == 32
    assert values.too_long == [64]
    none = measured(tiny("rwkv6"), 16, lambda tokens, _: planted.random_text(5, tokens, vocabulary=61))
    assert none.lacks is not None
    assert none.effective is None
