"""The replica of the leaking GroundThink hybrid (research note "document 001"): against a loop written from a
description of the note's code; its leaks; its projections that nothing uses.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.redraw import redrawn
from assay.errors import RequestError
from assay.layers.groundthink.leaking import MemoryLayerV7, ReaderLayerV7
from assay.layers.mixer import Shared, state_tensors
from assay.model.accounting import count_state_bytes
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.ops.execution import Execution

D, H, K, V = 24, 3, 8, 31
DIMENSIONS = {"d_model": D, "n_heads": H, "head_dim": K, "vocab_size": V, "d_ff": 40, "window": 4, "heads": "tied"}


def make(pattern: str, weights: str = "redrawn", **options: Any) -> LanguageModel:
    """A model in float64, at inference."""
    architecture = ARCHITECTURES.get("groundthink-v7")
    config = architecture.config.parse({**DIMENSIONS, "pattern": pattern, **options})
    model = build_model(architecture, config, seed=1).double().eval()
    return model if weights == "given" else redrawn(model, torch.Generator().manual_seed(2))


def ids(length: int, rows: int = 2) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(length))


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean() + 1e-6) * weight


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum())


def turned(x: Tensor, position: int) -> Tensor:
    """Rotary positions of every head: channels i and i + K/2 as one complex number, turned."""
    pairs = torch.complex(*x.view(H, 2, K // 2).unbind(1))
    angles = position * 10000 ** (-torch.arange(K // 2, dtype=torch.float64) * 2 / K)
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], 1).flatten()


def layers(model: LanguageModel) -> tuple[MemoryLayerV7, ReaderLayerV7]:
    """Both layers of a model of pattern GS."""
    memory, reader = (block.mixer for block in model.sequence_blocks())
    assert isinstance(memory, MemoryLayerV7)
    assert isinstance(reader, ReaderLayerV7)
    return memory, reader


class Loop:
    """One sequence, token by token and head by head, from a description of the note's code; no layer is used."""

    def __init__(self, model: LanguageModel, pattern: str, **options: Any) -> None:
        self.p: dict[str, Tensor] = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        self.pattern, self.options = pattern, {"shifted_value": True, "shared_key": True, "window": 4, **options}
        self.markers = list(options.get("marker_ids", ()))

    def logits(self, tokens: list[int]) -> Tensor:
        p = self.p
        x = [rms(p["embedding.tokens"][token], p["embedding.norm.weight"]) for token in tokens]
        final, key_weight, bank = [torch.zeros(K, K, dtype=torch.float64)] * H, torch.empty(0), torch.empty(0)
        for index, kind in enumerate(self.pattern):
            name = f"blocks.{index}."
            normed = [rms(token, p[name + "mixer_norm.weight"]) for token in x]
            if kind == "G":
                key_weight, bank = p[name + "mixer.key.weight"], p[name + "mixer.markers.bank"]
                out, final = self.memory_layer(name + "mixer.", normed, tokens, final)
            else:
                out = self.reader_layer(name + "mixer.", normed, tokens, final, key_weight, bank)
            x = [token + y for token, y in zip(x, out, strict=True)]
            x = [token + self.ffn(name, rms(token, p[name + "channel_mixer_norm.weight"])) for token in x]
        return torch.stack([p["embedding.tokens"] @ rms(token, p["norm.weight"]) for token in x])

    def ffn(self, name: str, x: Tensor) -> Tensor:
        gate, up, down = (self.p[f"{name}channel_mixer.{part}.weight"] for part in ("gate", "up", "down"))
        z = gate @ x
        y: Tensor = down @ (z / (1 + torch.exp(-z)) * (up @ x))
        return y

    def keys(self, x: Tensor, token: int, weight: Tensor, bank: Tensor, normalise: bool) -> list[Tensor]:
        if token in self.markers:
            return [bank[self.markers.index(token)]] * H
        heads = [(weight @ x)[h * K : (h + 1) * K] for h in range(H)]
        return [unit(head) for head in heads] if normalise else heads

    def memory_layer(
        self, name: str, xs: list[Tensor], tokens: list[int], start: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        p, states, outputs = self.p, list(start), []
        for t, x in enumerate(xs):
            source = t - 1 if self.options["shifted_value"] else t
            if source < 0:
                outputs.append(torch.zeros(D, dtype=torch.float64))
                continue
            beta = torch.sigmoid(p[name + "beta.weight"] @ xs[source] + p[name + "beta.bias"])
            if tokens[source] not in self.markers:
                beta = beta * self.options.get("beta_floor", 1.0)
            gate = torch.sigmoid(p[name + "gate.weight"] @ xs[source] + p[name + "gate.bias"])
            keys = self.keys(xs[source], tokens[source], p[name + "key.weight"], p[name + "markers.bank"], True)
            values = p[name + "value.weight"] @ x
            read = []
            for h, key in enumerate(keys):
                value = values[h * K : (h + 1) * K]
                error = value - key @ states[h]
                states[h] = gate[h] * states[h] + beta[h] * torch.outer(key, error)
                read.append(key @ states[h])
            outputs.append(p[name + "output.weight"] @ torch.cat(read))
        return outputs, states

    def reader_layer(
        self, name: str, xs: list[Tensor], tokens: list[int], final: list[Tensor], key_weight: Tensor, bank: Tensor
    ) -> list[Tensor]:
        p, outputs = self.p, []
        q, k, v = ([p[f"{name}{part}.weight"] @ x for x in xs] for part in ("query", "key", "value"))
        if self.options.get("rope"):
            q, k = ([turned(row, t) for t, row in enumerate(rows)] for rows in (q, k))
        for t, x in enumerate(xs):
            seen = range(max(0, t - self.options["window"]), t + 1)
            local = []
            for h in range(H):
                part = slice(h * K, (h + 1) * K)
                scores = torch.stack([q[t][part] @ k[s][part] for s in seen]) * K**-0.5
                weights = torch.exp(scores) / torch.exp(scores).sum()
                local.append(sum(w * v[s][part] for w, s in zip(weights, seen, strict=True)))
            shared_key = self.options["shared_key"]
            weight = key_weight if shared_key else p[name + "global_query.weight"]
            queries = self.keys(x, tokens[t], weight, bank, normalise=not shared_key)
            read = torch.cat([query @ state for query, state in zip(queries, final, strict=True)])
            gate = torch.sigmoid(p[name + "gate.weight"] @ x + p[name + "gate.bias"]).mean()
            attended = p[name + "output.weight"] @ torch.cat(local)
            retrieved = gate * (p[name + "memory_output.weight"] @ read)
            outputs.append(self.options.get("local_scale", 0.3) * attended + retrieved)
        return outputs


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("G", {}),
        ("GG", {}),
        ("GSGS", {}),
        ("GGGGGS", {}),
        ("GSSG", {"shared_key": False, "local_scale": 0.1}),
        ("GGS", {"shifted_value": False, "rope": True}),
        ("GGS", {"marker_ids": (3, 17, 5, 8), "beta_floor": 0.25}),
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [1, 2, 9])
def test_equals_a_loop_written_from_the_facts(pattern: str, options: dict[str, Any], length: int) -> None:
    model = make(pattern, **options)
    loop = Loop(model, pattern, **options)
    tokens = ids(length)
    expected = torch.stack([loop.logits(row.tolist()) for row in tokens])
    torch.testing.assert_close(model(tokens), expected, rtol=1e-9, atol=1e-9)


