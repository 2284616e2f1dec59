"""Learning rates at the places that matter, and optimizer groups that hold every parameter once."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from assay.errors import RequestError
from assay.layers.mixer import Layer
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.optimizer_roles import optimizer_roles
from assay.training.config import TrainingConfig
from assay.training.optim import build_optimizer, learning_rate, optimizer_groups, set_rate

PEAK = 0.01


def protocol(schedule: str = "cosine", steps: int = 100, **values: Any) -> TrainingConfig:
    return TrainingConfig.parse(
        {"schedule": schedule, "tokens": steps * 8, "batch_tokens": 8, "context": 8, "learning_rate": PEAK, **values}
    )


def rates(config: TrainingConfig) -> list[float]:
    return [learning_rate(config, step) for step in range(config.steps)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd"])
def test_warm_up_is_linear_and_ends_at_the_peak(schedule: str) -> None:
    got = rates(protocol(schedule))
    assert got[:10] == pytest.approx([PEAK * step / 10 for step in range(1, 11)])
    assert max(got) == pytest.approx(PEAK)
    assert got[0] > 0


@pytest.mark.parametrize(("schedule", "last"), [("constant", PEAK), ("cosine", PEAK / 10), ("wsd", PEAK / 10)])
def test_the_last_step_has_the_final_share(schedule: str, last: float) -> None:
    assert rates(protocol(schedule))[-1] == pytest.approx(last)
    assert rates(protocol(schedule, final_share=0.0))[-1] == pytest.approx(last if schedule == "constant" else 0.0)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 97])
def test_up_then_down_at_any_length(schedule: str, steps: int) -> None:
    """Also where warm-up and decay meet or overlap, rates stay within (0, peak] and turn once."""
    for warmup, decay in itertools.product((0.0, 0.1, 0.5, 1.0), (0.0, 0.2, 1.0)):
        config = protocol(schedule, steps, warmup_share=warmup, decay_share=decay)
        got = rates(config)
        assert all(0 < rate <= PEAK * (1 + 1e-12) for rate in got)
        top = got.index(max(got))
        assert got[: top + 1] == sorted(got[: top + 1])
        assert got[top:] == sorted(got[top:], reverse=True)


def test_cosine_is_halfway_in_the_middle() -> None:
    got = rates(protocol("cosine", warmup_share=0.0, final_share=0.0))
    assert got[49] == pytest.approx(PEAK / 2)
    assert got[24] == pytest.approx(PEAK * (1 + math.cos(math.pi / 4)) / 2)


def test_wsd_is_flat_until_a_linear_fall() -> None:
    got = rates(protocol("wsd"))
    assert got[10:80] == [PEAK] * 70
    falls = [a - b for a, b in itertools.pairwise(got[79:])]
    assert falls == pytest.approx([0.9 * PEAK / 20] * 20)


class Bare(nn.Module):
    """A parameter for which nobody declares a role."""

    def __init__(self) -> None:
        super().__init__()
        self.mystery = nn.Parameter(torch.zeros(3))


class Sound(Layer):
    """Owns a matrix and a gain, and contains one of torch's own layers."""

    decay_roles: ClassVar[Mapping[str, bool]] = {"matrix": True, "gain": False}

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(2, 2))
        self.gain = nn.Parameter(torch.ones(2))
        self.inner = nn.Linear(2, 2)

    def reset_parameters(self, generator: torch.Generator) -> None:
        raise NotImplementedError


def tiny(name: str, **values: Any) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    return build_model(architecture, architecture.config.parse({**architecture.tiny, **values}), 0)


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_groups_hold_every_parameter_once(name: str) -> None:
    for tied in (True, False):
        model = tiny(name, heads="tied" if tied else "untied")
        optimizer = build_optimizer(model, protocol(weight_decay=0.3))
        held = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert len(held) == len(set(held))
        assert set(held) == {id(p) for p in model.parameters()}
        groups = [(group["weight_decay"], group["rate_factor"]) for group in optimizer.param_groups]
        assert groups == [(0.3, 1.0), (0.0, 1.0), (0.0, 2.0)][: 3 if name in ("rwkv6", "rwkv7", "twin") else 2]
        recorded = optimizer_groups(model, protocol(weight_decay=0.3))
        assert [(group.weight_decay, group.rate_factor) for group in recorded] == groups
        assert sum(group.parameters for group in recorded) == sum(p.numel() for p in model.parameters())


def test_roles_are_those_the_modules_declare() -> None:
    roles = {name: role.decay for name, _, role in optimizer_roles(Sound())}
    assert roles == {"matrix": True, "gain": False, "inner.weight": True, "inner.bias": False}
    named = {name: role.decay for name, _, role in optimizer_roles(tiny("gpt1"))}
    assert named["embedding.tokens"]
    assert named["blocks.0.mixer.qkv.weight"]
    assert not named["embedding.positions"]
    assert not named["blocks.1.mixer_norm.weight"]


