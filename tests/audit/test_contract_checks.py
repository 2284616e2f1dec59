"""Each contract check passes a sound architecture and catches one that breaks what the check is about."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from assay.audit.contract import costs, gradients, publishing, same_numbers, weights
from assay.audit.contract.architecture import CHECKS, held
from assay.layers.basic import uniform_fan_in_
from assay.layers.mixer import ExecutedFlops, SequenceLayer
from assay.model.architecture import Architecture, ModelConfig, Scale
from assay.ops.execution import note_form
from assay.ops.forms import Implementation, Op
from assay.records import Finding

State = Any
Shared = Any


class Sum(NamedTuple):
    """The sum of the tokens seen, and their number."""

    total: Tensor
    tokens: Tensor


class Linear(SequenceLayer):
    """One matrix, position by position; it says in which form it ran, as an op would."""

    decay_roles: ClassVar[dict[str, bool]] = {"gain": False}
    ops: tuple[Op, ...] = (Op("linear", {"loop": Implementation(id), "chunked": Implementation(id)}),)

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, d_model, bias=False)
        self.gain = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, State]:
        note_form("linear", self.execution.form)
        return self.linear(x) * self.gain, ()

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.linear.weight, generator)
        nn.init.ones_(self.gain)


class OtherWhenChunked(Linear):
    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, State]:
        y, state = super().forward(x)
        return y * (1 + 1e-6 * (self.execution.form == "chunked")), state


class AlwaysTheLoop(Linear):
    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, State]:
        note_form("linear", "loop")
        return self.linear(x) * self.gain, ()


class Mean(Linear):
    """The mean of the past, in one form only; it declares no more than it must."""

    ops = ()

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, Sum]:
        total, tokens = self.initial_state(len(x)) if state is None else state
        totals = total[:, None] + (self.linear(x) * self.gain).cumsum(1)
        counts = tokens[:, None] + torch.arange(1, x.shape[1] + 1)[:, None]
        return totals / counts, self.kept(totals, counts)

    def kept(self, totals: Tensor, counts: Tensor) -> Sum:
        return Sum(totals[:, -1].clone(), counts[:, -1].clone())

    def initial_state(self, batch: int, capacity: int | None = None) -> Sum:
        zeros = self.gain.new_zeros(batch, len(self.gain))
        return Sum(zeros, zeros[:, :1].clone())


class Forgets(Mean):
    """Ignores its state: every call begins anew."""

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, Sum]:
        return super().forward(x)


class BeginsElsewhere(Mean):
    """Its initial state differs from the one that a call without a state starts from."""

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, Sum]:
        return super().forward(x, super().initial_state(len(x)) if state is None else state)

    def initial_state(self, batch: int, capacity: int | None = None) -> Sum:
        begun = super().initial_state(batch)
        return begun if capacity is None else Sum(begun.total + 1, begun.tokens)


class KeepsAView(Mean):
    def kept(self, totals: Tensor, counts: Tensor) -> Sum:
        return Sum(totals[:, -1], counts[:, -1])


class SaysTooLittle(Mean):
    def state_bytes(self, context: int, bytes_per_element: int) -> int:
        return 4


class Peeks(Mean):
    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, Sum]:
        y, state = super().forward(x, state)
        return y + 1e-3 * x.mean(1, keepdim=True), state


class Declares(Mean):
    """Declares executed FLOPs: those of its matrix, and by name what torch does not count."""

    matrix, adding = 2, 1

    def flops_per_token(self, context: int) -> int:
        return super().flops_per_token(context) + 2 * len(self.gain)

    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.linear.weight,)

    def executed_flops(self, tokens: int) -> ExecutedFlops:
        per_token = self.matrix * self.linear.weight.numel()
        return ExecutedFlops(tokens * per_token, {"adding": self.adding * tokens})


class DeclaresHalf(Declares):
    matrix = 1


class DeclaresLessThanNothing(Declares):
    adding = -1


class NamesTheWrongOutput(Declares):
    def residual_outputs(self) -> tuple[Tensor, ...]:
        return (self.gain[:0],)


class DrawsByItself(Declares):
    draws = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, Sum]:
        y, state = super().forward(x, state)
        return y + torch.randn(y.shape, generator=self.draws) * self.training, state


class DropsInEvaluation(Declares):
    rate = 0.0

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, Sum]:
        y, state = super().forward(x, state)
        return y * (1 - self.rate), state


class Unused(Declares):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.unused = nn.Linear(d_model, d_model)


class PublishesWhatItHasSeen(Mean):
    key = "mean.last"

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, Sum]:
        y, state = super().forward(x, state)
        if shared is not None:
            shared[self.key] = self.published(y)
        return y, state

    def published(self, y: Tensor) -> Tensor:
        return y[:, -1]


class PublishesAWeight(PublishesWhatItHasSeen):
    key = "mean.linear_weight"

    def published(self, y: Tensor) -> Tensor:
        return self.linear.weight


class PublishesAllPositions(PublishesWhatItHasSeen):
    def published(self, y: Tensor) -> Tensor:
        return y


class CallsItAWeight(PublishesWhatItHasSeen):
    key = "mean.linear_weight"


class ChangesTheIds(PublishesAllPositions):
    key = "ids"


class Undeclared(Linear):
    ops = ()


class WithoutRole(Linear):
    decay_roles: ClassVar[dict[str, bool]] = {}


class Constant(Mean):
    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.linear.weight)
        nn.init.ones_(self.gain)


class HalfInitialised(Linear):
    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.linear.weight, generator)


class DrawnElsewhere(Linear):
    draws = torch.Generator().manual_seed(0)

    def reset_parameters(self, generator: torch.Generator) -> None:
        super().reset_parameters(self.draws)


class Detached(Linear):
    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, State]:
        return x * float("nan"), ()


class Unstored(Linear):
    made = 0

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        type(self).made += 1
        self.register_buffer("number", torch.full((d_model,), float(type(self).made)), persistent=False)

    def forward(self, x: Tensor, state: State = None, shared: Shared = None) -> tuple[Tensor, State]:
        return self.linear(x) * self.number, ()


class OnlyWide(Linear):
    """A matrix of two million parameters at any width."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.wide = nn.Linear(2048, 1024, bias=False)