def test_markers_and_floor_matter() -> None:
    tokens = ids(13)
    plain = make("GGS")(tokens)
    for options in ({"beta_floor": 0.25}, {"marker_ids": tuple(tokens[0, :2].tolist())}):
        assert (make("GGS", **options)(tokens) - plain).abs().max() > 1e-3
    assert torch.equal(make("GGS", marker_ids=(V - 1,))(tokens.clamp(max=V - 2)), make("GGS")(tokens.clamp(max=V - 2)))


def gradient_sizes(model: LanguageModel, position: int) -> Tensor:
    """How much the hidden state at `position` depends on each of nine embedded tokens."""
    x = model.embedding(ids(9, rows=1)).detach().requires_grad_()
    shared: Shared = {}
    y = x
    for block in model.sequence_blocks():
        y, _ = block(y, None, shared)
    (gradient,) = torch.autograd.grad(y[0, position].square().sum(), x)
    sizes: Tensor = gradient[0].norm(dim=-1)
    return sizes


def test_one_memory_alone_is_causal() -> None:
    sizes = gradient_sizes(make("G"), 4)
    assert sizes[:5].min() > 1e-6
    assert sizes[5:].max() <= 1e-12 * sizes.max()


@pytest.mark.parametrize("pattern", ["GS", "GG"])
def test_each_leak_alone_shows_later_tokens(pattern: str) -> None:
    """GS: the reader sees the final state at every position. GG: the second memory starts from the first's end."""
    later = gradient_sizes(make(pattern), 4)[5:]
    assert later.min() > 1e-4


@pytest.mark.parametrize(
    ("shared_key", "dead"),
    [(True, {"0.mixer.cue_query.weight", "0.mixer.cue_query.bias", "1.mixer.global_query.weight"}),
     (False, {"0.mixer.cue_query.weight", "0.mixer.cue_query.bias"})],
)  # fmt: skip
def test_dead_projections_are_those_of_the_document(shared_key: bool, dead: set[str]) -> None:
    model = make("GS", shared_key=shared_key)
    model(ids(9)).square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert without == {f"blocks.{name}" for name in dead}


