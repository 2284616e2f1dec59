"""The contract of a layer: sound ones keep it, and each way to break it is refused in one line with file and line."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import RequestError
from assay.layers.attention import CausalAttention, SlidingWindowAttention
from assay.layers.basic import uniform_fan_in_
from assay.layers.mixer import SequenceLayer
from assay.model.architecture import ARCHITECTURES, Architecture
from assay.model.contract import check_contract, check_shapes


class Average(NamedTuple):
    h: Tensor


class Mean(SequenceLayer):
    """A moving average, sound."""

    decay_roles: ClassVar = {"rate": False}

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.zeros(d_model))
        self.output = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: Any = None, shared: Any = None) -> Any:
        h = self.initial_state(len(x)).h if state is None else state.h
        outputs = []
        for t in range(x.shape[1]):
            h = torch.lerp(x[:, t], h, self.rate.sigmoid())
            outputs.append(h)
        return self.output(torch.stack(outputs, 1)), Average(h)

    def initial_state(self, batch: int, capacity: int | None = None) -> Any:
        return Average(self.rate.new_zeros(batch, len(self.rate)))

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.uniform_(self.rate, 0, 3, generator=generator)
        uniform_fan_in_(self.output.weight, generator)


class Convolution(Mean):
    """Its state is a plain tuple of the last four inputs."""

    def forward(self, x: Tensor, state: Any = None, shared: Any = None) -> Any:
        inputs = torch.cat([self.initial_state(len(x))[0] if state is None else state[0], x], 1)
        y = sum(inputs[:, k : k + x.shape[1]] * self.rate**k for k in range(5))
        return self.output(y), (inputs[:, -4:],)

    def initial_state(self, batch: int, capacity: int | None = None) -> Any:
        return (self.rate.new_zeros(batch, 4, len(self.rate)),)


class Cached(Mean):
    """It keeps every input, without room or with room for `capacity`; and how many they are, in a tensor."""

    def forward(self, x: Tensor, state: Any = None, shared: Any = None) -> Any:
        past, seen = self.initial_state(len(x)) if state is None else state
        past = torch.cat([past[:, : int(seen[0])], x], 1)
        mean = past.cumsum(1) / torch.arange(1, past.shape[1] + 1)[:, None]
        return self.output(mean[:, -x.shape[1] :]), (past, seen + x.shape[1])

    def initial_state(self, batch: int, capacity: int | None = None) -> Any:
        return self.rate.new_zeros(batch, capacity or 0, len(self.rate)), torch.zeros(batch, dtype=torch.int32)


class Stateless(Mean):
    def forward(self, x: Tensor, state: Any = None, shared: Any = None) -> Any:
        return self.output(x) * self.rate, ()

    def initial_state(self, batch: int, capacity: int | None = None) -> Any:
        return ()


def of(mixer: Callable[[Any, int], Any], **parts: Any) -> Architecture:
    return Architecture(name="probe", summary="", citation="", mixer=mixer, **parts)


SOUND = {
    "mean": lambda config, _: Mean(config.d_model),
    "convolution": lambda config, _: Convolution(config.d_model),
    "cache": lambda config, _: Cached(config.d_model),
    "stateless": lambda config, _: Stateless(config.d_model),
    "attention": lambda config, _: CausalAttention(config.d_model, 2),
    "window": lambda config, _: SlidingWindowAttention(config.d_model, 2, 3),
    "wide window": lambda config, _: SlidingWindowAttention(config.d_model, 2, 6),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_mixer_keeps_it(name: str) -> None:
    check_contract(of(SOUND[name]))


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_every_architecture_keeps_it(name: str) -> None:
    """The unsound replica too: leaks are found by the audit, not by these checks."""
    check_contract(ARCHITECTURES.get(name))
    check_shapes(ARCHITECTURES.get(name))


def changed(**methods: Any) -> type[Mean]:
    return type("Broken", (Mean,), methods)


def answering(change: Callable[[Any, Any], Any]) -> type[Mean]:
    """A mixer that returns `change(y, state)`."""
    return changed(forward=lambda self, x, state=None, *_: change(*Mean.forward(self, x, state)))


def beginning(change: Callable[[int], Any]) -> type[Mean]:
    """A mixer whose `initial_state(batch)` is `change(batch)`, which its forward does not ask."""

    def forward(self: Mean, x: Tensor, state: Any = None, *_: Any) -> Any:
        return Mean.forward(self, x, Average(torch.zeros_like(x[:, 0])) if state is None else state)

    return changed(forward=forward, initial_state=lambda _, batch, *__: change(batch))


def _doubling(self: Mean, x: Tensor, state: Any = None, *_: Any) -> Any:
    return Mean.forward(self, x.mul_(2), state)


def _growing(self: Mean, x: Tensor, state: Any = None, *_: Any) -> Any:
    self.extra = nn.Parameter(torch.ones(x.shape[2]))
    return Mean.forward(self, x * self.extra, state)


def _overwriting(self: Mean, x: Tensor, state: Any = None, *_: Any) -> Any:
    y, state = Mean.forward(self, x, state)
    gate = y.exp()
    y = y * gate
    gate.zero_()
    return y + 0 * gate, state


def _no_single(self: Mean, x: Tensor, state: Any = None, *_: Any) -> Any:
    assert x.shape[1] > 1
    return Mean.forward(self, x, state)


class Roleless(Mean):
    decay_roles: ClassVar = {}


class Hiding(Mean):
    """Its state is in a dict, where nobody counts it."""

    def forward(self, x: Tensor, state: Any = None, shared: Any = None) -> Any:
        y, after = super().forward(x, Average((state or self.initial_state(len(x)))[0]["h"]))
        return y, ({"h": after.h},)

    def initial_state(self, batch: int, capacity: int | None = None) -> Any:
        return ({"h": super().initial_state(batch).h},)


BROKEN: dict[str, tuple[type[Mean], str]] = {
    "double": (answering(lambda y, s: (y.double(), s)), "forward returned torch.float64 for inputs of torch.float32"),
    "bfloat16": (answering(lambda y, s: (y.bfloat16(), s)), "forward returned torch.bfloat16"),
    "integers": (answering(lambda y, s: (y.long(), s)), "forward returned torch.int64"),
    "in place": (changed(forward=_doubling), "forward changes its input x in place"),
    "new parameters": (changed(forward=_growing), "forward adds or replaces parameters"),
    "no gradient": (changed(forward=_overwriting), "has been modified by an inplace operation"),
    "no single token": (changed(forward=_no_single), "AssertionError"),
    "a dict": (Hiding, "is a dict; tensors, numbers, and tuples of them are needed"),
    "forward(x)": (changed(forward=lambda _, x: (x, ())), "positional argument"),
    "initial_state()": (changed(initial_state=lambda _: Average(torch.zeros(2, 32))), "positional argument"),
    "initial_state(batch)": (changed(initial_state=lambda self, batch: Mean.initial_state(self, batch)), "argument"),
    "raising": (changed(initial_state=lambda *_: 1 // 0), "ZeroDivisionError"),
    "None": (beginning(lambda _: None), "initial_state returned NoneType as its state"),
    "wider": (beginning(lambda batch: Average(torch.zeros(batch, 33))), "h is [2, 33], forward returns [2, 32]"),
    "narrower": (beginning(lambda batch: Average(torch.zeros(batch, 31))), "h is [2, 31]"),
    "one row": (beginning(lambda _: Average(torch.zeros(1, 32))), "h is [1, 32], forward returns [2, 32]"),
    "flat": (beginning(lambda _: Average(torch.zeros(32))), "h is [32]"),
    "other type": (beginning(lambda batch: Average(torch.zeros(batch, 32).double())), "h is torch.float64"),
    "other tuple": (beginning(lambda batch: (torch.zeros(batch, 32),)), "is a tuple, forward returns a Average"),
    "nothing": (beginning(lambda _: ()), "is a tuple, forward returns a Average"),
    "other start": (beginning(lambda batch: Average(torch.ones(batch, 32))), "beginning from initial_state"),
    "no role": (Roleless, "Roleless declares no weight-decay role for its parameter blocks.0.mixer.rate"),
    "bytes": (changed(state_bytes=lambda *_: 0.5), "state_bytes returned 0.5"),
    "bytes of nothing": (changed(state_bytes=lambda _: 1), "positional argument"),
    "flops": (changed(flops_per_token=lambda *_: None), "flops_per_token returned None"),
    "outputs": (changed(residual_outputs=lambda _: None), "residual_outputs returned no tuple of weights"),
    "executed": (changed(executed_flops=lambda *_: 3), "executed_flops returned a int"),
    "reset": (changed(reset_parameters=lambda _: None), "positional argument"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_it_is_refused_in_one_line_with_file_and_line(name: str) -> None:
    layer, says = BROKEN[name]
    with pytest.raises(RequestError) as caught:
        check_contract(of(lambda config, _: layer(config.d_model)))
    assert says in str(caught.value)
    assert "test_contract.py: line " in str(caught.value)
    assert "\n" not in str(caught.value)


def _parts() -> Iterator[tuple[str, Architecture, str]]:
    yield "a class", of(Mean), "Mean.__init__() takes 2 positional arguments but 3 were given"
    yield "no layer", of(lambda *_: nn.Linear(32, 32)), "mixer makes Linear, which is no SequenceLayer"
    yield "nothing", of(lambda *_: None), "mixer makes NoneType, which is no SequenceLayer"
    sound = SOUND["mean"]
    yield "channel mixer", of(sound, channel_mixer=lambda *_: F.relu), "channel_mixer makes"
    yield "norm", of(sound, norm=lambda width: nn.LayerNorm(width)), "norm makes LayerNorm, which is no Layer"
    yield "positions", of(sound, max_positions=lambda _: "many"), "max_positions makes str"


@pytest.mark.parametrize(("architecture", "says"), [pytest.param(a, s, id=n) for n, a, s in _parts()])
def test_a_part_of_the_wrong_kind_is_refused(architecture: Architecture, says: str) -> None:
    for check in (check_contract, check_shapes):
        with pytest.raises(RequestError) as caught:
            check(architecture)
        assert says in str(caught.value)
        assert ": line " in str(caught.value)


def test_a_leak_between_layers_is_left_to_the_audit() -> None:
    """A layer that reads an earlier layer's last token through `shared` has the right shapes, so it passes here."""

    class Telling(Mean):
        def forward(self, x: Tensor, state: Any = None, shared: Any = None) -> Any:
            y, state = super().forward(x, state)
            heard = shared.get("last", torch.zeros_like(x[:, :1]))
            shared["last"] = x[:, -1:]
            return y + heard, state

    check_contract(of(lambda config, _: Telling(config.d_model)))