def architecture(layer: type[Linear], scale: Scale | None = None) -> Architecture:
    return Architecture(
        name=layer.__name__,
        summary="",
        citation="",
        mixer=lambda config, _: layer(config.d_model),
        scale=scale or Scale(),
    )


def dropping(_: type[Linear]) -> Architecture:
    """An architecture whose mixer applies dropout in evaluation too."""

    def mixer(config: ModelConfig, _: int) -> DropsInEvaluation:
        layer = DropsInEvaluation(config.d_model)
        layer.rate = config.dropout
        return layer

    return Architecture(name="dropping", summary="", citation="", mixer=mixer)


Check = Callable[[Architecture], Finding]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_architecture_passes(check: Check) -> None:
    """The check `forms` is skipped, as this architecture has one form of its ops only."""
    found = check(architecture(Declares))
    assert found.status == ("skip" if check is same_numbers.forms else "pass"), found.explanation


def test_two_forms_that_agree_pass() -> None:
    assert same_numbers.forms(architecture(Linear)).status == "pass"


@pytest.mark.parametrize(
    ("check", "status", "says"),
    [
        (same_numbers.forms, "skip", "its mixers have one form only"),
        (weights.zero_outputs, "skip", "no residual_outputs are named by blocks.0.mixer (Mean), blocks.1.mixer (Mean)"),
        (costs.accounting, "pass", "executed FLOPs are not declared"),
    ],
)
def test_what_is_not_declared_is_not_asked_for(check: Check, status: str, says: str) -> None:
    found = check(architecture(Mean))
    assert found.status == status
    assert says in found.explanation


@pytest.mark.parametrize("layer", [PublishesAWeight, PublishesAllPositions])
def test_positions_and_weights_may_be_published(layer: type[Linear]) -> None:
    assert publishing.publishing(architecture(layer)).status == "pass"