def test_the_first_layer_gives_zero_at_position_0_and_only_there() -> None:
    model = make("G")
    y, state = model.sequence_blocks()[0].mixer(model.embedding(ids(5)))
    assert not y[:, 0].any()
    assert y[:, 1:].norm(dim=-1).min() > 1e-3
    _, first = model.sequence_blocks()[0].mixer(model.embedding(ids(1)))
    assert not first.memory.any()
    assert state.memory.any()


def test_local_attention_is_dropped_by_sequence_in_training_and_scaled_at_inference() -> None:
    model = make("GS")
    _, layer = layers(model)
    seen: list[Tensor] = []
    layer.local_tap.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    tokens = ids(6, rows=1).expand(200, -1)
    model(tokens)
    model.train()(tokens)
    inference, training = seen
    kept = training.flatten(1).any(1)
    assert 0.2 < kept.double().mean() < 0.4
    torch.testing.assert_close(training[kept], inference[kept] / 0.3 / 0.3, rtol=1e-9, atol=1e-12)
    make_static = make("GS", local_drop=0.0)
    torch.testing.assert_close(make_static.train()(tokens[:2]), make_static.eval()(tokens[:2]))


def test_prefill_starts_as_the_forward_and_steps_run() -> None:
    model = make("GSGS")
    tokens = ids(11)
    with torch.no_grad():
        logits, state = model.prefill(tokens[:, :7])
        torch.testing.assert_close(logits, model(tokens[:, :7]), rtol=1e-12, atol=1e-12)
        for t in range(7, 11):
            logits, state = model.step(tokens[:, t], state)
            assert logits.isfinite().all()
        logits, _ = model.step(tokens[:, 0], model.initial_state(2))
    assert logits.isfinite().all()
    assert state.position == 11


@pytest.mark.parametrize("context", [1, 4, 11])
def test_state_bytes_are_what_prefill_returns(context: int) -> None:
    cases: list[dict[str, Any]] = [{}, {"shifted_value": False}]
    for options in cases:
        model = make("GSGS", **options).float()
        _, state = model.prefill(ids(context, rows=1))
        assert sum(t.numel() * t.element_size() for t in state_tensors(state)) == count_state_bytes(model, context)


@pytest.mark.parametrize("execution", [Execution("loop"), Execution("chunked", 16)], ids=str)
def test_executed_flops_are_what_torch_counts(execution: Execution) -> None:
    cases: list[dict[str, Any]] = [{}, {"shared_key": False, "window": 2}]
    for options in cases:
        for tokens in (1, 21):
            shared: Shared = {}
            for layer in layers(make("GS", **options)):
                layer.execution = execution
                with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
                    layer(torch.ones(1, tokens, D, dtype=torch.float64), None, shared)
                declared = layer.executed_flops(tokens)
                assert counter.get_total_flops() == pytest.approx(declared.counted, rel=0.02)
                assert all(flops > 0 for flops in declared.uncounted.values())


def test_initialisation_is_the_documents() -> None:
    model = make("GS", weights="given", d_model=96, n_heads=4, head_dim=24, vocab_size=500)
    memory, reader = layers(model)
    assert model.embedding.tokens.std().item() == pytest.approx(0.02, rel=0.02)
    assert not memory.beta.bias.any()
    assert (memory.gate.bias == 2).all()
    assert (reader.gate.bias == 1).all()
    for layer in (memory.key, memory.cue_query, reader.query, reader.global_query, reader.memory_output):
        assert layer.weight.abs().max().item() == pytest.approx(96**-0.5, rel=0.02)
    bank = memory.markers.bank
    assert bank is not None
    torch.testing.assert_close(bank @ bank.T, torch.eye(24, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"pattern": "SG"}, "model.pattern"),
        ({"pattern": "GAS"}, "model.pattern"),
        ({"pattern": ""}, "model.pattern"),
        ({"pattern": "GS", "n_layers": 3}, "model.n_layers"),
        ({"pattern": "GS", "d_model": 32}, "model.d_model"),
        ({"marker_ids": (V,)}, "model.marker_ids"),
        ({"marker_ids": (1, 1)}, "model.marker_ids"),
        ({"marker_ids": tuple(range(K + 1))}, "model.marker_ids"),
        ({"rope": True, "pattern": "G", "head_dim": 7}, "model.head_dim"),
    ],
    ids=str,
)
def test_wrong_requests_are_one_line(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=f"^{named}") as caught:
        make(**{"pattern": "GS", **wrong})
    assert "\n" not in str(caught.value)
