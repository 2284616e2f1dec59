"""The audit names all modules to blame, in the order they run, whatever shapes their tensors have."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.audit import AuditReport, audit
from assay.audit.blame.pairing import from_position, prefix_of, rows_but, step_at, up_to
from assay.records import Finding
from plain_models import D, Mixing, Small, V, causal_attention, seeded


def finding(model: Callable[[], nn.Module], check: str = "causality", **options: int) -> Finding:
    report = audit(seeded(model, 0), **{"max_length": 40, **options})
    return next(found for found in report.findings if found.check == check)


def flipped(x: Tensor) -> Tensor:
    return x.flip(1)


def sound() -> nn.Module:
    return Mixing(causal_attention)


def mean(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True).expand_as(x)


def test_every_leak_is_named_in_order() -> None:
    found = finding(lambda: Small([sound(), Mixing(mean), sound(), Mixing(flipped), sound()]))
    assert found.modules == ("blocks.1", "blocks.3")
    assert found.where is not None
    assert found.where.startswith("blocks.1: position ")
    assert "Further: blocks.3: position" in found.explanation


class Unmasked(nn.Module):
    """The softmax is a module of its own and gets scores without a mask; the module that calls it is to blame."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x)
        return self.softmax(value @ value.mT) @ value


class Between(nn.Module):
    """Two sound layers, and a leak in the code between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu().roll(-1, 1))


def test_the_innermost_module_is_named_and_the_caller_for_its_own_code() -> None:
    assert finding(lambda: Small([sound(), Unmasked()])).modules[0] == "blocks.1.softmax"
    assert finding(lambda: Small([sound(), Between(), sound()])).modules == ("blocks.1",)


class Reshaping(Small):
    """Runs its blocks between tokens flattened to [B T, D] or time first, [T, B, D]."""

    def __init__(self, flat: bool) -> None:
        super().__init__([sound(), Between(), sound()])
        self.flat = flat

    def forward(self, ids: Tensor) -> Tensor:
        B, T = ids.shape
        x = self.embedding(ids.flatten() if self.flat else ids.T)
        for block in self.blocks:
            y = block(x.view(B, T, D) if self.flat else x.transpose(0, 1))
            x = x + (y.flatten(0, 1) if self.flat else y.transpose(0, 1))
        logits = self.head(self.norm(x))
        return logits.view(B, T, V) if self.flat else logits.transpose(0, 1)


@pytest.mark.parametrize("flat", [True, False])
def test_layouts_of_time_are_recognised(flat: bool) -> None:
    assert finding(lambda: Reshaping(flat)).modules == ("blocks.1",)


class Heads(Small):
    """The model's own forward leaks after its last block."""

    def hidden(self, ids: Tensor) -> Tensor:
        x = super().hidden(ids)
        return x + x.amax(1, keepdim=True)


def test_the_model_itself_can_be_to_blame() -> None:
    found = finding(lambda: Heads([sound()]))
    assert found.modules == ("",)
    assert found.where is not None
    assert found.where.startswith("Heads itself: position")


class Fast(nn.Module):
    """Returns its output and its final state, starts from the one it is given, and adds it at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        states = self.value(x).cumsum(1) / 8
        if memory is not None:
            states = states + memory[:, None]
        return states, states[:, -1]


class Carrying(Small):
    """The final state of each layer goes to the next."""

    def __init__(self) -> None:
        super().__init__([Fast(), Fast(), Fast()])

    def hidden(self, ids: Tensor) -> Tensor:
        x, memory = self.embedding(ids), None
        for block in self.blocks:
            y, memory = block(x, memory)
            x = x + y
        return self.norm(x)


def test_a_state_that_is_handed_on_is_traced_to_its_maker() -> None:
    found = finding(Carrying)
    assert found.modules == ("blocks.1", "blocks.2")
    for reader, maker in (("1", "0"), ("2", "1")):
        words = (
            f"blocks.{reader} (Fast) reads, or starts from, `memory` [1, 16], the final state of blocks.{maker} (Fast)"
        )
        assert words in found.explanation


class Hidden(nn.Module):
    """Adds a bias that the last token chooses: there is no gradient, and no change of another token shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.biases = nn.Parameter(torch.randn(2, D))

    def forward(self, x: Tensor) -> Tensor:
        return self.biases[(x[:, -1:, 0] > 0).long()].expand_as(x)


