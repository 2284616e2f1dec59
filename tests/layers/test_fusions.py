"""Each fusion: its equation token by token, its share at the start, forms and splits, the arbiter's loss, its cost."""

from collections.abc import Callable, Mapping
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.redraw import redrawn
from assay.layers.auxiliary import auxiliary_losses
from assay.layers.mixer import Shared
from assay.layers.twin.arbiter import arbiter_loss
from assay.layers.twin.contract import ArbiterState, Fusion
from assay.layers.twin.fusions import ARBITERS, FUSIONS, WITHOUT_GATE, FusionName
from assay.ops.execution import Execution, recorded_forms

D, T = 8, 19
LOOP, CHUNKED = Execution("loop"), Execution("chunked", 16)


def fresh(name: FusionName, initial_gate: float = 0.5, loss_weight: float = 0.1) -> Fusion:
    fusion = FUSIONS[name](D, initial_gate, loss_weight)
    fusion.reset_parameters(torch.Generator().manual_seed(0))
    return fusion


def make(name: FusionName, dtype: torch.dtype = torch.float64) -> Fusion:
    return redrawn(fresh(name), torch.Generator().manual_seed(1)).to(dtype)


def paths(dtype: torch.dtype = torch.float64, tokens: int = T) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    r, m = (torch.randn(2, tokens, D, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return r, 3 * m


def shares(fusion: Fusion) -> list[Tensor]:
    """A list that a hook fills with what the tap `share` sees."""
    seen: list[Tensor] = []
    fusion.get_submodule("share").register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    return seen


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).mean() + 1e-6) * weight


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def gru_step(p: Mapping[str, Tensor], u: Tensor, h: Tensor) -> Tensor:
    inputs = (p["core.weight_in"] @ u + p["core.bias_in"]).chunk(3)
    states = (p["core.weight_state"] @ h + p["core.bias_state"]).chunk(3)
    reset, update = (sigmoid(inputs[i] + states[i]) for i in (0, 1))
    return (1 - update) * torch.tanh(inputs[2] + reset * states[2]) + update * h


def min_gru_step(p: Mapping[str, Tensor], u: Tensor, h: Tensor) -> Tensor:
    gate, raw = (p["core.gate_and_candidate.weight"] @ u + p["core.gate_and_candidate.bias"]).chunk(2)
    value = torch.stack([x + 0.5 if x >= 0 else sigmoid(x) for x in raw])
    return (1 - sigmoid(gate)) * h + sigmoid(gate) * value


def glu_step(p: Mapping[str, Tensor], u: Tensor, _: Tensor) -> Tensor:
    value, gate = (p["core.value_and_gate.weight"] @ u + p["core.value_and_gate.bias"]).chunk(2)
    return value * sigmoid(gate)


STEPS: dict[str, Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]] = {
    "arbiter-gru": gru_step,
    "arbiter-mingru": min_gru_step,
    "arbiter-glu": glu_step,
}


def oracle(name: FusionName, p: Mapping[str, Tensor], r: Tensor, m: Tensor) -> Tensor:
    """One sequence [T, D], token by token, from the formulas that document 000, a research note, gives in words."""
    h = torch.zeros(3 * D // 2, dtype=r.dtype)
    outputs = []
    for rwkv, mamba in zip(r, m, strict=True):
        both = torch.cat((rwkv, mamba))
        if name == "concat-project":
            outputs.append(p["project.weight"] @ both)
        elif name == "residual":
            outputs.append(rwkv + p["project.weight"] @ mamba)
        elif name in STEPS:
            seen = torch.cat((rms(rwkv, p["rwkv_norm.weight"]), rms(mamba, p["mamba_norm.weight"])))
            h = STEPS[name](p, seen, h)
            odds = torch.exp(p["decide.weight"] @ h + p["decide.bias"])
            outputs.append((odds[0] * rwkv + odds[1] * mamba) / odds.sum())
        else:
            logit = p["logit"] if name == "weighted-sum" else p["gate.weight"] @ both + p["gate.bias"]
            outputs.append(sigmoid(logit) * rwkv + (1 - sigmoid(logit)) * mamba)
    return torch.stack(outputs)


def test_the_registry_holds_every_name() -> None:
    assert set(FUSIONS) == set(get_args(FusionName))
    assert {name for name in FUSIONS if name.startswith("arbiter-")} == ARBITERS
    assert {name for name in FUSIONS if not hasattr(fresh(name), "share")} == WITHOUT_GATE


@pytest.mark.parametrize("execution", [LOOP, CHUNKED], ids=["loop", "chunked"])
@pytest.mark.parametrize("name", FUSIONS)
def test_equals_its_oracle_forward_and_backward(name: FusionName, execution: Execution) -> None:
    fusion, (r, m) = make(name), paths()
    with recorded_forms() as forms:
        y, _ = fusion(r, m, None, execution)
    assert forms == ({name.removeprefix("arbiter-").replace("min", "min_"): {execution.form}} if "gru" in name else {})
    p = dict(fusion.named_parameters())
    expected = torch.stack([oracle(name, p, *one) for one in zip(r, m, strict=True)])
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    ours, theirs = (torch.autograd.grad(out.sin().sum(), list(p.values())) for out in (y, expected))
    for key, a, b in zip(p, ours, theirs, strict=True):
        assert b.abs().max() > 0, key
        assert (a - b).abs().max() <= 1e-9 * b.abs().max(), key


@pytest.mark.parametrize("name", FUSIONS)
def test_any_split_is_the_whole(name: FusionName) -> None:
    fusion, (r, m) = make(name), paths()
    whole, last = fusion(r, m, None, LOOP)
    assert isinstance(last, ArbiterState) == ("gru" in name)
    for cuts in ((0, 1, T), (0, 16, 17, T), range(T + 1)):
        state, parts = fusion.initial_state(2), []
        for first, end in zip(cuts, [*cuts][1:], strict=False):
            y, state = fusion(r[:, first:end], m[:, first:end], state, CHUNKED)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(tuple(state), tuple(last), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("initial_gate", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("name", sorted(set(FUSIONS) - WITHOUT_GATE))
def test_the_share_of_rwkv_starts_as_asked_at_every_position(name: FusionName, initial_gate: float) -> None:
    fusion, (r, m) = fresh(name, initial_gate), paths(torch.float32)
    seen = shares(fusion)
    y, _ = fusion(r, m, None, CHUNKED)
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], initial_gate), rtol=0, atol=1e-7)
    assert seen[0].shape == (2, T, D if name == "gated-per-channel" else 1)
    torch.testing.assert_close(y, initial_gate * r + (1 - initial_gate) * m)


