"""What parts contribute is found in models where it is known, whatever the batches, the seed and the architecture."""

import numpy as np
import pytest
import torch

import planted
from assay.analysis.intervals.texts import Drawn, over_drawn
from assay.audit.redraw import redrawn
from assay.evaluation.ablation import CONTROL, KINDS, AblationProtocol, _Ablation, ablated
from assay.evaluation.measurement import MEASUREMENTS
from assay.evaluation.measurements.contribution import Contribution, as_profile
from assay.evaluation.measuring import measure_model
from assay.evaluation.resumed import Resumable
from assay.evaluation.sampling import sampled
from assay.evaluation.sites import replaced, sites_of
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import LanguageModel
from evaluation.small import PLAN, given, tiny, windows

EVERYTHING = AblationProtocol(windows=40, tokens=None, kinds=KINDS)
TEXT = planted.repeating(40, 24, 3)


def drawn_again(name: str, **dimensions: object) -> LanguageModel:
    """A tiny model whose every matrix is drawn anew: zero projections would contribute nothing."""
    model = redrawn(tiny(name, **dimensions), torch.Generator().manual_seed(0)).eval()
    assert isinstance(model, LanguageModel)
    return model


def test_an_identity_block_contributes_nothing() -> None:
    model = planted.model_of([planted.Scaling(1.0), planted.Delay(16, 2), planted.Scaling(1.0)])
    profile = as_profile(ablated(model, TEXT, PLAN, EVERYTHING))
    for block in (0, 2):
        for kind in KINDS:
            effect = profile.effect("block", block=block, kind=kind)
            assert effect is not None
            assert effect.nats.low is not None
            assert effect.nats.high is not None
            assert effect.nats.low <= 0 <= effect.nats.high
            assert abs(effect.nats.mean) < 1e-9
    middle = profile.effect("mixer", block=1)
    assert middle is not None
    assert abs(middle.nats.mean) > 0.1


def test_what_a_known_block_contributes_is_that_by_hand() -> None:
    """Without its delay the model says the current token, and its loss is that of doing so."""
    model = planted.seeing(3)
    profile = as_profile(ablated(model, TEXT, PLAN, EVERYTHING))
    effect = profile.effect("block", block=0, kind="zero")
    assert effect is not None
    plain = planted.seeing(1)
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(
                of(torch.from_numpy(TEXT.inputs)).flatten(0, 1), torch.from_numpy(TEXT.targets).flatten()
            ).item()
            for of in (model, plain)
        ]
    assert profile.nats_per_token == pytest.approx(losses[0], rel=1e-5)
    assert effect.nats.mean == pytest.approx(losses[1] - losses[0], rel=1e-4)
    assert effect.nats.low is not None
    assert effect.nats.low > 0


def test_one_window_gives_what_another_has() -> None:
    """Resampled, block 0 adds what the next window's block 0 added at the same position; the circle closes."""
    model = planted.seeing(2)
    found = ablated(model, TEXT, PLAN, EVERYTHING)
    sample = sampled(TEXT, 0, 40)
    inputs = torch.from_numpy(sample.inputs)
    with torch.no_grad():
        added = model.blocks[0](model.embedding(inputs))[0] - model.embedding(inputs)
        logits = model.head(model.embedding(inputs) + added.roll(-1, 0))
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(sample.targets).flatten(), reduction="none"
    )
    by_window = nats.view(inputs.shape).sum(1).numpy()
    site = next(index for index, site in enumerate(found.sites) if (site.part, site.block) == ("block", 0))
    assert found.lost[site, KINDS.index("resample")] + found.nats == pytest.approx(by_window, rel=1e-4)


