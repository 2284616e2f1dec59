"""Growth of a residual stream that is known by construction."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.audit.redraw import redrawn
from assay.evaluation.inside.sequences import Sequences
from assay.evaluation.measurements.signals import (
    MeasureSignals,
    SignalProfile,
    Signals,
    measure_profile,
    signal_verdict,
)
from assay.layers.basic import ChannelMixer
from assay.layers.mixer import Layer, Shared, State
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import Block, Embedding, LanguageModel
from evaluation.small import PLAN, tiny

IDS = np.random.default_rng(0).integers(0, 61, (4, 16))
SEQUENCES = Sequences(IDS, np.arange(4))


class Nothing(Layer):
    """Stands where a norm would."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


class Scale(ChannelMixer):
    """y = (factor - 1) x: with the residual connection, the block multiplies by `factor`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, state: State | None = None, shared: Shared | None = None) -> tuple[Tensor, State]:
        return (self.factor - 1) * x, ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return ()

    def flops_per_token(self, context: int) -> int:
        return 0


def scaling(*factors: float, embedding_std: float = 1.0) -> LanguageModel:
    """Blocks that multiply the residual stream by known factors; the norms before them do nothing."""

    def draw(tensor: Tensor, generator: torch.Generator) -> None:
        nn.init.normal_(tensor, 0.0, embedding_std, generator=generator)

    embedding = Embedding(61, 32, None, None, draw)
    model = LanguageModel(embedding, [Block(Scale(factor), None, Nothing) for factor in factors], Nothing())
    draw(embedding.tokens.data, torch.Generator().manual_seed(0))
    return model


def test_growth_is_that_of_the_blocks() -> None:
    got = measure_profile(scaling(10.0, 2.0, 3.0, embedding_std=0.01), SEQUENCES, PLAN)
    assert len(got.std) == len(got.rms) == 4
    assert got.std == pytest.approx([got.std[0] * factor for factor in (1, 10, 20, 60)], rel=1e-5)
    assert got.growth_with_embedding == pytest.approx(60, rel=1e-5)
    assert got.growth_without_embedding == pytest.approx(6, rel=1e-5)
    assert got.std[0] == pytest.approx(0.01, rel=0.1)


def test_verdicts_are_on_both_growths() -> None:
    """A tiny embedding makes the first an AMPLIFIER while the blocks themselves dampen."""
    got = measure_profile(scaling(10.0, 0.5, 0.5), SEQUENCES, PLAN)
    assert (got.verdict_with_embedding, got.verdict_without_embedding) == ("AMPLIFIER", "DAMPER")
    got = measure_profile(scaling(0.2, 1.0), SEQUENCES, PLAN)
    assert (got.verdict_with_embedding, got.verdict_without_embedding) == ("DAMPER", "NEUTRAL")


@pytest.mark.parametrize(
    ("growth", "verdict"),
    [(1.5001, "AMPLIFIER"), (1.5, "NEUTRAL"), (1.0, "NEUTRAL"), (0.5, "NEUTRAL"), (0.4999, "DAMPER"), (0, "DAMPER")],
)
def test_thresholds(growth: float, verdict: str) -> None:
    assert signal_verdict(growth) == verdict


def test_rms_and_std_differ_by_the_mean() -> None:
    model = scaling(1.0)
    with torch.no_grad():
        model.embedding.tokens.add_(5.0)
    got = measure_profile(model, SEQUENCES, PLAN)
    x = model.embedding(torch.from_numpy(IDS)).double()
    assert got.std[0] == pytest.approx(x.std().item())
    assert got.rms[0] == pytest.approx(x.square().mean().sqrt().item())
    assert got.rms[0] > 4 * got.std[0]


def test_a_dead_stream_has_no_growth() -> None:
    assert measure_profile(scaling(0.0, 1.0), SEQUENCES, PLAN).growth_without_embedding == 1.0
    silent = scaling(1.0, 1.0, embedding_std=0.0)
    assert measure_profile(silent, SEQUENCES, PLAN).growth_with_embedding == 1.0


def test_logits_are_compared_over_the_vocabulary() -> None:
    """Their deviation is one that is known, and what all logits of a position share does not count."""
    model = tiny(heads="untied")
    head = model.untied_head
    assert head is not None
    got = measure_profile(model, SEQUENCES, PLAN)
    hidden = model.hidden(torch.from_numpy(IDS))[0].detach().double()
    variances = (hidden @ head.detach().double().T).var(-1, unbiased=False)
    assert got.logits_std == pytest.approx(variances.mean().sqrt().item(), rel=1e-5)
    with torch.no_grad():
        head.add_(torch.ones(32))  # every logit of a position grows by the same sum
    shifted = measure_profile(model, SEQUENCES, PLAN)
    assert shifted.logits_std == pytest.approx(got.logits_std, rel=1e-3)


def test_columns_show_the_start() -> None:
    profile = measure_profile(tiny(), SEQUENCES, PLAN)
    measurement = MeasureSignals()
    shown = {column.key: column.value for column in measurement.columns(Signals(initial=profile, trained=None))}
    assert shown["initial_stream"] == profile.std[-1]
    assert shown["initial_logits"] == profile.logits_std
    older = profile.model_dump(exclude={"logits_std"})
    assert SignalProfile.model_validate(older).logits_std is None


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = redrawn(tiny(), torch.Generator().manual_seed(0))
    model.train(training)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first = measure_profile(model, SEQUENCES, PLAN)
    assert model.training == training
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert measure_profile(model, SEQUENCES, PLAN) == first


def test_hooks_are_removed_when_the_model_fails() -> None:
    model = tiny(max_positions=8)
    model.train()
    with pytest.raises(ValueError, match="16 tokens given; the model has 8 learned positions"):
        measure_profile(model, SEQUENCES, PLAN)
    assert all(not module._forward_hooks for module in model.modules())
    assert model.training


def test_a_gain_planted_in_one_block_is_found_there() -> None:
    """A mixer that returns four times as much is the only one whose gain has changed, by four."""
    for name in ("gpt1", "rwkv6", "mamba2"):
        model = redrawn(tiny(name, n_layers=3), torch.Generator().manual_seed(0))
        before = measure_profile(model, SEQUENCES, PLAN).blocks
        with torch.no_grad():
            for weight in model.sequence_blocks()[1].mixer.residual_outputs():
                weight.mul_(4)
        after = measure_profile(model, SEQUENCES, PLAN).blocks
        gains = [b.mixer_gain / a.mixer_gain for a, b in zip(before, after, strict=True)]
        assert gains[1] == pytest.approx(4, rel=1e-4)
        assert gains[0] == pytest.approx(1, rel=1e-4)
        assert 0.3 < gains[2] < 3, "it reads another stream, of the same size"
        growth = [b.growth / a.growth for a, b in zip(before, after, strict=True)]
        assert int(np.argmax(growth)) == 1


def test_growth_of_one_block_is_that_which_was_planted() -> None:
    blocks = measure_profile(scaling(1.0, 7.0, 1.0), SEQUENCES, PLAN).blocks
    assert [block.growth for block in blocks] == pytest.approx([1, 7, 1], rel=1e-5)
    assert [block.mixer_gain for block in blocks] == pytest.approx([0, 6, 0], rel=1e-5)
    assert [block.cosine for block in blocks] == pytest.approx([1, 1, 1])
    assert [block.mixer_share for block in blocks] == pytest.approx([0, 6 / 7, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["gpt1", "rwkv6", "mamba2", "twin"])
def test_shares_of_the_last_stream_sum_to_one(name: str) -> None:
    profile = measure_profile(redrawn(tiny(name), torch.Generator().manual_seed(0)), SEQUENCES, PLAN)
    assert profile.embedding_share is not None
    shares = [block.mixer_share + (block.channel_mixer_share or 0) for block in profile.blocks]
    assert profile.embedding_share + sum(shares) == pytest.approx(1, abs=1e-5)
    assert (set(profile.blocks[0].fused) == {"rwkv", "mamba"}) == (name == "twin")


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_every_architecture_at_one_token_and_in_bfloat16(name: str) -> None:
    """One sequence of one token has every number but the interval, in bfloat16 too; so has one of several."""
    model = redrawn(tiny(name), torch.Generator().manual_seed(0))
    for precision, tokens in (("float32", 1), ("bfloat16", 1), ("bfloat16", 5)):
        plan = PLAN.model_copy(update={"precision": precision})
        profile = measure_profile(model, Sequences(IDS[:1, :tokens], np.arange(1)), plan)
        assert len(profile.blocks) == len(model.sequence_blocks())
        assert np.isfinite([*profile.std, *profile.rms, profile.growth_with_embedding, profile.logits_std]).all()
        assert (profile.growth_low, profile.growth_high) == (None, None)
        shares = [block.mixer_share + (block.channel_mixer_share or 0) for block in profile.blocks]
        exact = precision == "float32"
        assert (profile.embedding_share or 0) + sum(shares) == pytest.approx(1, abs=1e-4 if exact else 0.05)
        assert MeasureSignals().columns(Signals(initial=None, trained=profile))


def test_batches_change_nothing_and_other_text_stays_within_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    model = redrawn(tiny(), torch.Generator().manual_seed(0))
    whole = measure_profile(model, SEQUENCES, PLAN)
    monkeypatch.setattr("assay.evaluation.inside.sequences.BATCH_TOKENS", 16)
    alone = measure_profile(model, SEQUENCES, PLAN)
    assert alone.std == pytest.approx(whole.std, rel=1e-6)
    assert alone.growth_low == pytest.approx(whole.growth_low, rel=1e-4)
    draw = np.random.default_rng(1)
    profiles = [measure_profile(model, Sequences(draw.integers(0, 61, (8, 16)), np.arange(8)), PLAN) for _ in range(30)]
    truth = np.mean([profile.growth_without_embedding for profile in profiles])
    inside = [(p.growth_low or 0) <= truth <= (p.growth_high or 0) for p in profiles]
    assert np.mean(inside) > 0.8


def test_one_block_has_no_growth_and_what_is_not_finite_no_name() -> None:
    one = measure_profile(scaling(3.0), SEQUENCES, PLAN)
    columns = {column.key: column for column in MeasureSignals().columns(Signals(initial=one, trained=one))}
    assert columns["growth"].value is columns["verdict"].text is columns["initial_verdict"].text is None
    assert columns["growth_with_embedding"].value == pytest.approx(3, rel=1e-5)
    broken = measure_profile(scaling(2.0, float("nan"), 2.0), SEQUENCES, PLAN)
    assert (broken.verdict_with_embedding, broken.verdict_without_embedding) == ("NOT FINITE", "NOT FINITE")
    assert np.isnan(broken.growth_without_embedding)