@pytest.mark.parametrize(
    ("check", "layer", "says"),
    [
        (same_numbers.forms, OtherWhenChunked, "3. chunked form, 16 tokens a chunk, differs from the loop"),
        (same_numbers.forms, AlwaysTheLoop, "2. linear did not run in the form that was asked for, chunked"),
        (same_numbers.forms, Undeclared, "1. linear: the ops that ran are not those of the layers"),
        (same_numbers.decoding, Forgets, "1. 1 tokens and then 36 from their state differ from one call"),
        (same_numbers.decoding, Forgets, "2. token 1 stepped after a first part of 1 differs from one call"),
        (same_numbers.decoding, BeginsElsewhere, "3. token 0 stepped from initial_state(capacity=37) differs"),
        (gradients.reach, Peeks, "1. the hidden state at 0 has a gradient with respect to token"),
        (gradients.learning, Detached, "1. 12 steps on one batch: nan"),
        (
            publishing.publishing,
            PublishesWhatItHasSeen,
            "1. blocks.0 (PublishesWhatItHasSeen) publishes shared['mean.last']",
        ),
        (publishing.publishing, CallsItAWeight, "2. blocks.0 (CallsItAWeight) publishes shared['mean.linear_weight']"),
        (publishing.publishing, ChangesTheIds, "3. blocks.0 (ChangesTheIds) changes shared['ids']"),
        (weights.roles, WithoutRole, "declares no weight-decay role for its parameter blocks.0.mixer.gain"),
        (weights.complete_initialisation, HalfInitialised, "1. reset_parameters leaves blocks.0.mixer.gain"),
        (
            weights.complete_initialisation,
            DrawnElsewhere,
            "2. the same seed gives other values of blocks.0.mixer.linear",
        ),
        (
            weights.zero_outputs,
            NamesTheWrongOutput,
            "1. blocks.0.mixer (NamesTheWrongOutput) adds to the residual stream",
        ),
        (weights.dropout, DrawsByItself, "2. training with one seed twice gives other logits"),
        (weights.storing, Unstored, "1. loaded weights give other logits"),
        (costs.accounting, SaysTooLittle, "2. 8 bytes of state declared after 1 tokens, 264 returned"),
        (costs.accounting, DeclaresHalf, "3. "),
        (costs.accounting, DeclaresLessThanNothing, "4. `executed_flops` says that adding take less than nothing"),
    ],
)
def test_what_is_broken_is_caught(check: Check, layer: type[Linear], says: str) -> None:
    found = check(architecture(layer))
    assert found.status == "fail"
    assert says in found.explanation


@pytest.mark.parametrize(
    ("check", "layer", "says"),
    [
        (gradients.reach, Linear, "2. no hidden state depends on an earlier token"),
        (gradients.dead_parameters, Unused, "1. no gradient reaches blocks.0.mixer.unused.weight"),
        (costs.accounting, KeepsAView, "5. of the state after 3 tokens a tensor [1, 32] is a view of 384 bytes"),
    ],
)
def test_what_may_be_meant_is_a_warning(check: Check, layer: type[Linear], says: str) -> None:
    found = check(architecture(layer))
    assert found.status == "warn"
    assert says in found.explanation


def test_a_parameter_that_two_layers_share_breaks_the_sums() -> None:
    """It would be counted twice, so that arms would be matched by a wrong size."""
    one = Mean(32)
    found = costs.accounting(dataclasses.replace(architecture(Mean), mixer=lambda *_: one))
    assert found.status == "fail"
    assert "1. parameter groups" in found.explanation


def test_what_drops_in_evaluation_is_caught() -> None:
    found = weights.dropout(dropping(DropsInEvaluation))
    assert found.status == "fail"
    assert "1. evaluation with a dropout rate gives other logits than without one" in found.explanation


def test_a_model_that_draws_nothing_is_caught() -> None:
    """The tables must not draw either, as a mixer without draws is allowed."""
    ones = {f"{part}_draw": lambda table, _: nn.init.ones_(table) for part in ("embedding", "head")}
    constant = dataclasses.replace(architecture(Mean), **ones)
    layers = {"channel_mixer": lambda *_: None, "mixer": lambda config, _: Constant(config.d_model)}
    found = weights.complete_initialisation(dataclasses.replace(constant, **layers))
    assert found.status == "fail"
    assert "3. another seed gives the same values" in found.explanation


def test_flops_of_a_state_that_are_not_declared_are_a_warning() -> None:
    found = costs.declared_flops(architecture(Mean))
    assert found.status == "warn"
    assert "Mean keeps a state and inherits FLOPs that count its matrices alone" in found.explanation
    sound = [costs.declared_flops(architecture(layer)).status for layer in (Declares, Linear)]
    assert sound == ["pass", "pass"]


def test_a_size_that_cannot_be_had_is_a_warning() -> None:
    """An embedding of 4096 rows and a whole layer of width 1024 are more than a million parameters."""
    found = costs.sizing(architecture(OnlyWide))
    assert found.status == "warn"
    assert "nearest that can be had" in found.explanation


def test_what_an_audit_warns_of_fails_where_it_was_promised() -> None:
    warned = Finding(check="parity", status="warn", explanation="a step raised")
    failed = held(warned)
    assert failed.status == "fail"
    assert failed.explanation.startswith("a step raised; ")
    sound = warned.model_copy(update={"status": "pass"})
    assert held(sound) == sound
    dead = warned.model_copy(update={"check": "dead_parameters"})
    assert held(dead) == dead
