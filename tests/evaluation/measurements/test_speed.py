"""Speed: models in turns, medians and ranges of a made-up clock, and nothing left behind."""

import gc
import math
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from assay.data.batches import PackedWindows
from assay.evaluation.generators import drawn_so_far
from assay.evaluation.measurements.speed import BURST_SECONDS, ROUNDS, Speed, Trainee, measure_speeds
from assay.evaluation.turns import synchronise
from assay.model.lm import LanguageModel
from assay.training.config import TrainingConfig
from assay.training.loop import TrainingRun
from assay.training.optim import learning_rate
from evaluation.small import PLAN, tiny

TRAINING = TrainingConfig(tokens=320, batch_tokens=32, context=16)


class Clock:
    """A clock that stands still but for what models put on it, and their names in the order of their steps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def trainee(self, name: str, seconds: Sequence[float], training: TrainingConfig = TRAINING) -> Trainee:
        """A model whose n-th forward pass takes seconds[n], those after the last as long as the last."""
        left = list(seconds)

        def tick(*_: object) -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]
            self.order.append(name)

        def build() -> LanguageModel:
            model = tiny()
            model.embedding.register_forward_pre_hook(tick)
            return model

        return Trainee(build, training)


def ticking() -> Callable[[], float]:
    """A second a look."""
    looks = iter(range(10_000))
    return lambda: float(next(looks))


def never(doubt: str) -> None:
    raise AssertionError(doubt)


def test_the_median_over_rounds_and_the_range_without_the_warm_up() -> None:
    clock = Clock()
    trainee = clock.trainee("a", [9.0, 1.0, 0.5, 0.4, 0.5, 0.8, 0.64])
    speed = measure_speeds({"a": trainee}, PLAN, lambda _: None, clock=clock)["a"]
    assert (speed.tokens_per_second, speed.low, speed.high) == pytest.approx((32 / 0.5, 32 / 0.8, 32 / 0.4))
    assert (speed.rounds, speed.steps_per_round) == (ROUNDS, 1)
    assert (speed.threads, speed.device, speed.precision) == (1, "cpu", "float32")


def test_the_device_has_finished_whenever_the_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    order, looks = [], ticking()

    def clock() -> float:
        order.append("clock")
        return looks()

    monkeypatch.setattr("assay.evaluation.measurements.speed.synchronise", order.append)
    measure_speeds({"a": Trainee(tiny, TRAINING)}, PLAN, never, clock=clock)
    assert order == ["cpu", "clock"] * 2 * (2 + ROUNDS)


def test_cuda_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronise("cpu")
    synchronise("cuda:1")
    assert waited == ["cuda:1"]


def test_a_burst_is_whole_steps_of_training() -> None:
    """Every parameter has moved, and each forward pass of the bursts was an optimizer step at its own rate."""
    model, rates = tiny(), list[float]()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def listen(optimizer: torch.optim.Optimizer, *_: object) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_pre_hook(listen)
    short = TRAINING.model_copy(update={"tokens": 4 * 32})
    measure_speeds({"a": Trainee(lambda: model, short)}, PLAN, never, clock=ticking())
    handle.remove()
    assert rates == [learning_rate(short, step % 4) for step in range(2 + ROUNDS)]
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_models_take_turns_in_bursts_of_a_length_fixed_once() -> None:
    """A fast model takes as many steps as make a burst; a slow one takes one, and later slowness changes neither."""
    clock = Clock()
    fast = clock.trainee("fast", [5.0, BURST_SECONDS / 3, BURST_SECONDS])
    slow = clock.trainee("slow", [5.0, 2.0])
    speeds = measure_speeds({"fast": fast, "slow": slow}, PLAN, lambda _: None, clock=clock)
    assert clock.order == [*["fast"] * 2, *["slow"] * 2, *["fast", "fast", "fast", "slow"] * ROUNDS]
    assert speeds["fast"].steps_per_round == 3
    assert speeds["fast"].tokens_per_second == pytest.approx(32 / BURST_SECONDS)
    assert speeds["slow"].steps_per_round == 1
    assert speeds["slow"].tokens_per_second == pytest.approx(32 / 2)


def test_each_model_has_its_own_batch() -> None:
    clock = Clock()
    double = TRAINING.model_copy(update={"batch_tokens": 64})
    trainees = {"one": clock.trainee("one", [1.0]), "two": clock.trainee("two", [1.0], double)}
    speeds = measure_speeds(trainees, PLAN, never, clock=clock)
    assert [speed.tokens_per_second for speed in speeds.values()] == [32, 64]


@pytest.mark.parametrize(("slowest", "unsteady"), [(1.49, False), (1.51, True)])
def test_rounds_that_differ_by_half_are_unsteady(slowest: float, unsteady: bool) -> None:
    clock = Clock()
    told: list[str] = []
    trainee = clock.trainee("a", [1.0, 1.0, 1.0, slowest, 1.0])
    speed = measure_speeds({"a": trainee}, PLAN, told.append, clock=clock)["a"]
    assert speed.unsteady is unsteady
    assert [doubt.split(",")[0] for doubt in told] == ["speed of a: unsteady"] * unsteady


def test_a_loss_that_is_not_finite_is_told() -> None:
    def broken() -> LanguageModel:
        model = tiny()
        with torch.no_grad():
            model.embedding.tokens.fill_(math.nan)
        return model

    clock, told = Clock(), list[str]()
    sound = clock.trainee("sound", [1.0])
    measure_speeds({"sound": sound, "broken": Trainee(broken, TRAINING)}, PLAN, told.append, clock=ticking())
    assert [doubt for doubt in told if "not finite" in doubt] == [
        "speed of broken: a loss was not finite, and such a step leaves out the optimizer"
    ]


def test_the_plan_is_obeyed_and_threads_are_put_back() -> None:
    threads, types = [], []

    def build() -> LanguageModel:
        model = tiny()
        model.blocks[0].register_forward_hook(lambda *_: threads.append(torch.get_num_threads()))
        model.blocks[0].mixer.output.register_forward_hook(lambda *args: types.append(args[2].dtype))
        return model

    plan = PLAN.model_copy(update={"threads": 2, "precision": "bfloat16"})
    before = torch.get_num_threads()
    assert before != 2
    speed = measure_speeds({"a": Trainee(build, TRAINING)}, plan, never, clock=ticking())["a"]
    assert torch.get_num_threads() == before
    assert (set(threads), set(types)) == ({2}, {torch.bfloat16})
    assert (speed.threads, speed.precision) == (2, "bfloat16")

    def fails() -> LanguageModel:
        torch.set_num_threads(2)
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        measure_speeds({"a": Trainee(fails, TRAINING)}, plan, never)
    assert torch.get_num_threads() == before


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Not the models, not a draw; a training afterwards ends in the weights that it ends in without."""
    models = []

    def build() -> LanguageModel:
        model = tiny(dropout=0.1)
        torch.rand(3, generator=torch.default_generator)
        models.append(weakref.ref(model))
        return model

    def trained(folder: str) -> dict[str, torch.Tensor]:
        (tmp_path / folder).mkdir()
        windows = PackedWindows(np.arange(500, dtype=np.uint16) * 7 % 61, 16, TRAINING.batch_size, seed=0)
        run = TrainingRun(tmp_path / folder, tiny(dropout=0.1), windows, TRAINING, PLAN, lambda _: 0.0)
        run.go()
        return dict(run.model.state_dict())

    before = trained("before")
    drawn = drawn_so_far()
    measure_speeds({"a": Trainee(build, TRAINING), "b": Trainee(build, TRAINING)}, PLAN, never, clock=ticking())
    assert drawn_so_far() == drawn
    gc.collect()
    assert [model() for model in models] == [None, None]
    after = trained("after")
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_batches_follow_the_seed_and_are_alike_for_all_models() -> None:
    def seen(seed: int) -> list[list[torch.Tensor]]:
        ids: list[list[torch.Tensor]] = []

        def build() -> LanguageModel:
            model, mine = tiny(), list[torch.Tensor]()
            ids.append(mine)
            model.embedding.register_forward_pre_hook(lambda _, args: mine.append(args[0]))
            return model

        measure_speeds({"a": Trainee(build, TRAINING), "b": Trainee(build, TRAINING)}, PLAN, never, seed, ticking())
        return ids

    (a, b), (other, _) = seen(0), seen(1)
    assert len(a) == 2 + ROUNDS
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert a[0].shape == (2, 16)
    assert len({tuple(x.flatten().tolist()) for x in [*a, *other]}) == 2 * len(a), "no batch comes twice"


def test_tiny_models_by_the_real_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.evaluation.measurements.speed.BURST_SECONDS", 0.03)
    trainees = {name: Trainee(lambda name=name: tiny(name), TRAINING) for name in ("gpt1", "mamba2")}
    speeds = measure_speeds(trainees, PLAN, lambda _: None)
    assert list(speeds) == ["gpt1", "mamba2"]
    for speed in speeds.values():
        assert 0 < speed.low <= speed.tokens_per_second <= speed.high < math.inf
        assert Speed.model_validate_json(speed.model_dump_json()) == speed
