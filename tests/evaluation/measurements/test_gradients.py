"""Gradients that are known: of blocks in a chain, of batches that agree or not, of paths of different size."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.audit.redraw import redrawn
from assay.evaluation.inside.gradient import ParameterGradient, TokenBatch, agreement
from assay.evaluation.inside.gradient_profile import balance_verdict, flow_verdict, group_of, measure_gradients
from assay.evaluation.measurements.gradients import Gradients, MeasureGradients
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import LanguageModel
from assay.training.config import TrainingConfig
from evaluation.small import PLAN, tiny

TRAINING = TrainingConfig()


def batches(number: int = 4, tokens: int = 12, seed: int = 0) -> list[TokenBatch]:
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, 61, (number, tokens + 1))
    return [TokenBatch(row[None, :-1], row[None, 1:]) for row in ids]


def varied(name: str = "gpt1", **dimensions: object) -> LanguageModel:
    return redrawn(tiny(name, **dimensions), torch.Generator().manual_seed(0))


def test_norms_are_those_of_backward() -> None:
    model = varied()
    profile = measure_gradients(model, batches(1), PLAN, TRAINING)
    other = copy.deepcopy(model).eval()
    (batch,) = batches(1)
    logits = other(torch.from_numpy(batch.inputs))
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.targets).flatten()).backward()
    squares: dict[str, float] = {}
    for name, parameter in other.named_parameters():
        assert parameter.grad is not None
        squares[group_of(name)] = squares.get(group_of(name), 0) + float(parameter.grad.square().sum())
    assert {group.group: group.norm.mean for group in profile.groups} == {
        group: pytest.approx(math.sqrt(square), rel=1e-4) for group, square in squares.items()
    }
    assert profile.total.mean == pytest.approx(math.sqrt(sum(squares.values())), rel=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert sum(group.parameters for group in profile.groups) == sum(p.numel() for p in model.parameters())


def test_groups_are_the_parts_of_the_model() -> None:
    assert group_of("blocks.11.channel_mixer.up.weight") == "block 11 channel mixer"
    assert group_of("blocks.0.mixer_norm.weight") == group_of("blocks.0.channel_mixer_norm.bias") == "block 0 norms"
    assert group_of("blocks.0.mixer.norm_weight") == "block 0 mixer"
    assert [group_of(name) for name in ("embedding.tokens", "norm.weight", "untied_head")] == [
        "embedding",
        "norm",
        "head",
    ]


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "HEALTHY"), (1e-4, "VANISHING"), (1e4, "EXPLODING")])
def test_a_factor_planted_behind_the_first_block_is_found(factor: float, verdict: str) -> None:
    """What passes forward is the same; what comes back to the first block is multiplied."""
    model = varied(n_layers=3)
    plain = measure_gradients(model, batches(), PLAN)

    def scaled(_: nn.Module, __: object, output: tuple[Tensor, object]) -> tuple[Tensor, object]:
        return factor * output[0] + (1 - factor) * output[0].detach(), output[1]

    with model.blocks[0].register_forward_hook(scaled):
        profile = measure_gradients(model, batches(), PLAN)
    assert profile.verdict == verdict
    assert profile.first_to_last.mean == pytest.approx(factor * plain.first_to_last.mean, rel=0.01)


def test_verdicts() -> None:
    assert flow_verdict(1.0, False, 1.0) == flow_verdict(101, True, 1.0) == "EXPLODING"
    assert flow_verdict(1.0, True, 0.0) == flow_verdict(0.009, True, 1.0) == "VANISHING"


def test_windows_of_one_document_count_once() -> None:
    """Four documents twice each have the intervals of four, not of eight."""
    model, of = varied("gpt1"), batches(4)
    once = measure_gradients(model, of, PLAN)
    twice = measure_gradients(model, [*of, *of], PLAN, document=[*range(4), *range(4)])
    assert once.total.low is not None
    assert (twice.total.low, twice.total.high) == (pytest.approx(once.total.low), pytest.approx(once.total.high))
    assert twice.groups[0].norm.high == pytest.approx(once.groups[0].norm.high)
    as_eight = measure_gradients(model, [*of, *of], PLAN).total
    assert as_eight.low is not None
    assert as_eight.low > once.total.low


def test_noise_scale_is_that_of_gradients_of_known_spread() -> None:
    """Gradients with a mean of 1 and a deviation of 3 in each of 4,000 numbers: one batch has nine times its signal."""
    draw = np.random.default_rng(0)
    gradients = 1 + 3 * draw.standard_normal((64, 4_000))
    part = ParameterGradient(
        "w", 4_000, np.square(gradients).sum(1), float(np.square(gradients.mean(0)).sum()), 1.0, None
    )
    of = agreement([part])
    assert of.signal == pytest.approx(4_000, rel=0.05)
    assert of.noise / of.signal == pytest.approx(9, rel=0.05)


def test_equal_batches_have_no_noise() -> None:
    profile = measure_gradients(varied(), batches(1) * 3, PLAN)
    assert profile.noise_scale_tokens is None or profile.noise_scale_tokens < 1e-3
    assert profile.total.low == pytest.approx(profile.total.mean)
    assert measure_gradients(varied(), batches(1), PLAN).noise_scale_tokens is None


def test_the_noise_scale_does_not_depend_on_the_size_of_batches() -> None:
    """In tokens it is the same for batches of one window and of two, up to its own noise."""
    ones = batches(40, 8)
    twos = [
        TokenBatch(*(np.concatenate(parts) for parts in zip(a, b, strict=True)))
        for a, b in zip(ones[::2], ones[1::2], strict=True)
    ]
    a, b = (
        measure_gradients(varied(d_model=16, n_heads=2, n_layers=1), of, PLAN).noise_scale_tokens for of in (ones, twos)
    )
    assert a is not None
    assert b is not None
    assert a == pytest.approx(b, rel=0.5)


def test_steps_are_those_of_adamw() -> None:
    """With equal batches every number moves by the learning rate, besides the decay."""
    training = TrainingConfig.parse({"learning_rate": 0.01, "weight_decay": 0.0, "epsilon": 1e-30})
    model = varied()
    profile = measure_gradients(model, batches(1) * 2, PLAN, training)
    (group,) = (group for group in profile.groups if group.group == "block 0 channel mixer")
    weights = [p for name, p in model.named_parameters() if group_of(name) == group.group]
    moved = 0.01 * math.sqrt(sum(p.numel() for p in weights))
    size = math.sqrt(sum(float(p.detach().square().sum()) for p in weights))
    assert group.update_to_weight == pytest.approx(moved / size, rel=1e-3)
    assert measure_gradients(model, batches(1), PLAN).groups[0].update_to_weight is None


def test_balance_of_two_paths() -> None:
    assert [balance_verdict(ratio) for ratio in (0.05, 0.2, 0.3, 3.0, 9.0, 11.0)] == [
        "UNBALANCED", "WARN", "BALANCED", "BALANCED", "WARN", "UNBALANCED",
    ]  # fmt: skip
    model = varied("twin")
    before = measure_gradients(model, batches(), PLAN)
    assert [(of.first, of.second) for of in before.balances] == [("rwkv", "mamba")] * 2
    with torch.no_grad():
        for block in model.sequence_blocks():
            fusion = dict(block.mixer.named_modules())["fusion"]
            dict(fusion.named_parameters())["decide.bias"].copy_(torch.tensor([8.0, -8.0]))
            dict(fusion.named_parameters())["decide.weight"].zero_()
    after = measure_gradients(model, batches(), PLAN)
    assert all(of.ratio.mean > 100 and of.verdict == "UNBALANCED" for of in after.balances), "only RWKV is heard"
    assert "UNBALANCED" in MeasureGradients().sentences(Gradients(initial=None, trained=after))[1]


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES.names() if "gpt2ish-" not in name])
def test_every_architecture_at_one_token_and_in_bfloat16(name: str) -> None:
    model = varied(name)
    model.train()
    plan = PLAN.model_copy(update={"precision": "bfloat16"})
    profile = measure_gradients(model, batches(2, 1), plan, TRAINING)
    assert profile.finite
    assert model.training
    assert bool(profile.balances) == (name == "twin")


def test_one_block_has_no_first_and_last() -> None:
    profile = measure_gradients(varied(n_layers=1), batches(2), PLAN)
    values = Gradients(initial=profile, trained=None)
    columns = {column.key: column for column in MeasureGradients().columns(values)}
    assert columns["first_to_last"].value is None
    assert columns["verdict"].text == "HEALTHY"
    (line,) = MeasureGradients().sentences(values)
    assert "HEALTHY: there is one block, so that first and last are the same; " in line
    (line,) = MeasureGradients().sentences(
        Gradients(initial=profile.model_copy(update={"finite": False, "verdict": "EXPLODING"}), trained=None)
    )
    assert line.endswith("EXPLODING: they are not finite; nothing can be said of their noise.")
