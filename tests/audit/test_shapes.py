"""The audit calls models as their code asks, at the lengths that they take, and says what it could not look at."""

import signal
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.audit import AuditReport, audit, borrowed
from assay.audit.calling.lengths import Lengths, spans
from assay.audit.calling.ways import callings, logits_of
from assay.errors import RequestError
from gallery_shapes import (
    AtLengths,
    FlatLoss,
    LastOnly,
    LossAlone,
    LossInTraining,
    NoBackward,
    NoTraining,
    Positioned,
    Rows,
    ShiftsInside,
)
from plain_models import V, seeded

Build = Callable[[bool], nn.Module]

SHAPES: dict[str, tuple[Build, dict[str, object], str]] = {
    "multiples of 24": (lambda b: AtLengths(b, lambda T: T % 24 == 0), {"max_length": 48}, "at T = 24, 48,"),
    "28 alone": (lambda b: AtLengths(b, lambda T: T == 28), {}, "at T = 28 only"),
    "9 to 20": (lambda b: AtLengths(b, lambda T: 9 <= T <= 20), {}, "at T = 9 to 20,"),
    "as given": (lambda b: AtLengths(b, lambda T: T in (20, 31)), {"lengths": [31, 20]}, "at T = 20, 31,"),
    "last position only": (LastOnly, {"max_length": 24}, "`targets` are the next tokens"),
    "a loss alone": (LossAlone, {"max_length": 24}, "logits are what the model's own loss gets"),
    "a flat row": (FlatLoss, {"max_length": 24}, "at T = 12, 24, both modes"),
    "shifted inside": (
        lambda b: ShiftsInside(b, None),
        {"max_length": 24},
        "logits are what the model's own loss gets",
    ),
    "a loss of 22 alone": (lambda b: ShiftsInside(b, 22), {}, "at T = 22 only"),
    "a loss in training": (LossInTraining, {"max_length": 24}, "up to T = 24, both modes"),
    "positions and documents": (Positioned, {"max_length": 24}, "`positions` is filled in"),
    "one row": (lambda b: Rows(b, 1), {"max_length": 24}, "one row a call"),
    "eight rows": (lambda b: Rows(b, 8), {"max_length": 24}, "8 rows a call"),
    "no backward": (NoBackward, {"max_length": 24}, "gradients (NotImplementedError: there is no backward"),
    "no training": (NoTraining, {"max_length": 24}, "training mode (RuntimeError: training needs another machine)"),
}


def answer(name: str, broken: bool) -> AuditReport:
    build, options, _ = SHAPES[name]
    return audit(seeded(lambda: build(broken), 7), **options)  # type: ignore[arg-type]


def slow_but(*names: str) -> list[object]:
    """A test case for each shape; all but those named are slow."""
    return [pytest.param(name, marks=[] if name in names else [pytest.mark.slow]) for name in SHAPES]


@pytest.mark.parametrize("name", slow_but("multiples of 24", "last position only", "a flat row", "no backward"))
def test_a_leak_is_found_however_the_model_is_called(name: str) -> None:
    report = answer(name, broken=True)
    found = next(finding for finding in report.findings if finding.check == "causality")
    assert found.status == "fail"
    assert found.where is not None
    assert found.where.startswith("model.blocks.1.mixer: position")
    assert SHAPES[name][2] in report.reach()


@pytest.mark.parametrize("name", slow_but("no training"))
def test_a_sound_twin_passes_and_its_first_line_says_how_it_was_called(name: str) -> None:
    report = answer(name, broken=False)
    assert report.sound
    assert SHAPES[name][2] in report.summary()


def test_a_loss_of_other_logits_in_training_mode_is_a_warning() -> None:
    found = next(finding for finding in answer("a loss in training", broken=False).findings if finding.check == "modes")
    assert found.status == "warn"
    assert "logits are what the model's own loss gets" in found.explanation


class Mapped(nn.Module):
    """Looks logits up in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(V, V)

    def looked_up(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.table(ids)
        return logits


class Raising(Mapped):
    """Raises `error`, of any type, for batches of as many rows as in `rows` (None: for all)."""

    def __init__(self, error: type[BaseException], rows: tuple[int, ...] | None) -> None:
        super().__init__()
        self.error, self.rows = error, rows

    def forward(self, ids: Tensor) -> Tensor:
        if self.rows is None or len(ids) in self.rows:
            raise self.error("a reason\nin two lines")
        return self.looked_up(ids)


class Halt(BaseException):
    """Not an Exception."""


class Interrupt(KeyboardInterrupt):
    """Looks like the user's."""