def test_a_parameter_that_two_modules_share_is_held_once() -> None:
    twins = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    twins[1].weight = twins[0].weight
    assert [name for name, _, _ in optimizer_roles(twins)] == ["0.weight"]
    (group,) = build_optimizer(twins, protocol()).param_groups
    assert len(group["params"]) == 1


def test_decay_all_leaves_one_group() -> None:
    model = tiny("gpt1")
    (group,) = build_optimizer(model, protocol(decay_all=True, weight_decay=0.01)).param_groups
    assert len(group["params"]) == len(list(model.parameters()))
    assert group["weight_decay"] == 0.01


@pytest.mark.parametrize("wrap", [lambda: Bare(), lambda: nn.Sequential(nn.Linear(2, 2), Bare())])
def test_a_parameter_without_a_role_is_an_error_that_names_it(wrap: Callable[[], nn.Module]) -> None:
    with pytest.raises(RequestError, match=r"Bare declares no weight-decay role for its parameter (1\.)?mystery"):
        build_optimizer(wrap(), protocol())


def test_a_subclass_of_a_stock_module_must_say_its_own_roles() -> None:
    class Changed(nn.Linear):
        pass

    with pytest.raises(RequestError, match="Changed declares no weight-decay role"):
        list(optimizer_roles(Changed(2, 2)))


def test_decay_reaches_the_decayed_group_only() -> None:
    """With no gradient to speak of, a step shrinks decayed weights by lr * decay and leaves the others."""
    module = Sound()
    with torch.no_grad():
        module.matrix.fill_(1.0)
    optimizer = build_optimizer(module, protocol(weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert module.matrix.flatten().tolist() == pytest.approx([1 - PEAK * 0.5] * 4)
    assert module.gain.tolist() == [1.0, 1.0]


class Fast(Sound):
    """The same, but its matrix learns three times as fast."""

    rate_factors: ClassVar[Mapping[str, float]] = {"matrix": 3.0}


@pytest.mark.parametrize("layer_rates", [True, False])
def test_a_step_follows_the_rate_that_a_layer_declares(layer_rates: bool) -> None:
    """Adam's first step is the learning rate, whatever the gradient; the factor stays at every step's rate."""
    module = Fast()
    config = protocol(weight_decay=0.0, layer_rates=layer_rates)
    optimizer = build_optimizer(module, config)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_rate(optimizer, 0.001)
    optimizer.step()
    assert module.matrix.flatten().tolist() == pytest.approx([-0.003 if layer_rates else -0.001] * 4, rel=1e-4)
    assert module.gain.tolist() == pytest.approx([0.999] * 2, rel=1e-6)


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"matrices": 2.0}, "rate_factors: matrices: stands in no decay_roles; did you mean 'matrix'"),
        ({"gain": 0}, "rate_factors: gain: 0 given, a positive number would do"),
        ({"gain": math.inf}, "rate_factors: gain: inf given"),
        ({"gain": True}, "rate_factors: gain: True given"),
    ],
)
def test_factors_that_cannot_be_are_refused(factors: dict[str, float], says: str) -> None:
    wrong = type("Wrong", (Sound,), {"rate_factors": factors})
    with pytest.raises(RequestError, match=f"Wrong.{says}"):
        build_optimizer(wrong(), protocol())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"batch_tokens": 100, "context": 32}, "--batch-tokens 100: must be a multiple of --context 32; 96 would do"),
        ({"batch_tokens": 8, "context": 32}, "--batch-tokens 8: must be a multiple of --context 32; 32 would do"),
        (
            {"batch_tokens": 64, "context": 16, "micro_batch_tokens": 24},
            "training.micro_batch_tokens 24: must be a multiple of --context 16; 16 would do",
        ),
        (
            {"batch_tokens": 64, "context": 16, "micro_batch_tokens": 48},
            r"--batch-tokens 64: must be a multiple of training.micro_batch_tokens \(48\); 48 would do",
        ),
    ],
)
def test_batches_of_whole_windows(values: dict[str, int], says: str) -> None:
    with pytest.raises(RequestError, match=f"^{says}$"):
        TrainingConfig.parse(values)


def test_steps_cover_the_tokens() -> None:
    assert protocol(steps=10).steps == 10
    assert TrainingConfig.parse({"tokens": 81, "batch_tokens": 8, "context": 8}).steps == 11
    assert protocol(steps=100).interval(None) == 10
    assert protocol(steps=5).interval(None) == 1
    assert protocol(steps=5).interval(4) == 4


def test_warm_up_in_tokens_is_the_same_for_runs_of_any_length() -> None:
    short, long = (rates(protocol("wsd", steps, warmup_tokens=4 * protocol("wsd").batch_tokens)) for steps in (20, 40))
    assert short[:16] == long[:16], "until the decay of the shorter one begins"
    assert short[2] < short[3] == short[4] == max(short)
