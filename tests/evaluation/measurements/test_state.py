"""States whose decay, rank and memory of the text are known by construction; every architecture is asked the same."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.audit.redraw import redrawn
from assay.evaluation.inside import memory, sequences
from assay.evaluation.inside.decay import half_lives, quantile
from assay.evaluation.inside.memory import points_of
from assay.evaluation.inside.sequences import Sequences
from assay.evaluation.inside.spectrum import effective_rank, random_rank
from assay.evaluation.inside.state_profile import StateProfile, _median_interval, measure_states
from assay.evaluation.inside.states import Key
from assay.evaluation.measurements.state import MeasureState, States
from assay.layers.basic import RMSNorm, Tap
from assay.layers.mixer import SequenceLayer, Shared
from assay.model.architecture import ARCHITECTURES
from assay.model.lm import Block, Embedding, LanguageModel
from evaluation.small import PLAN, tiny

BF16 = PLAN.model_copy(update={"precision": "bfloat16"})


def text(rows: int = 4, tokens: int = 64, seed: int = 0) -> Sequences:
    return Sequences(np.random.default_rng(seed).integers(0, 61, (rows, tokens)), np.arange(rows))


class PlantedState(NamedTuple):
    """[B, K, V]."""

    memory: Tensor


class Planted(SequenceLayer):
    """S_t = diag(decay) S_{t-1} + onehot(id mod rank) onehot(id mod rank)^T: decay and directions are known."""

    def __init__(self, decay: Tensor, rank: int) -> None:
        super().__init__()
        self.decay, self.rank = decay, rank
        self.decay_tap = Tap()

    def forward(
        self, x: Tensor, state: PlantedState | None = None, shared: Shared | None = None
    ) -> tuple[Tensor, PlantedState]:
        assert shared is not None
        K = len(self.decay)
        self.decay_tap(self.decay.log().expand(*x.shape[:2], K))
        matrix = x.new_zeros(len(x), K, K) if state is None else state.memory
        for token in (shared["ids"] % self.rank).T:
            key = nn.functional.one_hot(token, K).to(x)
            matrix = self.decay[:, None] * matrix + key[:, :, None] * key[:, None, :]
        return torch.zeros_like(x), PlantedState(matrix)

    def initial_state(self, batch: int, capacity: int | None = None) -> PlantedState:
        return PlantedState(torch.zeros(batch, len(self.decay), len(self.decay)))

    def reset_parameters(self, generator: torch.Generator) -> None:
        pass


def planted(*decays: Tensor, rank: int = 1) -> LanguageModel:
    """A block for each decay."""

    def draw(tensor: Tensor, generator: torch.Generator) -> None:
        nn.init.normal_(tensor, generator=generator)

    embedding = Embedding(61, 16, None, None, draw)
    draw(embedding.tokens.data, torch.Generator().manual_seed(0))
    return LanguageModel(embedding, [Block(Planted(d, rank), None, lambda: RMSNorm(16)) for d in decays], RMSNorm(16))


@pytest.mark.parametrize("decay", [0.3, 0.5, 0.9, 0.98])
def test_half_life_of_a_known_decay(decay: float) -> None:
    profile = measure_states(planted(torch.full((8,), decay)), text(tokens=128), PLAN)
    truth = math.log(0.5) / math.log(decay)
    assert profile.half_life is not None
    assert profile.half_life.median == pytest.approx(truth, rel=0.02)
    assert profile.half_life.longer == 0
    (gate,) = profile.gates
    assert gate.half_life.median == pytest.approx(truth, rel=1e-3)
    assert profile.half_life_interval is not None
    assert profile.half_life_interval.mean == pytest.approx(truth, rel=0.02)


def test_quantiles_are_those_of_the_channels_and_long_ones_are_censored() -> None:
    decay = torch.tensor([0.5] * 4 + [0.9] * 4 + [1.0] * 2)
    (part,) = measure_states(planted(decay), text(tokens=128), PLAN).parts
    life = part.half_life
    assert life is not None
    assert (life.low, life.median) == (pytest.approx(1, rel=0.02), pytest.approx(6.579, rel=0.02))
    assert (life.high, life.longer) == (None, pytest.approx(0.2))
    assert part.left[0] == pytest.approx(0.7, abs=0.21), "one token later: 0.5 or 0.9"


def test_the_interval_of_the_half_life_is_of_the_median_beside_it() -> None:
    """Documents with decays of their own: the ends hold what many more of them give, and the median that is shown."""
    draw = np.random.default_rng(0)
    every = draw.normal(2.0, 0.5, (2_000, 1)) + draw.normal(0, 0.7, (2_000, 30))
    lives, key = np.exp(every), Key(0, "mixer", "wkv")
    truth, held = float(np.median(lives)), 0
    for _ in range(400):
        some = lives[draw.choice(2_000, 8, replace=False)]
        interval = _median_interval({key: some}, np.arange(8))
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= interval.mean <= interval.high
        assert interval.mean == pytest.approx(float(np.quantile(some, 0.5, method="inverted_cdf")))
        held += interval.low <= truth <= interval.high
    assert 0.92 <= held / 400 <= 0.98
    pairs = _median_interval({key: np.repeat(lives[:8], 2, 0)}, np.repeat(np.arange(8), 2))
    assert pairs == _median_interval({key: lives[:8]}, np.arange(8)), "a document that is there twice counts once"
    assert _median_interval({key: np.full((4, 3), np.inf)}, np.arange(4)) is None
    alone = _median_interval({key: lives[:1]}, np.arange(1))
    assert alone is not None
    assert alone.low is None


def test_each_block_has_its_own_half_life() -> None:
    profile = measure_states(planted(torch.full((8,), 0.5), torch.full((8,), 0.9)), text(tokens=64), PLAN)
    found = [part.half_life.median for part in profile.parts if part.half_life is not None]
    assert found == [pytest.approx(1, rel=0.02), pytest.approx(6.579, rel=0.02)]


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_singular_values_are_the_rank(rank: int) -> None:
    ids = np.tile(np.arange(24), (3, 1))
    (part,) = measure_states(planted(torch.ones(8), rank=rank), Sequences(ids, np.arange(3)), PLAN).parts
    assert part.effective_rank == pytest.approx(rank, rel=1e-6)
    assert part.random_rank == pytest.approx(random_rank(8, 8))
    assert part.rms[-1] == pytest.approx(24 / rank * math.sqrt(rank) / 8)
    assert part.norm[-1] == pytest.approx(24 / math.sqrt(rank))


def test_rank_of_random_numbers_is_below_their_number_of_columns() -> None:
    assert 12 < random_rank(16, 16) < 16
    assert torch.isnan(effective_rank(torch.zeros(2, 4, 4))).all()
    assert torch.isnan(effective_rank(torch.tensor([[torch.inf, 0], [0, 1]])))
    assert float(effective_rank(torch.eye(5) * 3)) == pytest.approx(5)


def test_variety_is_that_of_the_documents() -> None:
    """A document of few tokens leaves a state of its own; of random tokens all states are alike."""
    draw = np.random.default_rng(0)
    own = np.stack([draw.integers(5 * row, 5 * row + 5, 64) for row in range(8)])
    varied = measure_states(planted(torch.ones(60), rank=60), Sequences(own, np.arange(8)), PLAN).variety
    alike = measure_states(planted(torch.ones(60), rank=60), text(8), PLAN).variety
    assert varied is not None
    assert alike is not None
    assert varied.low is not None
    assert varied.low > 2
    assert alike.low is not None
    assert alike.high is not None
    assert alike.low < 1 < alike.high


def test_half_lives_of_curves() -> None:
    tokens = [1, 2, 4, 8]
    curve = np.array([0.9**t for t in tokens])
    assert half_lives(tokens, np.stack([curve, curve**0.01], axis=1)) == pytest.approx(
        [math.log(0.5) / math.log(0.9), math.inf]
    )
    assert half_lives([1, 2], np.array([0.4, 0.9])) == pytest.approx(math.log(2) / math.log(1 / 0.4)), "the first time"
    assert 0 < half_lives([1], np.array([0.0])) < 0.1
    assert quantile(np.array([1.0, 2.0, math.inf]), 0.5) == 2
    assert quantile(np.array([1.0, math.inf]), 0.9) is None


def test_points_end_with_the_text() -> None:
    assert points_of(1) == ((1,), 1, ())
    assert points_of(2) == ((1, 2), 1, (1,))
    points = points_of(64)
    assert points.even == (8, 16, 24, 32, 40, 48, 56, 64)
    assert (points.begin, points.lags) == (8, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 56))
    assert points.all[-1] == 64


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES.names() if "gpt2ish-" not in name])
def test_every_architecture_is_asked_alike(name: str) -> None:
    """One sequence, one token and bfloat16 too; what there is not is missing and no number."""
    model = redrawn(tiny(name), torch.Generator().manual_seed(0))
    profile = measure_states(model, text(2, 9), PLAN)
    assert profile.parts or profile.attention
    assert all(part.finite and len(part.left) == len(profile.lags) for part in profile.parts)
    for part in profile.attention:
        assert 0 < part.entropy_nats <= part.equal_entropy_nats + 1e-6
        assert part.distance >= 0
    one = measure_states(model, text(1, 1), PLAN)
    assert (one.lags, one.half_life, one.variety) == ([], None, None)
    assert len(measure_states(model, text(1, 3), BF16).parts) == len(profile.parts)
    assert MeasureState().columns(States(initial=one, trained=profile))
    assert MeasureState().sentences(States(initial=None, trained=one))
    assert StateProfile.model_validate_json(profile.model_dump_json()) == profile


@pytest.mark.parametrize("name", ["mamba2", "rwkv6", "gated-delta-net"])
def test_a_change_decays_as_the_gates_say_or_faster(name: str) -> None:
    """Where nothing but a decay acts on the state the half-life is that of the gates; the delta rule also erases."""
    model = redrawn(tiny(name), torch.Generator().manual_seed(1))
    profile = measure_states(model, text(4, 64), PLAN)
    for part, gate in zip(profile.parts, profile.gates, strict=True):
        assert part.half_life is not None
        if gate.half_life.median is None or part.half_life.median is None:
            continue
        if name == "gated-delta-net":
            assert part.half_life.high is not None
            assert part.half_life.high < (gate.half_life.high or math.inf), "it erases where it writes"
        else:
            assert part.half_life.median == pytest.approx(gate.half_life.median, rel=0.02)


def test_batches_change_nothing_and_the_model_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = redrawn(tiny("twin"), torch.Generator().manual_seed(0))
    model.train()
    whole = measure_states(model, text(3, 10), PLAN)
    monkeypatch.setattr(sequences, "BATCH_TOKENS", 10)
    monkeypatch.setattr(memory, "TRACE_BYTES", 1)
    alone = measure_states(model, text(3, 10), PLAN)
    assert model.training
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert whole.half_life is not None
    assert alone.half_life is not None
    assert alone.half_life.median == pytest.approx(whole.half_life.median, rel=1e-3)
    for a, b in zip(whole.parts, alone.parts, strict=True):
        assert a.rms == pytest.approx(b.rms, rel=1e-4)
        assert (a.effective_rank or 0) == pytest.approx(b.effective_rank or 0, rel=1e-4)


def test_attention_that_looks_at_one_key() -> None:
    """Queries and keys of zeros weigh all keys alike: entropy and distance are those of equal weights."""
    model = tiny("gpt1")
    with torch.no_grad():
        for block in model.sequence_blocks():
            block.mixer.qkv.weight.zero_()
    for part in measure_states(model, text(2, 16), PLAN).attention:
        assert part.entropy_nats == pytest.approx(part.equal_entropy_nats)
        assert part.distance == pytest.approx(part.equal_distance) == pytest.approx(7.5 / 2)