class MuteError(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("error", [Halt, Interrupt, KeyboardInterrupt, MuteError])
def test_whatever_a_model_raises_is_one_line(error: type[BaseException]) -> None:
    with pytest.raises(RequestError, match=f"model: Raising raised {error.__name__}") as caught:
        audit(Raising(error, None))
    assert "\n" not in str(caught.value)


def test_batches_that_raise_are_named() -> None:
    report = audit(Raising(SystemExit, (4,)), max_length=24)
    assert report.sound
    (found,) = [finding for finding in report.findings if finding.check == "isolation"]
    assert "batches of 4 rows were not tried: the model raised SystemExit: a reason" in found.explanation


class Interrupted(Mapped):
    """The user interrupts while it runs."""

    def forward(self, ids: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return self.looked_up(ids)


def test_the_users_interrupt_is_no_error_of_the_model() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # processes in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            audit(Interrupted())
    finally:
        signal.signal(signal.SIGINT, before)


class NeedsMask(Mapped):
    """Needs an argument of unknown meaning."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.looked_up(ids) * mask


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (
            NeedsMask(),
            {},
            "model: NeedsMask.forward needs `mask` besides ids, which cannot be guessed; a module",
        ),
        (AtLengths(False, lambda T: T == 40), {"lengths": 41}, "lengths: AtLengths raised AssertionError: 41 tokens"),
        (AtLengths(False, lambda T: T == 40), {"max_length": 30}, "max_length: 30 given; AtLengths raises on so few"),
        (AtLengths(False, lambda T: T == 40), {"lengths": 40, "max_length": 40}, "max_length: given together with"),
        (nn.Embedding(9, 9), {"lengths": []}, "lengths: none given"),
        (nn.Embedding(9, 9), {"lengths": "40"}, "lengths: '40' given"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_line(
    model: nn.Module, options: dict[str, object], words: str
) -> None:
    with pytest.raises(RequestError) as caught:
        audit(model, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        (lambda T: T % 10 == 0, "multiples of 10 up to 320"),
        (lambda T: T % 128 == 0, "128, 256"),
        (lambda T: T & (T - 1) == 0, "1, 2, 4, 8, 16 and 4 more up to 256"),
        (lambda T: T % min(T, 64) == 0, "1 to 64, 128 to 320 in steps of 64"),
        (lambda T: T == 1 or T % 32 == 0, "1, 32 to 320 in steps of 32"),
        (lambda T: 50 <= T <= 99, "50 to 99"),
        (lambda T: T == 700, "700 only"),
        (lambda T: T <= 93, "1 to 93"),
        (lambda T: T % 2 == 1, "1 to 319 in steps of 2"),
    ],
)
def test_the_lengths_that_a_model_takes_are_found(takes: Callable[[int], bool], words: str) -> None:
    model = AtLengths(False, takes)
    model.model = nn.Embedding(V, V)
    with borrowed(model) as subject:
        assert subject.takes.in_words() == words


def test_lengths_fit() -> None:
    takes = Lengths((24, 48, 72))
    assert [takes.fit(n) for n in (1, 24, 47, 48, 100)] == [24, 24, 24, 48, 72]
    assert [takes.shorter(n) for n in (24, 25, 72)] == [None, 24, 48]
    assert spans([1, 2, 3, 5, 8, 16, 24, 32, 100]) == "1 to 3, 5, 8 to 32 in steps of 8, 100"
    assert spans(range(1, 100, 7), most=2) == "1 to 99 in steps of 7"


def test_logits_are_found_in_what_is_returned() -> None:
    ids, logits = torch.zeros(2, 5, dtype=torch.long), torch.randn(2, 5, V)
    loss = torch.zeros(())
    for output in (logits, (loss, logits), {"loss": loss, "lm_logits": logits}, logits.flatten(0, 1), [logits, None]):
        assert torch.equal(logits_of(output, ids), logits)
    with pytest.raises(RequestError, match=r"gives torch.float32 \[2, 1, 61\]"):
        logits_of((logits[:, -1:], loss), ids)


def test_plain_calls_come_first() -> None:
    assert [way.targets for way in callings(LastOnly(False))][:2] == [None, "targets"]
    assert {way.targets for way in callings(LossAlone(False))} == {"target_ids"}


class MixesOver48(nn.Module):
    """An MLP over 48 positions, added to whatever row it is given: one of a single token is broadcast."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(V, 8), nn.Linear(8, V)
        self.mix = nn.Parameter(torch.randn(48, 48) / 7)
        self.causal = causal

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        mix = self.mix.tril() if self.causal else self.mix
        return self.head(x + mix @ x.expand(-1, 48, -1) if ids.shape[1] == 1 else x + mix @ x)


@pytest.mark.parametrize("causal", [True, False])
def test_logits_of_another_length_are_no_answer(causal: bool) -> None:
    report = audit(seeded(lambda: MixesOver48(causal), 0))
    assert report.sound == causal
    assert "at T = 48 only" in report.summary() or not causal
