"""Twin (RWKV-6 and Mamba-2 in every block) with every fusion: the contract, both paths equal the mixers alone, dropping
of a path, the auxiliary losses (diversity and arbiter, together "debate"), costs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.contract.architecture import Check
from assay.audit.contract.costs import accounting
from assay.audit.contract.gradients import dead_parameters
from assay.audit.contract.models import ids_for
from assay.audit.contract.same_numbers import decoding
from assay.audit.contract.weights import roles
from assay.audit.redraw import redrawn
from assay.data.batches import PackedWindows
from assay.errors import RequestError
from assay.layers.auxiliary import auxiliary_losses
from assay.layers.mamba2 import Mamba2
from assay.layers.mixer import Shared
from assay.layers.randomness import seeded
from assay.layers.twin.fusions import ARBITERS, FUSIONS, FusionName
from assay.layers.twin.twin import Twin, TwinState, diversity_loss
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionConfig, resolve_plan
from assay.ops.execution import Execution
from assay.training.config import TrainingConfig
from assay.training.objective import Objective
from assay.training.step import accumulate_gradients, micro_batches

D = 32
TWIN = ARCHITECTURES.get("twin")
LOOP, CHUNKED = Execution("loop"), Execution("chunked", 16)


def model(draw: bool = True, **options: Any) -> LanguageModel:
    """The tiny model in float64, its parameters redrawn unless `draw` is false."""
    built = build_model(TWIN, TWIN.config.parse({**TWIN.tiny, **options}), 1).double().eval()
    return redrawn(built, torch.Generator().manual_seed(2)) if draw else built


def layer(**options: Any) -> Twin:
    mixer = model(n_layers=1, **options).sequence_blocks()[0].mixer
    assert isinstance(mixer, Twin)
    return mixer


def inputs(tokens: int = 20, rows: int = 2) -> Tensor:
    return torch.randn(rows, tokens, D, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64)


def watch(module: Twin, *names: str) -> dict[str, Tensor]:
    """A mapping that hooks fill with what the taps see at each call; the last call stays."""
    seen: dict[str, Tensor] = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: output.detach()})
        )
    return seen


@pytest.fixture(params=FUSIONS)
def any_twin(request: pytest.FixtureRequest) -> LanguageModel:
    return model(fusion=request.param, mamba_residual=request.param == "gated")


@pytest.mark.parametrize("check", [decoding, roles, accounting, dead_parameters], ids=lambda check: check.__name__)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_contract(fusion: FusionName, check: Check) -> None:
    """The contract checks of every architecture, here for every fusion, not only the default one."""
    twin = ARCHITECTURES.get("twin")
    tiny = {**twin.tiny, "fusion": fusion, "mamba_residual": fusion == "gated"}
    found = check(dataclasses.replace(twin, tiny=tiny))
    assert found.status == "pass", found.explanation


@pytest.mark.parametrize("execution", [LOOP, CHUNKED], ids=["loop", "chunked"])
def test_causality(any_twin: LanguageModel, execution: Execution) -> None:
    any_twin.set_execution(execution)
    x = inputs(rows=1).requires_grad_()
    y, _ = any_twin.sequence_blocks()[0].mixer(x)
    for t in (0, 16, 19):
        (gradient,) = torch.autograd.grad(y[0, t].square().sum(), x, retain_graph=True)
        size = gradient[0].norm(dim=-1)
        assert size[t] > 1e-6
        assert t == 0 or size[0] > 1e-9
        assert size[t + 1 :].sum() <= (0 if execution.form == "loop" else 1e-10 * size.max())


def test_loop_and_chunked_agree_with_their_gradients(any_twin: LanguageModel) -> None:
    results = []
    for execution in (LOOP, CHUNKED):
        any_twin.set_execution(execution)
        mixer = any_twin.sequence_blocks()[0].mixer
        y, _ = mixer(inputs())
        results.append((y, *torch.autograd.grad(y.sin().sum(), list(mixer.parameters()))))
    for loop, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, loop, rtol=1e-9, atol=1e-9 * loop.detach().abs().max().item())


@pytest.mark.parametrize("mamba_residual", [False, True])
def test_both_paths_read_the_same_input_and_are_the_mixers_own(mamba_residual: bool) -> None:
    twin, x = layer(fusion="residual", mamba_residual=mamba_residual), inputs()
    seen = watch(twin, "rwkv_path", "mamba_path")
    y, state = twin(x)
    rwkv, rwkv_state = twin.rwkv(x)
    mamba, mamba_state = twin.mamba(x)
    mamba = x + mamba if mamba_residual else mamba
    assert torch.equal(seen["rwkv_path"], rwkv)
    assert torch.equal(seen["mamba_path"], mamba)
    assert torch.equal(y, twin.fusion(rwkv, mamba, None, CHUNKED)[0])
    assert isinstance(state, TwinState)
    torch.testing.assert_close(tuple(state), (rwkv_state, mamba_state, ()), rtol=0, atol=0)


@torch.no_grad()
def test_a_path_can_be_ablated_at_its_tap(any_twin: LanguageModel) -> None:
    twin = any_twin.sequence_blocks()[0].mixer
    whole, _ = twin(inputs())
    for path in ("rwkv_path", "mamba_path"):
        tap = twin.get_submodule(path)
        handle = tap.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
        without, _ = twin(inputs())
        handle.remove()
        assert (whole - without).norm() > 0.05 * whole.norm()
    assert torch.equal(twin(inputs())[0], whole)


def test_paths_are_dropped_by_sequence_in_training_alone() -> None:
    twin, x = layer(fusion="residual", path_drop=0.25), inputs(1, rows=400)
    kept, _ = twin(x)
    mamba, _ = twin.mamba(x)
    without = twin.fusion(torch.zeros_like(mamba), mamba, None, CHUNKED)[0]
    twin.train()
    with seeded(twin, 5):
        dropped, _ = twin(x)
    is_gone = (dropped == without).flatten(1).all(1)
    assert 70 <= is_gone.sum() <= 130, "a quarter of 400, within 3.5 standard deviations"
    rwkv, _ = twin.rwkv(x)
    torch.testing.assert_close(dropped[~is_gone], (without + rwkv / 0.75)[~is_gone])
    with seeded(twin, 5):
        assert torch.equal(twin(x)[0], dropped)
    with seeded(twin, 6):
        assert not torch.equal(twin(x)[0], dropped)
    assert torch.equal(twin.eval()(x)[0], kept)


def test_the_diversity_loss_is_the_cosine() -> None:
    r, m = inputs(7), inputs(9)[:, :7]
    expected = ((1 + F.cosine_similarity(r, m, -1)) / 2).mean()
    assert diversity_loss(r, m).item() == pytest.approx(expected.item(), rel=1e-5)
    ends = [diversity_loss(r, sign * 3 * r).item() for sign in (1, -1)]
    assert ends == pytest.approx([1, 0], abs=1e-5)


def test_an_output_of_zero_is_unrelated_and_its_gradient_bounded() -> None:
    """RWKV-6's output starts at zero, where a plain cosine has no gradient, and near it a huge one."""
    zero, m = torch.zeros(1, 1, D, dtype=torch.float64, requires_grad=True), inputs(1, rows=1)
    loss = diversity_loss(zero, m)
    loss.backward()
    assert loss.item() == 0.5
    assert zero.grad is not None
    rms = m.square().mean().sqrt()
    torch.testing.assert_close(zero.grad, 1000 * m / rms / (2 * D), rtol=1e-5, atol=0)


