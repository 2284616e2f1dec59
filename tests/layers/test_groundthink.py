"""The causal GroundThink hybrid: against a loop written for the test; causality; decoding; what each option does."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.redraw import redrawn
from assay.layers.groundthink.reader import ReaderLayer
from assay.layers.groundthink.writer import MemoryLayer
from assay.layers.mixer import Shared, state_tensors
from assay.layers.randomness import seeded
from assay.model.accounting import count_state_bytes
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.ops.execution import Execution

D, H, K, V = 20, 2, 6, 31
DIMENSIONS = {"d_model": D, "n_heads": H, "head_dim": K, "vocab_size": V, "d_ff": 40, "window": 4}
MARKERS = (3, 17, 5, 8)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"error": "before"},
    {"shared_key": False},
    {"shifted_value": False, "rope": True},
    {"marker_ids": MARKERS, "beta_floor": 0.25},
    {"marker_ids": MARKERS, "key_bank": True, "shifted_value": False},
]


def make(pattern: str = "GSGGS", weights: str = "redrawn", form: str = "loop", **options: Any) -> LanguageModel:
    """A model in float64, at inference."""
    architecture = ARCHITECTURES.get("groundthink")
    config = architecture.config.parse({**DIMENSIONS, "pattern": pattern, **options})
    model = build_model(architecture, config, seed=1).double().eval()
    model.set_execution(Execution("loop") if form == "loop" else Execution("chunked", 16))
    return model if weights == "given" else redrawn(model, torch.Generator().manual_seed(2))


def pair(**options: Any) -> tuple[MemoryLayer, ReaderLayer]:
    memory, reader = (block.mixer for block in make("GS", **options).sequence_blocks())
    assert isinstance(memory, MemoryLayer)
    assert isinstance(reader, ReaderLayer)
    return memory, reader


def ids(length: int, rows: int = 2) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(length))


def stream(length: int, seed: int = 0, rows: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, length, D, generator=generator, dtype=torch.float64)


def heads(x: Tensor) -> Tensor:
    return x.reshape(H, K)


def written(layer: MemoryLayer, x: Tensor, tokens: list[int], floor: float) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Key [H, K], beta [H] and gate [H] of each token, not shifted."""
    writes = []
    for token, row in zip(tokens, x, strict=True):
        key = F.normalize(heads(layer.key.weight @ row), dim=1)
        if layer.markers.bank is not None and token in MARKERS:
            key = layer.markers.bank[MARKERS.index(token)].expand(H, K)
        beta = torch.sigmoid(layer.beta.weight @ row + layer.beta.bias)
        writes.append(
            (key, beta if token in MARKERS else beta * floor, torch.sigmoid(layer.gate.weight @ row + layer.gate.bias))
        )
    return writes


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_the_reader_reads_the_state_of_its_own_position(options: dict[str, Any], form: str) -> None:
    """Both layers' retrieval against states formed per position by outer products, with queries from the weights."""
    memory, reader = pair(form=form, **options)
    x, z, tokens = stream(21)[0], stream(21, 1)[0], [3, 5, *ids(19, 1)[0].tolist()]
    writes = written(memory, x, tokens, options.get("beta_floor", 1.0))
    states, own, read = torch.zeros(H, K, K, dtype=torch.float64), [], []
    for t in range(21):
        source = t - 1 if memory.shifted_value else t
        key = torch.zeros(H, K, dtype=torch.float64)
        if source >= 0:
            key, beta, gate = writes[source]
            decayed = gate[:, None, None] * states
            held = states if options.get("error") == "before" else decayed
            error = heads(memory.value.weight @ x[t]) - torch.einsum("hkv,hk->hv", held, key)
            states = decayed + torch.einsum("h,hk,hv->hkv", beta, key, error)
        weight = memory.key.weight if reader.memory_query is None else reader.memory_query.weight
        query = F.normalize(heads(weight @ z[t]), dim=1)
        if memory.markers.bank is not None and tokens[t] in MARKERS:
            query = memory.markers.bank[MARKERS.index(tokens[t])].expand(H, K)
        own.append(memory.output.weight @ torch.einsum("hkv,hk->hv", states, key).flatten())
        gate = torch.sigmoid(reader.gate.weight @ z[t] + reader.gate.bias).mean()
        read.append(gate * (reader.memory_output.weight @ torch.einsum("hkv,hk->hv", states, query).flatten()))

    shared: Shared = {"ids": torch.tensor([tokens])}
    seen: list[Tensor] = []
    reader.retrieval_tap.register_forward_hook(lambda _, __, output: seen.append(output))
    y, state = memory(x[None], None, shared)
    _, reader_state = reader(z[None], None, shared)
    torch.testing.assert_close(y[0], torch.stack(own), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(seen[0][0], torch.stack(read), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(state.memory[0], states, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(reader_state.memory, state.memory, rtol=1e-9, atol=1e-12)


def test_local_attention_sees_the_window_and_scales() -> None:
    _, reader = pair(local_scale=0.7)
    z, outputs = stream(11)[0], []
    for t in range(11):
        rows = z[max(0, t - 3) : t + 1]
        q = heads(reader.query.weight @ z[t])
        k, v = ((rows @ layer.weight.T).reshape(-1, H, K) for layer in (reader.key, reader.value))
        weights = (torch.einsum("hk,shk->hs", q, k) * K**-0.5).softmax(-1)
        outputs.append(0.7 * (reader.output.weight @ torch.einsum("hs,shv->hv", weights, v).flatten()))
    seen: list[Tensor] = []
    reader.local_tap.register_forward_hook(lambda _, __, output: seen.append(output))
    memory, _ = pair()
    shared: Shared = {}
    memory(z[None], None, shared)
    reader(z[None], None, shared)
    torch.testing.assert_close(seen[0][0], torch.stack(outputs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", ["loop", "chunked"])
def test_causal_and_every_parameter_is_used(options: dict[str, Any], form: str) -> None:
    model, t = make(form=form, **options), 16
    x = model.embedding(ids(20, rows=1)).detach().requires_grad_()
    y, shared = x, {"ids": ids(20, rows=1)}
    for block in model.sequence_blocks():
        y, _ = block(y, None, shared)
    (gradient,) = torch.autograd.grad(y[0, t].square().sum(), x, retain_graph=True)
    sizes = gradient[0].norm(dim=-1)
    assert sizes[: t + 1].min() > 1e-9
    assert sizes[t + 1 :].max() <= (0 if form == "loop" else 1e-10 * sizes.max())
    y.square().sum().backward()
    used = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert {name for name, _ in model.named_parameters() if name.startswith("blocks")} <= used


@torch.no_grad()
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_forward_prefill_and_steps_agree(options: dict[str, Any]) -> None:
    """The whole sequence runs in the loop form; the parts, first ones of one, two and a few tokens, in chunked form."""
    model, tokens = make(**options), ids(21)
    whole = model(tokens)
    model.set_execution(Execution("chunked", 16))
    for split in (1, 2, 9):
        first, state = model.prefill(tokens[:, :split])
        second, ahead = model.prefill(tokens[:, split:], state)
        torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-9, atol=1e-9)
        assert sum(t.numel() * t.element_size() for t in state_tensors(ahead)) == 2 * count_state_bytes(model, 21, 8)
        for t in range(split, split + 2):
            logits, state = model.step(tokens[:, t], state)
            torch.testing.assert_close(logits, whole[:, t], rtol=1e-9, atol=1e-9)


def test_no_state_passes_from_layer_to_layer() -> None:
    """The second of two memories starts empty: run alone on the same input it gives the same."""
    model, x = make("GG"), stream(9)
    second = model.sequence_blocks()[1].mixer
    shared: Shared = {}
    model.sequence_blocks()[0].mixer(stream(9, 1), None, shared)
    assert torch.equal(second(x, None, shared)[0], second(x, None, {})[0])


def test_shared_key_moves_the_reader_and_saves_its_projection() -> None:
    _, reader = pair()
    own = pair(shared_key=False)[1]
    assert reader.memory_query is None
    assert sum(p.numel() for p in own.parameters()) - sum(p.numel() for p in reader.parameters()) == D * H * K
    x, z = stream(9), stream(9, 1)
    outputs = []
    for factor in (1.0, -1.0):
        memory, _ = pair()
        shared: Shared = {}
        memory(x, None, shared)
        shared["groundthink.key_weight"] = factor * memory.key.weight
        outputs.append([layer(z, None, shared)[0] for layer in (reader, own)])
    assert (outputs[0][0] - outputs[1][0]).abs().max() > 1e-3
    assert torch.equal(outputs[0][1], outputs[1][1])


def test_beta_floor_spares_the_markers() -> None:
    tokens = torch.tensor([[1, 3, 2, 17, 4]])
    betas = []
    for floor in (1.0, 0.25):
        layer, _ = pair(marker_ids=MARKERS, beta_floor=floor)
        layer.beta_tap.register_forward_hook(lambda _, __, output: betas.append(output))
        layer(stream(5), None, {"ids": tokens})
    share = torch.tensor([0.25, 1, 0.25, 1, 0.25], dtype=torch.float64)[None, :, None]
    torch.testing.assert_close(betas[1], betas[0] * share)
    everywhere, _ = pair(beta_floor=0.25)
    everywhere.beta_tap.register_forward_hook(lambda _, __, output: betas.append(output))
    everywhere(stream(5))
    torch.testing.assert_close(betas[2], betas[0] * 0.25)


def test_markers_need_the_token_ids() -> None:
    layer, _ = pair(marker_ids=MARKERS)
    with pytest.raises(ValueError, match="ids"):
        layer(stream(5), None, {})


def test_a_reader_needs_a_memory() -> None:
    with pytest.raises(ValueError, match="publishes"):
        pair()[1](stream(5), None, {})


def test_gate_biases_are_what_the_gates_start_at() -> None:
    given = {"weights": "given", "gate_bias": 3.0, "retrieval_gate_bias": -1.0, "beta_bias": 0.5}
    memory, reader = pair(**given)
    assert (memory.gate.bias == 3).all()
    assert (memory.beta.bias == 0.5).all()
    assert (reader.gate.bias == -1).all()


def test_shifted_value_stores_a_value_under_the_key_before_it() -> None:
    """Read with the key of token 3, the memory returns the value of token 4 (shifted) or of token 3 (not shifted)."""
    x = stream(5)
    for shifted in (True, False):
        memory, reader = pair(shifted_value=shifted, beta_bias=0.0)
        with torch.no_grad():
            memory.beta.bias.fill_(60.0)  # writes in full
            shared: Shared = {}
            memory(x, None, shared)
            reads: list[Tensor] = []
            reader.memory_output.register_forward_hook(lambda _, inputs, __, reads=reads: reads.append(inputs[0]))
            reader(x[:, [0, 1, 2, 3, 3]], None, shared)
        told = memory.value.weight @ x[0, 4 if shifted else 3]
        asked_at = 4 if shifted else 3
        torch.testing.assert_close(reads[0][0, asked_at], told, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.7, 0.25])
def test_local_drop_takes_whole_sequences_in_training_only(share: float) -> None:
    memory, reader = pair(local_drop=share)
    x = stream(3).expand(400, -1, -1)
    seen: list[Tensor] = []
    reader.local_tap.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    shared: Shared = {}
    memory(x, None, shared)
    for training in (False, True, True):
        reader.train(training)
        with seeded(reader, 5):
            reader(x, None, shared)
    inference, training_first, again = seen
    kept = training_first.flatten(1).any(1)
    assert kept.double().mean().item() == pytest.approx(1 - share, abs=0.08)
    torch.testing.assert_close(training_first[kept], inference[kept] / (1 - share))
    assert torch.equal(training_first, again)


def test_key_bank_gives_markers_orthogonal_keys_that_are_no_parameters() -> None:
    model = make("GS", weights="given", marker_ids=MARKERS, key_bank=True)
    assert [name for name, _ in model.named_buffers() if "bank" in name] == ["blocks.0.mixer.markers.bank"]
    assert not any("bank" in name for name, _ in model.named_parameters())
    memory = model.sequence_blocks()[0].mixer
    shared: Shared = {"ids": torch.tensor([[*MARKERS, 1, 2]])}
    memory(stream(6), None, shared)
    keys = shared["groundthink.keys"][0, 1:5, 0]  # the shift brings them one later
    torch.testing.assert_close(keys @ keys.T, torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)
    assert shared["groundthink.is_marker"].tolist() == [[True] * 4 + [False] * 2]


def test_rope_makes_local_attention_depend_on_distance() -> None:
    x = stream(4)
    swapped = x[:, [1, 0, 2, 3]]
    for rope, same in ((False, True), (True, False)):
        memory, reader = pair(rope=rope)
        seen: list[Tensor] = []
        reader.local_tap.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
        shared: Shared = {}
        memory(x, None, shared)
        reader(x, None, shared)
        reader(swapped, None, shared)
        assert torch.allclose(seen[0][:, 3], seen[1][:, 3], rtol=1e-9, atol=1e-12) is same


@pytest.mark.parametrize("execution", [Execution("loop"), Execution("chunked", 16)], ids=str)
def test_executed_flops_are_what_torch_counts(execution: Execution) -> None:
    for options in ({}, {"shared_key": False, "rope": True}):
        for tokens in (1, 21):
            shared: Shared = {}
            for layer in pair(**options):
                layer.execution = execution
                with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
                    layer(stream(tokens), None, shared)
                declared = layer.executed_flops(tokens)
                assert counter.get_total_flops() == pytest.approx(declared.counted, rel=0.02)
                assert all(flops > 0 for flops in declared.uncounted.values())
