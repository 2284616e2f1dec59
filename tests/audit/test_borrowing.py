"""An audit leaves the user's model exactly as it was, and finds out what it must know of it."""

import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.audit import audit, borrowed
from assay.audit.subject.usual_ids import usual_ids
from assay.errors import RequestError
from plain_models import D, Mixing, Small, V, causal_attention, seeded


class Stateful(Small):
    """A sound model with everything that an audit could disturb; `locked` makes it impossible to copy."""

    def __init__(self, locked: bool) -> None:
        super().__init__([Mixing(causal_attention), nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1, affine=False))])
        self.blocks = nn.ModuleList([self.blocks[0], nn.Dropout(0.5)])
        self.register_buffer("seen", torch.zeros(3))
        self.notes: dict[str, Tensor] = {"last": torch.zeros(2)}
        self.generator = torch.Generator().manual_seed(5)
        if locked:
            self.lock = threading.Lock()

    def forward(self, ids: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
            self.notes["last"] = torch.rand(2, generator=self.generator) + np.random.rand() + random.random()
        return super().forward(ids)


def everything(model: Stateful) -> list[object]:
    """All that can be seen of a model, and of the global generators."""
    state = [tensor.clone() for tensor in model.state_dict().values()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    generators = [torch.get_rng_state(), np.random.get_state()[1].copy(), torch.tensor(random.getstate()[1])]
    modes = [module.training for module in model.modules()]
    return [*state, *gradients, *generators, model.generator.get_state(), model.notes["last"].clone(), modes, hooks]


def same(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    return bool(np.all(first == second)) if isinstance(first, np.ndarray) else first == second


@pytest.mark.parametrize("locked", [False, True], ids=["copied", "not to be copied"])
def test_the_model_comes_back_as_it_was(locked: bool) -> None:
    model = seeded(lambda: Stateful(locked), 0).bfloat16()
    assert isinstance(model, Stateful)
    model(torch.zeros(2, 5, dtype=torch.long)).square().sum().backward()
    model.head.eval()
    parameters, before = [id(p) for p in model.parameters()], everything(model)
    audit(model, max_length=20)
    after = everything(model)
    assert [id(p) for p in model.parameters()] == parameters
    assert [place for place, pair in enumerate(zip(before, after, strict=True)) if not same(*pair)] == []
    assert torch.get_default_dtype() == torch.float32


def test_a_failed_audit_leaves_the_model_as_it_was() -> None:
    model = seeded(lambda: Stateful(True), 0)
    assert isinstance(model, Stateful)
    before = everything(model)
    with pytest.raises(RequestError, match="max_length"):
        audit(model, max_length=-1)
    assert all(same(*pair) for pair in zip(before, everything(model), strict=True))


class Declaring(nn.Module):
    """Declares sizes as other libraries do; its table and its logits are larger than its vocabulary."""

    def __init__(self, **declared: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(**declared)
        self.table = nn.Embedding(70, D)
        self.head = nn.Linear(D, 80)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids))


class Limited(Declaring):
    """Raises, or keeps the last tokens, beyond 50."""

    def __init__(self, raises: bool) -> None:
        super().__init__(n_positions=50)
        self.raises = raises

    def forward(self, ids: Tensor) -> Tensor:
        if self.raises and ids.shape[1] > 50:
            raise ValueError("too many tokens")
        return super().forward(ids[:, -50:])


@pytest.mark.parametrize(
    ("model", "length"), [(Declaring(n_positions=50), 320), (Limited(True), 50), (Limited(False), 50)]
)
def test_a_declared_length_is_the_limit_where_the_model_takes_no_more(model: nn.Module, length: int) -> None:
    with borrowed(model) as subject:
        assert subject.longest == length


def test_separators_of_usual_tokenizers_are_tried_where_they_fit() -> None:
    with borrowed(Declaring(), 33) as subject:
        assert subject.special_ids == (0, 1, 32, 2, 3, 10, 13)
    assert {10, 50256} < set(usual_ids(50304))
    assert {100257, 128001, 151643} < set(usual_ids(151936))


def test_vocabulary_special_ids_and_length_are_found() -> None:
    with borrowed(Declaring(vocab_size=61, eos_token_id=7, n_positions=50)) as subject:
        assert (subject.vocab_size, subject.outputs) == (61, 80)
        assert subject.special_ids[:4] == (7, 0, 1, 60)
    with borrowed(Declaring()) as subject:
        assert (subject.vocab_size, subject.longest) == (70, 320)
    with borrowed(Declaring(n_positions=50), 33, [5], 40) as subject:
        assert (subject.vocab_size, subject.special_ids[:4], subject.longest) == (33, (5, 0, 1, 32), 40)


class Tables(nn.Module):
    """Looks ids up in a token table and parts of them in a small table; has logits for `outputs` ids."""

    def __init__(self, rows: int, outputs: int, part: int) -> None:
        super().__init__()
        self.table, self.side = nn.Embedding(rows, D), nn.Embedding(part, D)
        self.head = nn.Linear(D, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids) + self.side(ids % self.side.num_embeddings))


@pytest.mark.parametrize(("rows", "outputs", "size"), [(61, 61, 61), (61, 64, 61), (80, 61, 61)])
def test_the_vocabulary_is_not_that_of_a_small_table_beside(rows: int, outputs: int, size: int) -> None:
    with borrowed(Tables(rows, outputs, 16)) as subject:
        assert subject.vocab_size == size


class Room(nn.Module):
    """Takes at most 93 tokens, a multiple of `step` of them, and does not say so."""

    def __init__(self, step: int = 1) -> None:
        super().__init__()
        self.step = step
        self.table = nn.Embedding(V, V)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > 93 or ids.shape[1] % self.step:
            raise ValueError(f"{ids.shape[1]} tokens are too many")
        return self.table(ids)


def test_the_most_tokens_a_model_takes_are_found() -> None:
    with borrowed(Room()) as subject:
        assert (subject.longest, subject.takes.every) == (93, True)


def test_a_model_for_multiples_of_a_chunk_is_audited_on_those() -> None:
    report = audit(Room(8))
    assert report.sound
    assert report.searched.takes == "multiples of 8 up to 88"
    assert report.summary().startswith("sound at T = multiples of 8 up to 88, both modes, float64")
    assert report.searched.lengths == tuple(range(8, 88, 8))


class Fails(nn.Module):
    def forward(self, ids: Tensor) -> Tensor:
        raise KeyError(f"no {ids.ndim}\nand a second line")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (nn.Linear(8, 8), {}, "model: Linear raised"),
        (nn.Embedding(9, 4), {"vocab_size": 1}, "vocab_size: 1 given; 2 or more would do"),
        (nn.Embedding(9, 4), {"vocab_size": 10}, "vocab_size: 10 given, the model has logits for 4 ids only"),
        (nn.Embedding(9, 20), {"vocab_size": 10}, "vocab_size: 10; Embedding raised IndexError"),
        (nn.Embedding(1, 1), {}, "model: Embedding has a vocabulary of 1"),
        (nn.Identity(), {}, "model: gives torch.int64"),
        (Fails(), {}, "model: Fails raised KeyError: 'no 2"),
        (nn.Embedding(9, 9), {"special_ids": [9]}, "special_ids: 9 given; 0 to 8 would do"),
        (nn.Embedding(9, 9), {"max_length": 0}, "max_length: 0 given"),
        (Room(), {"max_length": 100}, "max_length: 100 given; Room raises"),
        (nn.Embedding(9, 9), {"packing": 9}, "packing: 9 given"),
        (nn.Embedding(9, 9), {"loss": lambda logits: logits}, "loss: takes 1 arguments"),
        (nn.Embedding(9, 9), {"loss": lambda logits, _: logits}, "loss: gave"),
        (nn.Embedding(9, 9), {"log_prob": lambda _, ids: ids[:, :3] / 1}, "log_prob: gave"),
        ("gpt2", {}, "model: a str given"),
    ],
)
def test_wrong_use_is_one_line(model: nn.Module, options: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        audit(model, **options)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