class Straight(nn.Module):
    """Passes a gradient from the next token and nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(-1, 1) - x.roll(-1, 1).detach()


def test_what_has_no_gradient_is_found_by_replacement_and_the_other_way_round() -> None:
    assert finding(lambda: Small([sound(), Hidden()])).modules == ("blocks.1",)
    found = finding(lambda: Small([sound(), Straight()]))
    assert found.status == "fail"
    assert "gradient" in found.explanation


def test_the_message_is_checked_by_hand() -> None:
    """A model whose position 3 alone reads token 30: the sentence says so, and by how much it moves."""

    class Far(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.zeros_like(x)
            if x.shape[1] > 30:
                y[:, 3] = x[:, 30]
            return y

    found = finding(lambda: Small([sound(), Far()]))
    assert found.where is not None
    assert found.where.startswith("blocks.1: position 3 moves when token 30 changes, by ")
    assert found.measured is not None
    assert found.threshold == pytest.approx(1e-9)
    assert found.measured > 1e-3


def numbered(*shape: int) -> Tensor:
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


def test_pairings_find_the_part_that_must_agree() -> None:
    cases = [
        (up_to(8, 3), (2, 8, 5), (2, 8, 5), [(2, 3, 5)]),
        (up_to(8, 3), (8, 2, 5), (8, 2, 5), [(3, 2, 5)]),
        (up_to(8, 3), (2, 4, 8, 8), (2, 4, 8, 8), [(2, 4, 3, 3)]),
        (up_to(8, 3), (2, 10, 5), (2, 10, 5), [(2, 3, 5)]),
        (up_to(8, 3), (2, 5, 5), (2, 5, 5), []),
        (up_to(8, 3), (10, 5), (10, 5), []),
        (prefix_of(8, 3), (1, 8, 5), (1, 3, 5), [(1, 3, 5)]),
        (prefix_of(8, 3), (1, 5, 5), (1, 5, 5), []),
        (prefix_of(8, 3), (1, 4, 8, 8), (1, 4, 3, 3), [(1, 4, 3, 3)]),
        (step_at(8, 6), (2, 8, 5), (2, 1, 5), [(2, 1, 5)]),
        (step_at(8, 6), (2, 8, 5), (2, 5), []),
        (from_position(8, 6), (2, 8, 5), (2, 8, 5), [(2, 2, 5)]),
        (rows_but(3, 8, (1,)), (3, 8, 5), (3, 8, 5), [(1, 8, 5), (1, 8, 5)]),
        (rows_but(3, 8, (0,)), (24, 5), (24, 5), [(2, 8, 5)]),
        (rows_but(3, 8, (2,)), (8, 3, 5), (8, 3, 5), [(8, 2, 5)]),
        (rows_but(3, 8, (2,)), (4, 5), (4, 5), []),
    ]
    for pairing, before, after, expected in cases:
        views = pairing(numbered(*before), numbered(*after))
        assert [tuple(view.before.shape) for view in views] == expected, (before, after)
        assert all(view.before.shape == view.after.shape for view in views)
    (view,) = step_at(8, 6)(numbered(1, 8, 1), numbered(1, 1, 1))
    assert (view.before.item(), view.first) == (6.0, 6)


def test_a_report_is_json_and_says_what_was_searched() -> None:
    report = audit(seeded(lambda: Small([sound()]), 0), max_length=40)
    assert report.sound
    words = (
        "sound up to T = 40, both modes, float64; not looked at: scoring (no `loss` or `log_prob` is given or known)"
    )
    assert report.summary() == words
    assert AuditReport.model_validate(report.as_dict()) == report
    assert report.searched.special_ids[:3] == (0, 1, 60)


class DropsAlways(nn.Module):
    """Dropout that evaluation mode does not switch off: torch's own, or a mask of its own."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.value = nn.Linear(D, D)
        self.own = own

    def forward(self, x: Tensor) -> Tensor:
        x = causal_attention(self.value(x))
        return x * (torch.rand_like(x) > 0.3) if self.own else F.dropout(x, 0.3)


@pytest.mark.parametrize("own", [True, False])
def test_dropout_left_on_is_a_failure_of_determinism_alone(own: bool) -> None:
    report = audit(seeded(lambda: Small([sound(), DropsAlways(own)]), 0), max_length=16)
    assert [found.check for found in report.findings if found.status == "fail"] == ["determinism"]


class Caching(Small):
    """Keeps the mean of each call under the number of its tokens, and adds that of the call before."""

    def __init__(self) -> None:
        super().__init__([sound()])
        self.means: dict[int, Tensor] = {}

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.head(self.hidden(ids))
        before = self.means.get(ids.shape[1])
        self.means[ids.shape[1]] = logits.detach().mean()
        return logits if before is None else logits + before


def test_a_cache_on_the_model_is_named() -> None:
    found = finding(Caching, "isolation", max_length=16)
    assert found.status == "fail"
    assert found.where is not None
    assert found.where.endswith("(means remembers)")


class Partial(nn.Module):
    """Takes no multiples of 7 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(V, V)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1] % 7 == 0:
            raise ValueError("no multiple of 7")
        return self.table(ids)


def test_many_lengths_that_raise_are_shortened() -> None:
    found = finding(Partial, "length", max_length=100)
    assert found.status == "warn"
    assert re.match(r"raises at \d+ to \d+ in steps of \d+ tokens \(ValueError: no multiple of 7\)", found.explanation)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_parts_are_run_as_written_and_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    @torch.compile
    def squashed(x: Tensor) -> Tensor:
        return x.tanh()

    class Squashing(Mixing):
        def forward(self, x: Tensor) -> Tensor:
            return squashed(super().forward(x))

    made: list[nn.Module] = [torch.compile(Squashing(causal_attention)), torch.compile(Mixing(flipped))]  # type: ignore[list-item]
    report = audit(seeded(lambda: Small(made[:1]), 0), max_length=40)
    assert report.sound
    assert finding(lambda: Small(made)).modules[0] == "blocks.1"
    assert "".join(capfd.readouterr()) == ""
