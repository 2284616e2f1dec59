"""Each contract check passes a sound architecture and catches one that breaks what it is about."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from assay.audit import contract_checks as checks
from assay.layers.basic import uniform_fan_in_
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import Architecture, Scale
from assay.ops.execution import note_form
from assay.ops.forms import Implementation, Op
from assay.records import Finding


class Linear(SequenceLayer):
    """One matrix, position by position; it says in which form it ran, as an op would."""

    decay_roles: ClassVar[dict[str, bool]] = {"gain": False}
    ops: tuple[Op, ...] = (Op("linear", {"loop": Implementation(id), "chunked": Implementation(id)}),)

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, d_model, bias=False)
        self.gain = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor, state: object = None, shared: object = None) -> tuple[Tensor, tuple[()]]:
        note_form("linear", self.execution.form)
        return self.linear(x) * self.gain, ()

    def initial_state(self, batch: int, capacity: int | None = None) -> tuple[()]:
        return ()

    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.linear.weight, generator)
        nn.init.ones_(self.gain)


class OtherWhenChunked(Linear):
    def forward(self, x: Tensor, state: object = None, shared: object = None) -> tuple[Tensor, tuple[()]]:
        y, state = super().forward(x)
        return y * (1 + 1e-6 * (self.execution.form == "chunked")), state


class AlwaysTheLoop(Linear):
    def forward(self, x: Tensor, state: object = None, shared: object = None) -> tuple[Tensor, tuple[()]]:
        note_form("linear", "loop")
        return self.linear(x) * self.gain, ()


class Undeclared(Linear):
    ops = ()


class LastSeen(NamedTuple):
    x: Tensor


class Stateful(Linear):
    """Keeps the last input and does not say what that costs."""

    def forward(self, x: Tensor, state: object = None, shared: object = None) -> tuple[Tensor, LastSeen]:
        y, _ = Linear.forward(self, x)
        return y, LastSeen(x[:, -1])

    def initial_state(self, batch: int, capacity: int | None = None) -> LastSeen:
        return LastSeen(self.gain.new_zeros(batch, len(self.gain)))


class Declared(Stateful):
    def flops_per_token(self, context: int) -> int:
        return super().flops_per_token(context) + len(self.gain)


class WithoutRole(Linear):
    decay_roles: ClassVar[dict[str, bool]] = {}


class HalfInitialised(Linear):
    def reset_parameters(self, generator: torch.Generator) -> None:
        uniform_fan_in_(self.linear.weight, generator)


class DrawnElsewhere(Linear):
    draws = torch.Generator().manual_seed(0)

    def reset_parameters(self, generator: torch.Generator) -> None:
        super().reset_parameters(self.draws)


class Detached(Linear):
    def forward(self, x: Tensor, state: object = None, shared: object = None) -> tuple[Tensor, tuple[()]]:
        return x * float("nan"), ()


class Unstored(Linear):
    made = 0

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        type(self).made += 1
        self.register_buffer("number", torch.full((d_model,), float(type(self).made)), persistent=False)

    def forward(self, x: Tensor, state: object = None, shared: object = None) -> tuple[Tensor, tuple[()]]:
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


SOUND = (checks.forms, checks.roles, checks.complete_initialisation, checks.learning, checks.storing, checks.sizing)


@pytest.mark.parametrize("check", SOUND, ids=lambda check: check.__name__)
def test_a_sound_architecture_passes(check: Callable[[Architecture], Finding]) -> None:
    assert check(architecture(Linear)).status == "pass"


@pytest.mark.parametrize(
    ("check", "layer", "says"),
    [
        (checks.forms, OtherWhenChunked, "differ by so much of the largest logit"),
        (checks.forms, AlwaysTheLoop, "linear did not run in the form that was asked for"),
        (checks.forms, Undeclared, "linear: the ops that ran are not those of the layers' `ops`"),
        (checks.roles, WithoutRole, "declares no weight-decay role for its parameter blocks.0.mixer.gain"),
        (checks.complete_initialisation, HalfInitialised, "leaves blocks.0.mixer.gain"),
        (checks.complete_initialisation, DrawnElsewhere, "the same seed gives other values of blocks.0.mixer.linear"),
        (checks.learning, Detached, "nan"),
        (checks.storing, Unstored, "loaded weights give other logits"),
    ],
)
def test_what_is_broken_is_caught(check: Callable[[Architecture], Finding], layer: type[Linear], says: str) -> None:
    found = check(architecture(layer))
    assert found.status == "fail"
    assert says in found.explanation


def test_flops_of_a_state_that_are_not_declared_are_a_warning() -> None:
    found = checks.declared_flops(architecture(Stateful))
    assert found.status == "warn"
    assert "Stateful keeps a state and inherits FLOPs that count its matrices alone" in found.explanation
    assert [checks.declared_flops(architecture(layer)).status for layer in (Declared, Linear)] == ["pass", "pass"]


def test_a_size_that_cannot_be_had_is_a_warning() -> None:
    """An embedding of 4096 rows and a whole layer of width 1024 are more than a million parameters."""
    found = checks.sizing(architecture(OnlyWide))
    assert found.status == "warn"
    assert "nearest that can be had" in found.explanation


@pytest.mark.parametrize("check", ["parity", "accounting"])
def test_what_an_audit_warns_of_fails_where_it_was_promised(check: str) -> None:
    warned = Finding(check=check, status="warn", explanation="4 bytes of state declared, 8 returned")
    failed = checks.held(warned)
    assert failed.status == "fail"
    assert failed.explanation.startswith("4 bytes of state declared, 8 returned; ")
    sound = warned.model_copy(update={"status": "pass"})
    assert checks.held(sound) == sound
    dead = warned.model_copy(update={"check": "dead_parameters"})
    assert checks.held(dead) == dead
