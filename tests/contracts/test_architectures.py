"""What every registered architecture must keep, on weights as given and redrawn, in float64.

Architectures of one recipe, which differ in default dimensions alone, are represented by the first of them: what holds
for its smallest model holds for theirs, as that is the same model, which is tested too.
"""

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from assay.audit.redraw import redrawn
from assay.layers.mixer import state_tensors
from assay.layers.randomness import seeded
from assay.model.accounting import count_parameters, count_state_bytes, executed_flops
from assay.model.architecture import ARCHITECTURES, Architecture, assemble, build_model
from assay.model.decay_roles import decay_roles
from assay.model.lm import LanguageModel
from assay.ops.cross_entropy import summed_nats
from assay.ops.execution import Execution, recorded_forms


def recipe(architecture: Architecture) -> list[object]:
    """What makes the smallest model: layers and norms, each the very same object, and all its dimensions."""
    config = architecture.config.parse({**architecture.tiny, "dropout": 0.0})
    layers = [architecture.mixer, architecture.channel_mixer, architecture.norm, architecture.embedding_norm]
    return [*layers, config.model_dump(), architecture.max_positions(config), architecture.unsound]


def represented() -> dict[str, str]:
    """Each architecture's representative: the first of the same recipe, mostly itself."""
    recipes = {item.name: recipe(item) for item in ARCHITECTURES}
    return {name: next(first for first in recipes if recipes[first] == recipes[name]) for name in recipes}


V, T = 61, 37
REPRESENTATIVES = represented()
DISTINCT = [name for name, first in REPRESENTATIVES.items() if name == first]
SOUND = [name for name in DISTINCT if ARCHITECTURES.get(name).unsound is None]
FORMS = [Execution("loop"), Execution("chunked", 16), Execution("chunked", 32), Execution("chunked", 64)]


def make(name: str, weights: str) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), seed=1).double().eval()
    return model if weights == "given" else redrawn(model, torch.Generator().manual_seed(2))


def ids(rows: int = 2, length: int = T) -> Tensor:
    return torch.randint(0, V, (rows, length), generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=[(n, w) for n in SOUND for w in ("given", "redrawn")], ids="-".join)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return make(*request.param)


@pytest.fixture(params=DISTINCT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SOUND)
def drawn(request: pytest.FixtureRequest) -> LanguageModel:
    return make(request.param, "redrawn")


@pytest.fixture(params=ARCHITECTURES.names())
def each(request: pytest.FixtureRequest) -> LanguageModel:
    """Every architecture's, represented or not."""
    return make(request.param, "given")


def test_a_represented_architecture_is_its_representative() -> None:
    """The same parameters, and with the same weights the same logits in every form."""
    assert REPRESENTATIVES["gpt2ish"] == REPRESENTATIVES["gpt2"]
    for name, first in REPRESENTATIVES.items():
        model, other = make(name, "redrawn"), make(first, "redrawn")
        assert [(n, p.shape) for n, p in model.named_parameters()] == [
            (n, p.shape) for n, p in other.named_parameters()
        ]
        for form in FORMS if name != first else []:
            model.set_execution(form)
            other.set_execution(form)
            assert torch.equal(model(ids()), other(ids()))


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_dropout_is_drawn_in_training_and_absent_in_evaluation(name: str) -> None:
    """Its own rate, or one in ten where it has none by default."""
    architecture = ARCHITECTURES.get(name)

    def build(dropout: float) -> LanguageModel:
        model = build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": dropout}), seed=1)
        return redrawn(model, torch.Generator().manual_seed(2))

    def logits(model: LanguageModel, seed: int) -> Tensor:
        with seeded(model, seed):
            return model(ids())  # type: ignore[no-any-return]

    model = build(architecture.config.parse(architecture.tiny).dropout or 0.1).eval()
    whole = logits(model, 0)
    assert torch.equal(logits(build(0.0).eval(), 1), whole)
    model.train()
    once = logits(model, 0)
    assert torch.equal(logits(model, 0), once)
    assert not torch.equal(logits(model, 1), once)
    assert not torch.equal(whole, once)


@pytest.mark.parametrize("form", FORMS[:2], ids=["loop", "chunked"])
def test_causality_by_gradient(drawn: LanguageModel, form: Execution) -> None:
    """A logit depends on its own and on past tokens, and not at all on later ones."""
    drawn.set_execution(form)
    x = drawn.embedding(ids(1)).detach().requires_grad_()
    y = x
    shared = {"ids": ids(1)}
    for block in drawn.sequence_blocks():
        y, _ = block(y, None, shared)
    for t in (0, 15, 16, 20, T - 1):
        (gradient,) = torch.autograd.grad(drawn.norm(y)[0, t].square().sum(), x, retain_graph=True)
        size = gradient[0].norm(dim=-1)
        assert size[t] > 1e-6
        assert t == 0 or size[:t].max() > 1e-9
        future = size[t + 1 :].max().item() if t + 1 < T else 0.0
        assert future == 0.0 if form.form == "loop" else future <= 1e-10 * size[: t + 1].max().item()


def test_forms_and_chunk_lengths_agree(model: LanguageModel) -> None:
    """Loop and chunked forms give the same logits, and each was really taken."""
    logits = []
    for form in FORMS:
        model.set_execution(form)
        with recorded_forms() as ran:
            logits.append(model(ids()))
        assert ran
        assert all(forms == {form.form} for forms in ran.values())
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def assert_one_forward(model: LanguageModel, whole: Tensor, split: int) -> None:
    """Prefilling both parts, and steps after the first part, give the logits `whole` of one forward."""
    first, state = model.prefill(ids()[:, :split])
    second, resumed = model.prefill(ids()[:, split:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-9, atol=1e-9)
    assert resumed.position == T
    for t in range(split, min(T, split + 4)):
        logits, state = model.step(ids()[:, t], state)
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-9, atol=1e-9)