def declared(model: LanguageModel) -> dict[str, Tensor]:
    """The losses that its layers add in one call."""
    shared: Shared = {}
    model.hidden(ids_for(model), shared=shared)
    return auxiliary_losses(shared)


@pytest.mark.parametrize("fusion", ["arbiter-gru", "gated"])
def test_the_debate_loss_is_a_mean_over_blocks(fusion: FusionName) -> None:
    """Worked out from the taps: 0.1 (1 + cosine) / 2 for arbiters, 0 for others unless asked, and the arbiter's."""
    asked: dict[str, Any] = {} if fusion in ARBITERS else {"diversity_weight": 0.1}
    unasked: dict[str, Any] = {"arbiter_weight": 0} if fusion in ARBITERS else {}
    twin = model(fusion=fusion, **asked).train()
    mixers = [block.mixer for block in twin.sequence_blocks()]
    seen = [watch(mixer, "rwkv_path", "mamba_path", "fusion.share") for mixer in mixers if isinstance(mixer, Twin)]
    losses = declared(twin)
    diversity, arbiter = 0.0, 0.0
    for block in seen:
        cosine = F.cosine_similarity(block["rwkv_path"], block["mamba_path"], -1)
        diversity += 0.1 * (0.5 + cosine / 2).mean().item() / len(seen)
        larger = torch.maximum(block["fusion.share"], 1 - block["fusion.share"])
        arbiter += -0.1 * larger.log().mean().item() / len(seen)
    expected = {"diversity": diversity, "arbiter": arbiter} if fusion in ARBITERS else {"diversity": diversity}
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected, rel=1e-4)
    assert declared(model(fusion=fusion)) == {}, "in evaluation there is none"
    assert declared(model(fusion=fusion, diversity_weight=0, **unasked).train()) == {}


BATCH = PackedWindows(np.arange(500, dtype=np.uint16) * 7 % 61, 16, 4, seed=0).batch(0)


