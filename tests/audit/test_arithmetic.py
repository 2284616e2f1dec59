"""Everything inside runs in float64, rounding is known, dropout can be switched off, memory can be put back."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.audit import Search, Subject, borrowed, plan_search, yardstick
from assay.audit.subject.arithmetic import in_float64
from assay.audit.subject.differences import change, spread
from assay.audit.subject.dropout import without_dropout
from assay.audit.subject.memory import Memory
from plain_models import D, Mixing, causal_attention, seeded, small


def test_narrow_types_are_widened() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with in_float64() as mode:
        wide = [x.float(), x.half(), x.to(torch.bfloat16), x.softmax(-1, dtype=torch.float32), torch.ones(2)]
        wide += [torch.zeros(2, dtype=torch.float32), x.type(torch.float16), x.to(dtype=torch.float32)]
        assert torch.equal(x.float(), x)
        assert not mode.narrow_seen
        assert torch.ones(2).numpy().astype("float32").sum() == 2
        torch.from_numpy(x.numpy().astype("float32")).exp()
        assert mode.narrow_seen
    assert {tensor.dtype for tensor in wide} == {torch.float64}
    assert torch.get_default_dtype() == torch.float32
    assert x.float().dtype == torch.float32


def test_grouped_products_exist_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=generator) for shape in ((16, 8), (3, 8, 8)))
    ends = torch.tensor([5, 5, 16], dtype=torch.int32)
    with in_float64():
        wide = F.grouped_mm(a.double(), b.double(), offs=ends)
    expected = torch.cat([a[:5] @ b[0], a[5:] @ b[2]])
    torch.testing.assert_close(wide.float(), expected, rtol=1e-5, atol=1e-5)


def test_changes_of_what_is_not_finite() -> None:
    inf, nan = float("inf"), float("nan")
    before, after = torch.tensor([1.0, inf, nan, -inf, nan, 2.0]), torch.tensor([3.0, inf, nan, inf, 1.0, inf])
    assert change(before, after).tolist() == [2.0, 0.0, 0.0, inf, inf, inf]


def test_a_constant_mask_is_no_part_of_the_scale() -> None:
    logits = torch.randn(1, 400, 9, generator=torch.Generator().manual_seed(0))
    masked = logits.clone()
    masked[..., 5:] = -1e9
    assert 0.5 < spread(masked) < spread(logits) < 2.0
    assert spread(torch.full((1, 1, 4), 3.0)) == 3.0


class Dropping(nn.Module):
    """Applies dropout in four ways."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Dropout(0.5)
        self.drop_path = 0.5

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.module(x), 0.5, self.training) * (torch.rand_like(x) >= self.drop_path)
        return F.scaled_dot_product_attention(x, x, x, None, 0.5)


def test_dropout_of_every_kind_can_be_switched_off() -> None:
    model, x = Dropping(), torch.ones(2, 3, 4)
    with without_dropout(model):
        torch.testing.assert_close(model(x), x)
    assert (model.module.p, model.drop_path) == (0.5, 0.5)
    assert not torch.equal(model(x), x)


def counter() -> object:
    count = 0

    def rule(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return x * count

    return rule


def test_memory_of_every_kind_is_put_back() -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    shared: dict[str, object] = {"notes": [torch.zeros(2)]}
    model[0].bus = model[1].bus = shared
    model[0].rule = rule = counter()
    model[0].generator = torch.Generator().manual_seed(1)
    memory = Memory(model)
    for _ in range(2):
        shared["notes"].append(1)
        shared["notes"][0] += 5
        shared["other"] = model[0].other = 3
        assert torch.equal(rule(torch.ones(1)), torch.ones(1))
        drawn = torch.rand(1, generator=model[0].generator)
        model[0].weight.data = torch.zeros(2, 2)
        model[1].weight.data.zero_()
        model.eval()
        memory.restore()
        assert model[0].bus is model[1].bus is shared, "1. what two modules share is still one object"
        assert list(shared) == ["notes"], "2. a dictionary has its old keys"
        assert [note.tolist() for note in shared["notes"]] == [[0.0, 0.0]], "3. a list and its tensor are as they were"
        assert not hasattr(model[0], "other"), "4. a new attribute is gone"
        assert torch.equal(torch.rand(1, generator=model[0].generator), drawn), "5. a generator repeats its draw"
        memory.restore()
        assert all(layer.weight.abs().min() > 0 and layer.training for layer in model), "6. weights and mode are back"


def searched(subject: Subject) -> Search:
    return plan_search(subject.longest, cost=1, thorough=False, seed=0)


class Chaotic(nn.Module):
    """A recurrence that more than doubles every difference at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrence = nn.Parameter(torch.randn(D, D))

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for token in x.unbind(1):
            state = torch.tanh(state @ self.recurrence + token)
            states.append(state)
        return torch.stack(states, 1)


def test_the_yardstick_is_a_floor_and_grows_with_chaos() -> None:
    with borrowed(seeded(lambda: small(Mixing(causal_attention)), 0)) as subject:
        calm = yardstick(subject, searched(subject))
    assert calm.clean
    assert calm.allowed.max().item() == 1e-9 * calm.scale
    with borrowed(seeded(lambda: small(Chaotic()), 0)) as subject:
        wild = yardstick(subject, searched(subject))
    assert wild.allowed[0] < 1e-3 * wild.allowed[-1]
    assert wild.allowed[-1] > 1e-3 * wild.scale


class Foreign(nn.Module):
    """A sum over the past that is computed outside torch, in a narrower type than float64."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy().astype("float32")).cumsum(1).to(x.dtype) / 8


def test_float32_that_cannot_be_widened_sets_the_threshold() -> None:
    with borrowed(seeded(lambda: small(Foreign()), 0)) as subject:
        found = yardstick(subject, searched(subject))
        assert "narrower" in subject.arithmetic()
    assert found.unit == torch.finfo(torch.float32).eps
    assert 1e-7 < found.allowed.max().item() / found.scale < 1e-3