def test_prefill_and_steps_are_one_forward(model: LanguageModel) -> None:
    whole = model(ids())
    for split in (1, 5, 16, 36):
        assert_one_forward(model, whole, split)


@torch.no_grad()
def test_steps_from_the_initial_state(model: LanguageModel) -> None:
    whole = model(ids()[:, :4])
    for capacity in (None, T):
        state = model.initial_state(2, capacity)
        for t in range(4):
            logits, state = model.step(ids()[:, t], state)
            torch.testing.assert_close(logits, whole[:, t], rtol=1e-9, atol=1e-9)


def test_rows_do_not_influence_each_other(model: LanguageModel) -> None:
    rows = ids(3)
    torch.testing.assert_close(model(rows.flip(0)).flip(0), model(rows), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(rows[1:2]), model(rows)[1:2], rtol=1e-9, atol=1e-9)


def test_every_parameter_receives_gradient(drawn: LanguageModel) -> None:
    hidden, _ = drawn.hidden(ids())
    summed_nats(hidden.flatten(0, 1), drawn.head_weight, ids().roll(-1, 1).flatten()).backward()
    dead = [n for n, p in drawn.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert dead == []


def test_decay_roles_cover_every_parameter_once(each: LanguageModel) -> None:
    assert [name for name, _, _ in decay_roles(each)] == [name for name, _ in each.named_parameters()]


def test_parameter_groups_close(each: LanguageModel) -> None:
    counted = count_parameters(each)
    assert counted.total == sum(p.numel() for p in each.parameters()) == sum(counted.groups.values())
    assert counted.embedding + counted.non_embedding == counted.total


@pytest.mark.parametrize(
    ("form", "tokens"),
    [(FORMS[0], 23), (FORMS[1], T), (FORMS[1], 64), (FORMS[3], 100)],
    ids=["loop", "part of a chunk", "whole chunks", "long chunks"],
)
def test_executed_flops_are_those_torch_counts(name: str, form: Execution, tokens: int) -> None:
    """Within 2%, for whole chunks and for part of one; attention as torch composes it, which alone a CPU counts."""
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0)
    model.set_execution(form)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids(1, tokens))
    declared = executed_flops(model, tokens)
    assert declared is not None
    assert declared.counted == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert declared.uncounted
    assert all(count > 0 for count in declared.uncounted.values())


@pytest.mark.parametrize("context", [1, 3, T])
def test_state_bytes_are_what_prefill_returns(drawn: LanguageModel, context: int) -> None:
    """And what is held: no part is a view of something larger."""
    with torch.no_grad():
        _, state = drawn.float().prefill(ids(1, context))
    parts = list(state_tensors(tuple(state)))
    assert all(part.untyped_storage().nbytes() == part.numel() * part.element_size() for part in parts)
    assert sum(t.numel() * t.element_size() for t in parts) == count_state_bytes(drawn, context, 4)


def test_initialisation_is_complete_and_a_function_of_the_seed() -> None:
    for name in ARCHITECTURES.names():
        architecture = ARCHITECTURES.get(name)
        config = architecture.config.parse(architecture.tiny)
        model = assemble(architecture, config)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, float("nan"))
        model.reset_parameters(torch.Generator().manual_seed(0))
        assert all(parameter.isfinite().all() for parameter in model.parameters()), name
        torch.randn(7, generator=torch.Generator())
        once, again, other = (build_model(architecture, config, seed).state_dict() for seed in (5, 5, 6))
        assert all(torch.equal(once[key], again[key]) for key in once)
        assert any(not torch.equal(once[key], other[key]) for key in once)


def test_layers_keep_their_initialisation_inside_the_model(drawn: LanguageModel) -> None:
    """The wrapper draws nothing of a layer's: a layer alone with the same generator gives the same weights."""
    drawn.reset_parameters(torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(9)
    drawn.embedding.reset_parameters(generator)
    block = drawn.sequence_blocks()[0]
    inside = {name: p.clone() for name, p in block.mixer.named_parameters()}
    block.mixer.reset_parameters(generator)
    assert all(torch.equal(p, inside[name]) for name, p in block.mixer.named_parameters())


def test_blinkdl_zeroes_what_enters_the_residual_stream() -> None:
    for architecture in ARCHITECTURES:
        model = build_model(
            architecture, architecture.config.parse({**architecture.tiny, "initialisation": "blinkdl"}), 0
        )
        assert model.embedding.tokens.abs().max() <= 1e-4
        x = model.embedding(ids(1))
        hidden = x
        shared = {"ids": ids(1)}
        for block in model.sequence_blocks():
            hidden, _ = block(hidden, None, shared)
        assert torch.equal(hidden, x), architecture.name


@pytest.mark.parametrize("body", ["native", "common"])
def test_a_short_run_lowers_the_loss(name: str, body: str) -> None:
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse({**architecture.tiny, "body": body}), 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        hidden, _ = model.hidden(ids()[:, :-1])
        loss = summed_nats(hidden.flatten(0, 1), model.head_weight, ids()[:, 1:].flatten()) / (2 * (T - 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3, losses


def test_save_and_load_give_identical_logits(drawn: LanguageModel) -> None:
    stored = save(drawn.state_dict())
    before = drawn(ids())
    for parameter in drawn.parameters():
        torch.nn.init.zeros_(parameter)
    drawn.load_state_dict(load(stored))
    assert torch.equal(drawn(ids()), before)
