"""Checks of decoding, modes and packing: what each must keep; what cannot be decided is skipped, not failed."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.audit import audit
from assay.records import Finding
from plain_models import D, Mixing, Small, V, causal_attention, running_mean, seeded


def finding(model: nn.Module, check: str, **options: Any) -> Finding:
    report = audit(model, **{"max_length": 40, **options})
    return next(found for found in report.findings if found.check == check)


def plain(outputs: int = V) -> nn.Module:
    return seeded(lambda: Small([Mixing(causal_attention)], outputs=outputs), 0)


def nats(logits: Tensor, ids: Tensor, shift: int = 1) -> Tensor:
    """[B, T - shift]"""
    count = ids.shape[1] - shift
    return F.cross_entropy(logits[:, :count].mT, ids[:, shift:], reduction="none")


class Cached(nn.Module):
    """Token shift and a running sum, decoded as in transformers; `off` makes the cache wrong, `none` returns none."""

    def __init__(self, off: float = 0.0, none: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.mixer = nn.Linear(2 * D, D)
        self.head = nn.Linear(D, V)
        self.off, self.none = off, none

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, past_key_values: Any = None, use_cache: bool = False
    ) -> SimpleNamespace:
        x = self.table(input_ids)
        total, last = (torch.zeros_like(x[:, 0]),) * 2 if past_key_values is None else past_key_values
        sums = total[:, None] + x.cumsum(1)
        shifted = torch.cat([last[:, None], x[:, :-1]], 1)
        logits = self.head(x + self.mixer(torch.cat([sums / 8, shifted], -1)))
        cache = (sums[:, -1] + self.off, x[:, -1]) if use_cache and not self.none else None
        loss = None if labels is None else nats(logits, labels).mean()
        return SimpleNamespace(logits=logits, loss=loss, past_key_values=cache)


@pytest.mark.slow
def test_caches_as_in_transformers() -> None:
    sound = seeded(Cached, 0)
    assert finding(sound, "parity").status == "pass", "1. a right cache passes"
    assert finding(sound, "scoring").status == "pass", "1. a right cache passes"
    broken = finding(seeded(lambda: Cached(off=1e-4), 0), "parity")
    assert broken.status == "fail", "2. a wrong cache fails"
    assert broken.where is not None
    assert broken.where.startswith("Cached itself: position"), "3. the model's own code is named"
    assert finding(seeded(lambda: Cached(none=True), 0), "parity").status == "skip", "4. a cache that is never returned"
    assert finding(plain(), "parity").status == "skip", "5. a model without a cache"


class Decay(nn.Module):
    """A decaying sum with a state; a step decays by `step_decay`."""

    def __init__(self, step_decay: float) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.step_decay = step_decay

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        values, outputs = self.value(x), []
        decay = 0.9 if x.shape[1] > 1 else self.step_decay
        state = torch.zeros_like(values[:, 0]) if state is None else state
        for value in values.unbind(1):
            state = decay * state + value
            outputs.append(state)
        return torch.stack(outputs, 1), state


class Stepping(nn.Module):
    """Three decaying sums in a row; the second may decode wrongly."""

    def __init__(self, step_decay: float) -> None:
        super().__init__()
        self.table = nn.Embedding(V, D)
        self.layers = nn.ModuleList([Decay(0.9), Decay(step_decay), Decay(0.9)])
        self.head = nn.Linear(D, V)

    def prefill(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        x, states = self.table(ids), []
        for place, layer in enumerate(self.layers):
            y, after = layer(x, None if state is None else state[place])
            x = x + y / 4
            states.append(after)
        return self.head(x), states

    def forward(self, ids: Tensor) -> Tensor:
        return self.prefill(ids)[0]

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self.prefill(ids[:, None], state)
        return logits[:, 0], state


def test_the_layer_that_decodes_wrongly_is_named() -> None:
    assert finding(seeded(lambda: Stepping(0.9), 0), "parity").status == "pass"
    found = finding(seeded(lambda: Stepping(0.9001), 0), "parity")
    assert (found.status, found.modules) == ("fail", ("layers.1",))


class HandMade(nn.Module):
    """Dropout written by hand, with a probability to keep: nothing outside can switch it off."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) < 0.8) / 0.8 if self.training else x


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if self.training else x


def with_second(layer: nn.Module) -> nn.Module:
    return seeded(lambda: Small([Mixing(causal_attention), nn.Sequential(Mixing(running_mean), layer)]), 0)


def test_a_stochastic_layer_is_not_decided_and_hides_no_other() -> None:
    found = finding(with_second(HandMade()), "modes")
    assert found.status == "skip"
    assert "blocks.1.1 (HandMade)" in found.explanation
    assert audit(with_second(HandMade()), max_length=40).sound
    both = finding(with_second(nn.Sequential(Doubling(), HandMade())), "modes")
    assert (both.status, both.modules) == ("fail", ("blocks.1.1.0",))


class Packed(Small):
    """Attention within documents, which begin with id 0; with `off` it sees that many tokens across the boundary."""

    def __init__(self, off: int) -> None:
        super().__init__([])
        self.off = off

    def hidden(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        document = (ids == 0).cumsum(1)
        time = torch.arange(ids.shape[1])
        near = (document[:, :, None] == document[:, None]) | (time[:, None] - time < self.off)
        closed = ~(near & (time <= time[:, None]))
        return self.norm(x + (x @ x.mT).masked_fill(closed, -1e9).softmax(-1) @ x)


def test_packed_documents() -> None:
    assert finding(seeded(lambda: Packed(0), 0), "isolation", packing=0).status == "pass"
    found = finding(seeded(lambda: Packed(3), 0), "isolation", packing=0)
    assert found.status == "fail"
    assert "after id 0" in found.explanation
    assert finding(seeded(lambda: Packed(3), 0), "isolation").status == "pass"


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_sequences_can_be_audited(length: int) -> None:
    assert audit(seeded(lambda: Stepping(0.9), 0), max_length=length, packing=0, fresh=True).searched.longest == length
    assert audit(nn.Embedding(2, 2), max_length=length).sound


class Initial(nn.Module):
    """Sets its own decays; a wrapper may draw over them."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.empty(64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.decay.uniform_(-6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.decay.sigmoid().mean()


@pytest.mark.parametrize(("std", "status"), [(None, "pass"), (0.02, "warn")])
def test_an_own_initialisation_is_compared_by_its_distribution(std: float | None, status: str) -> None:
    model = with_second(Initial())
    if std is not None:
        torch.nn.init.normal_(model.get_submodule("blocks.1.1").decay, std=std)
    found = finding(model, "initialisation", fresh=True)
    assert found.status == status
    assert found.modules == (() if std is None else ("blocks.1.1",))