def test_the_control_moves_by_the_output_s_own_length() -> None:
    model = planted.seeing(2)
    site = next(site for site in sites_of(model) if (site.part, site.block) == ("mixer", 0))
    run = _Ablation(model, sampled(TEXT, 0, 4), PLAN, [site], [CONTROL], 0, 2_048)
    x = torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(0))
    moved = run._change(CONTROL, np.array([3, 5]), {}, {})(site.places[0], x) - x
    assert torch.allclose(moved.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
    assert (torch.nn.functional.cosine_similarity(moved, x, dim=-1).abs() < 0.9).float().mean() > 0.9
    alone = run._change(CONTROL, np.array([5]), {}, {})(site.places[0], x[1:]) - x[1:]
    assert torch.equal(alone, moved[1:]), "it depends on the window, and not on what stands beside it"


def test_batches_do_not_matter() -> None:
    model = drawn_again("gpt2")
    text = planted.random_text(8, 10, vocabulary=61)
    protocol = AblationProtocol(windows=8, tokens=None, kinds=KINDS, parts=("block", "mixer", "path"))
    alone, together = (ablated(model, text, PLAN, protocol, pass_tokens=tokens) for tokens in (10, 1_000))
    assert together.lost == pytest.approx(alone.lost, abs=1e-4)
    assert together.nats == pytest.approx(alone.nats, rel=1e-5)


@pytest.mark.parametrize("name", ["rwkv7", "groundthink", "hybrid"])
def test_going_on_from_a_block_is_the_whole_pass(name: str) -> None:
    """What earlier layers publish for later ones is there again."""
    model = drawn_again(name)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 61, (2, 9)))
    run = Resumable(model, ids, PLAN)
    for block in range(len(model.sequence_blocks())):
        assert torch.allclose(run.resumed(block), run.hidden, atol=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_parts_of_every_architecture_are_found(name: str) -> None:
    """Each has blocks and mixers whose replacement is felt, and heads of which one alone would be none."""
    model = drawn_again(name)
    sites = sites_of(model)
    blocks = len(model.sequence_blocks())
    for part in ("block", "mixer"):
        assert [site.block for site in sites if site.part == part and site.block is not None] == list(range(blocks))
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 61, (2, 7)))
    run = Resumable(model, ids, PLAN.model_copy(update={"precision": "bfloat16"}))
    assert torch.equal(run.resumed(0), run.hidden)
    heads = [place for site in sites if site.part == "head" and site.block == 0 for place in site.places]
    mixer = next(site for site in sites if site.part == "mixer" and site.block == 0)
    assert len(heads) != 1
    for places in (mixer.places, *([heads] if heads else [])):
        with replaced(places, lambda _, x: torch.zeros_like(x)):
            assert not torch.allclose(run.resumed(0), run.hidden)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_heads_are_found_in_mixers_of_every_kind() -> None:
    """In attention, in recurrences with either way to say how many they are, and in both mixers of a twin."""
    for name, heads in (("gpt2", 2), ("rwkv6", 2), ("mamba2", 4), ("gated-delta-net", 2), ("twin", 6)):
        found = [site for site in sites_of(tiny(name)) if site.part == "head" and site.block == 0]
        assert len(found) == heads, (name, [site.name for site in found])


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "bfloat16") for name in ARCHITECTURES.names()), ("gpt2", "float32"), ("twin", "float32")],
)
def test_one_window_of_one_token(name: str, precision: str) -> None:
    item = MEASUREMENTS.get("contribution")
    plan = PLAN.model_copy(update={"precision": precision})
    of = given(drawn_again(name), windows([[3, 5]], 1, [0]), plan=plan, quick=True)
    (values,) = measure_model([item], of)  # type: ignore[list-item]
    assert isinstance(values, Contribution)
    assert values.trained is not None
    assert values.trained.tokens == 1
    assert all(np.isfinite(effect.nats.mean) and effect.nats.low is None for effect in values.trained.effects)


def test_shares_of_paths_are_those_that_were_planted() -> None:
    """A path that adds nothing has none of what all contribute, and two halves have one half each."""
    protocol = AblationProtocol(windows=40, tokens=None, kinds=("zero", "mean"), parts=("block", "mixer", "path"))
    for left, share in ((1.0, 1.0), (0.5, 0.5), (0.0, 0.0)):
        mixer = planted.TwoPaths(16, 2, left)
        model = planted.model_of([mixer], width=16, tables=planted.table_of(6.0))
        found = ablated(model, TEXT, PLAN, protocol)
        for kind in ("zero", "mean"):
            of = found.shares(kind)  # type: ignore[arg-type]
            assert of["left"] is not None
            assert of["right"] is not None
            assert of["left"].mean == pytest.approx(share, abs=1e-5)
            assert of["left"].low - 1e-6 <= share <= of["left"].high + 1e-6
            assert of["right"].mean == pytest.approx(1 - share, abs=1e-5)


def test_intervals_cover_what_all_windows_would_give() -> None:
    """400 samples of 40 of 2,000 windows, each with its interval, against the mean of all."""
    protocol = AblationProtocol(windows=2_000, tokens=None, kinds=("zero",), parts=("block", "mixer", "path"))
    found = ablated(planted.seeing(3), planted.repeating(2_000, 12, 3), PLAN, protocol, pass_tokens=24_000)
    lost = found.lost[next(i for i, site in enumerate(found.sites) if site.part == "block"), 0]
    truth, draw, covered = lost.sum() / found.scored.sum(), np.random.default_rng(0), 0
    for _ in range(400):
        rows = draw.choice(2_000, 40, replace=False)
        interval = over_drawn(lost[rows], found.scored[rows], Drawn("windows", rows))
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


def test_seeds_agree_within_their_intervals() -> None:
    protocol = AblationProtocol(windows=40, tokens=None, kinds=("mean",), parts=("block", "mixer", "path"))
    text = planted.repeating(160, 16, 3)
    first, second = (as_profile(ablated(planted.seeing(3), text, PLAN, protocol, seed)) for seed in (0, 1))
    one, other = (profile.effect("block", block=0) for profile in (first, second))
    assert one is not None
    assert other is not None
    assert one.nats.mean != other.nats.mean
    assert one.nats.low is not None
    assert other.nats.low is not None
    assert abs(one.nats.mean - other.nats.mean) < 1.5 * (
        one.nats.mean - one.nats.low + other.nats.mean - other.nats.low
    )


def test_what_intervals_do_not_say_is_said() -> None:
    """Over windows of few sources nothing is known of other texts; of a loss that is not finite, of no part."""
    profile = as_profile(ablated(planted.seeing(3), TEXT, PLAN, EVERYTHING))
    item = MEASUREMENTS.get("contribution")
    few, broken = (
        item.sentences(Contribution(initial=None, trained=profile.model_copy(update=update)))
        for update in ({"over": "windows"}, {"over": "sources", "nats_per_token": float("nan")})
    )
    assert few[-1].startswith("Intervals of contribution are over windows, as these are of fewer than 20 sources")
    assert broken == ["Its loss is not finite, so that nothing can be said of what its parts cost."]