def accumulated(**training: Any) -> tuple[list[Tensor], dict[str, float], LanguageModel]:
    """The gradients of one batch as the loop forms them, what it tells of the auxiliary losses, and the model."""
    config = TrainingConfig.parse({"tokens": 64, "batch_tokens": 64, "context": 16, **training})
    plan = resolve_plan(ExecutionConfig(device="cpu", precision="float32", threads=1), lambda _: None)
    trained = model()
    parts = micro_batches(BATCH, config, "cpu", seed=0, step=0)
    _, auxiliary, _ = accumulate_gradients(Objective(plan.apply(trained), plan), parts, BATCH.scored)
    return [p.grad for p in trained.parameters() if p.grad is not None], auxiliary, trained


def test_the_loop_adds_the_debate_loss_once_whatever_the_micro_batches() -> None:
    whole, told, trained = accumulated()
    parts, told_in_parts, _ = accumulated(micro_batch_tokens=16)
    trained.zero_grad()
    ids, targets = map(torch.from_numpy, BATCH)
    shared: Shared = {}
    logits = trained.head(trained.hidden(ids, shared=shared)[0])
    losses = auxiliary_losses(shared)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + losses["diversity"] + losses["arbiter"]
    loss.backward()
    assert told == pytest.approx({name: value.item() for name, value in losses.items()}, rel=1e-9)
    assert told_in_parts == pytest.approx(told, rel=1e-9)
    for a, b, parameter in zip(whole, parts, trained.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(a, parameter.grad, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_blinkdl_gives_zero_and_both_paths_learn_nevertheless(fusion: FusionName) -> None:
    twin = model(draw=False, fusion=fusion, initialisation="blinkdl", n_layers=1).sequence_blocks()[0].mixer
    assert twin(inputs())[0].count_nonzero() == 0
    assert isinstance(twin, Twin)
    target = inputs().roll(1, 1)
    for _ in range(4):
        twin.zero_grad()
        (twin(inputs())[0] - target).square().sum().backward()
        with torch.no_grad():
            for parameter in twin.parameters():
                assert parameter.grad is not None
                parameter.sub_(1e-3 * parameter.grad)
    dead = [name for name, p in twin.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


@pytest.mark.parametrize("execution", [LOOP, CHUNKED, Execution("chunked", 64)], ids=["loop", "chunked", "64"])
def test_executed_flops_of_mamba2_are_what_torch_counts(execution: Execution) -> None:
    mamba = Mamba2(D, 12, 16, n_groups=2, n_layers=1)
    mamba.reset_parameters(torch.Generator().manual_seed(0))
    torch.nn.init.constant_(mamba.A_log, -3)  # decays so mild that none is hard, which would take more
    mamba.execution = execution
    for tokens in (1, 5) if execution.form == "loop" else (1, 37, 70):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            mamba(inputs(tokens, rows=1).float())
        executed = mamba.executed_flops(tokens)
        assert executed is not None
        assert executed.counted == counter.get_total_flops()
        assert all(flops > 0 for flops in executed.uncounted.values())
        if execution.form == "loop":
            formula = mamba.flops_per_token(tokens) * tokens
            assert formula == executed.counted + executed.uncounted["recurrence"] + executed.uncounted["convolution"]


def test_executed_flops_are_those_of_all_three_parts(any_twin: LanguageModel) -> None:
    any_twin.float()
    twin = any_twin.sequence_blocks()[0].mixer
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(inputs(40, rows=1).float())
    executed = twin.executed_flops(40)
    assert executed is not None
    assert executed.counted == counter.get_total_flops()


WRONG: list[tuple[dict[str, object], str]] = [
    ({"fusion": "residual", "initial_gate": 0.7}, r"model.initial_gate: 0.7 given, fusion residual has no weights"),
    ({"fusion": "gated", "arbiter_weight": 0.1}, r"model.arbiter_weight: 0.1 given, fusion gated has no arbiter"),
    ({"fusion": "sum"}, r"fusion: 'sum' given, .*arbiter-mingru"),
    ({"initial_gate": 1.0}, "initial_gate: 1.0 given, should be less than 1"),
    ({"path_drop": 1.0}, "path_drop: 1.0 given, should be less than 1"),
    ({"d_model": 96}, r"model.head_dim: 64 given, a divisor of 96"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_cannot_be_is_one_line(given: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TWIN.config.parse(given)


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"fusion": "gated", "initial_gate": 0.3}, lambda twin: twin.fusion.initial_gate == 0.3),
        ({"path_drop": 0.2}, lambda twin: twin.path_drop == 0.2),
        ({"arbiter_weight": 0.4}, lambda twin: twin.fusion.loss_weight == 0.2),
        ({"diversity_weight": 0.4}, lambda twin: twin.diversity_weight == 0.2),
        ({"fusion": "concat-project"}, lambda twin: twin.diversity_weight == 0),
        ({"d_state": 24}, lambda twin: twin.mamba.d_state == 24),
        ({"expand": 3}, lambda twin: twin.mamba.out_proj.in_features == 96),
    ],
)
def test_options_reach_the_layer(options: dict[str, Any], check: Callable[[Any], bool]) -> None:
    assert check(model(**options).sequence_blocks()[0].mixer)