@pytest.mark.parametrize("name", sorted(set(FUSIONS) - WITHOUT_GATE - {"weighted-sum"}))
def test_the_share_varies_once_weights_are_learned(name: FusionName) -> None:
    fusion = make(name)
    seen = shares(fusion)
    fusion(*paths(), None, CHUNKED)
    assert seen[0].std(1).min() > 0.01


@pytest.mark.parametrize("name", FUSIONS)
def test_the_start_is_no_dead_end(name: FusionName) -> None:
    """At the start zero projections pass no gradient on to earlier parameters; after one step they do."""
    fusion, (r, m) = fresh(name), paths(torch.float32)
    for _ in range(2):
        fusion.zero_grad()
        fusion(r, m, None, CHUNKED)[0].sin().sum().backward()
        with torch.no_grad():
            for parameter in fusion.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
    assert all(parameter.grad.abs().max() > 0 for parameter in fusion.parameters() if parameter.grad is not None)


def distance_loss(share: Tensor, r: Tensor, m: Tensor) -> float:
    """The cross-entropy of the weights against the path nearer to the fused output, by distances, in a loop."""
    terms = []
    for w, a, b in zip(share.flatten(), r.flatten(0, 1), m.flatten(0, 1), strict=True):
        fused = w * a + (1 - w) * b
        rwkv_is_nearer = (fused - a).norm() < (fused - b).norm()
        terms.append(-torch.log(w if rwkv_is_nearer else 1 - w).item())
    return sum(terms) / len(terms)


@pytest.mark.parametrize("name", sorted(ARBITERS))
def test_the_arbiters_loss_is_the_nearer_paths_cross_entropy(name: FusionName) -> None:
    fusion, (r, m) = make(name), paths()
    seen = shares(fusion)
    shared: Shared = {}
    fusion.train()(r, m, None, CHUNKED, shared)
    losses = auxiliary_losses(shared)
    assert 0.2 < (seen[0] > 0.5).double().mean() < 0.8, "both paths must win somewhere, or the test tests one"
    assert losses.keys() == {"arbiter"}
    assert losses["arbiter"].item() == pytest.approx(0.1 * distance_loss(seen[0], r, m), rel=1e-12)
    shared = {}
    fusion.eval()(r, m, None, CHUNKED, shared)
    assert shared == {}


def test_a_balanced_arbiter_is_pulled_to_neither_side() -> None:
    decision = torch.zeros(1, 3, 2, dtype=torch.float64, requires_grad=True)
    loss = arbiter_loss(F.log_softmax(decision, -1))
    loss.backward()
    assert decision.grad is not None
    assert loss.item() == pytest.approx(0.6931471805599453)
    assert decision.grad.abs().max() == 0


@pytest.mark.parametrize("name", FUSIONS)
def test_under_autocast_the_state_stays_in_float32(name: FusionName) -> None:
    fusion, (r, m) = make(name, torch.float32), paths(torch.bfloat16)
    exact, last = fusion.double()(r.double(), m.double(), None, LOOP)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = fusion.float()(r, m, None, CHUNKED)
    assert [x.dtype for x in state] == [torch.float32] * len(last)
    assert (y.double() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("execution", [LOOP, CHUNKED], ids=["loop", "chunked"])
@pytest.mark.parametrize("name", FUSIONS)
def test_executed_flops_are_what_torch_counts(name: FusionName, execution: Execution) -> None:
    fusion, (r, m) = make(name, torch.float32), paths(torch.float32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        fusion(r[:1], m[:1], None, execution)
    executed = fusion.executed_flops(T)
    assert executed.counted == counter.get_total_flops()
    assert fusion.flops_per_token() * T == executed.counted + sum(executed.uncounted.values())
