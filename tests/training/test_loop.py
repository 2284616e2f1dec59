"""The training loop: what it reports, when it stops, and that validation does not change training."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from assay.data.batches import Chain, PackedWindows
from assay.errors import RequestError
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionConfig, resolve_plan
from assay.training.checkpoint import TrainingProgress
from assay.training.config import TrainingConfig
from assay.training.course import course_file, observed_by, read_course
from assay.training.loop import DIVERGENCE_WINDOW, StepEvent, TrainingRun
from assay.training.optim import learning_rate

Validate = Callable[[LanguageModel], float]


def training_run(
    folder: Path, validate: Validate = lambda _: 1.5, dropout: float = 0.0, replicate: int = 0, **values: Any
) -> tuple[TrainingRun, list[StepEvent]]:
    """A tiny run of up to 30 steps on made-up tokens, and what its observer hears."""
    architecture = ARCHITECTURES.get("gpt1")
    model = build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": dropout}), 0)
    ids = np.arange(500, dtype=np.uint16) * 7 % 61
    config = TrainingConfig.parse({"tokens": 30 * 32, "batch_tokens": 32, "context": 16, **values})
    plan = resolve_plan(ExecutionConfig(device="cpu", threads=1), lambda _: None)
    events: list[StepEvent] = []
    batches = PackedWindows(ids, 16, config.batch_size, seed=0)
    return TrainingRun(folder, model, batches, config, plan, validate, [events.append], replicate), events


def judged(run: TrainingRun, losses: list[float]) -> TrainingProgress:
    """Where the loop stands after these losses, without training."""
    progress = TrainingProgress(step=0, tokens=0, chain=Chain().head, environment={})
    for step, nats in enumerate(losses):
        progress = run._judge(progress, nats, math.isfinite(nats)).model_copy(update={"step": step + 1})
        if progress.status != "running":
            break
    return progress


def test_events_and_metrics_say_the_same(tmp_path: Path) -> None:
    run, events = training_run(tmp_path, validation_interval=10)
    progress = run.go()
    assert progress.status == "finished"
    assert [event.step for event in events] == list(range(1, 31))
    assert [event.tokens for event in events] == [32 * step for step in range(1, 31)]
    rates = [learning_rate(run.config, step) for step in range(30)]
    assert [event.learning_rate for event in events] == rates
    validated = [event.step for event in events if event.validation_nats_per_token is not None]
    assert validated == [10, 20, 30]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == [event.__dict__ for event in events], "the file holds what listeners were told"
    assert events[-1].chain == progress.chain, "the last event's hash chain is that of the run"
    assert events[0].nats_per_token == pytest.approx(math.log(61), abs=0.05), (
        "the first loss is that of a uniform guess"
    )
    assert events[-1].nats_per_token < events[0].nats_per_token - 0.5, "the model learns"


def test_the_last_step_is_validated_whatever_the_interval(tmp_path: Path) -> None:
    run, events = training_run(tmp_path, tokens=7 * 32, validation_interval=5)
    run.go()
    assert [event.step for event in events if event.validation_nats_per_token is not None] == [5, 7]


def test_a_careless_validation_does_not_move_training(tmp_path: Path) -> None:
    """It may leave the model in evaluation mode and the global generators anywhere."""

    def careless(model: LanguageModel) -> float:
        model.eval()
        torch.rand(3, generator=torch.default_generator)
        return 0.0

    losses, modes = [], []
    for index, (validate, interval) in enumerate(((careless, 1), (lambda _: 0.0, 12))):
        folder = tmp_path / str(index)
        folder.mkdir()
        run, events = training_run(folder, validate, validation_interval=interval, tokens=12 * 32)
        run.model.embedding.register_forward_pre_hook(lambda model, _: modes.append(model.training))
        run.go()
        losses.append([(event.nats_per_token, event.gradient_norm, event.chain) for event in events])
    assert losses[0] == losses[1]
    assert len(modes) == 24
    assert all(modes)


def test_a_loss_that_is_not_finite_stops_at_once(tmp_path: Path) -> None:
    run, events = training_run(tmp_path)
    with torch.no_grad():
        run.model.head_weight[3, 0] = math.nan
    before = run.model.get_parameter("blocks.0.mixer_norm.weight").clone()
    progress = run.go()
    assert progress.status == "diverged"
    assert progress.step == len(events) == 1
    assert events[0].validation_nats_per_token is None
    assert torch.equal(run.model.get_parameter("blocks.0.mixer_norm.weight"), before), (
        "no step is taken on a broken loss"
    )
    assert TrainingProgress.read(tmp_path / "checkpoint" / "progress.json").status == "diverged"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_not_finite_is_divergence_at_any_step(broken: float, tmp_path: Path) -> None:
    run, _ = training_run(tmp_path)
    assert judged(run, [4.0, 3.0, broken]).status == "diverged"


def test_a_nat_above_the_first_loss_for_twenty_steps_is_divergence(tmp_path: Path) -> None:
    """The mean of the last twenty losses must exceed the first by a nat: not one spike, not one step too early."""
    run, _ = training_run(tmp_path, tokens=100 * 32)
    assert DIVERGENCE_WINDOW == 20
    assert judged(run, [4.0, *[5.2] * 18]).status == "running", "19 losses are no window"
    gone = judged(run, [4.0, *[5.2] * 40])
    assert gone.status == "diverged"
    assert gone.step == 20, "(4 + 19 * 5.2) / 20 = 5.14 > 5"
    assert judged(run, [4.0, *[4.99] * 60]).status == "running"
    assert judged(run, [4.0, *[3.0] * 30, 20.0, *[3.0] * 30]).status == "running", "one spike passes"
    assert judged(run, [4.0, *[3.0] * 30, *[9.0] * 30]).status == "diverged"


@pytest.mark.parametrize(("dropout", "moves"), [(0.0, False), (0.2, True)])
def test_a_replicate_moves_the_masks_and_nothing_else(dropout: float, moves: bool, tmp_path: Path) -> None:
    """Runs that differ in the replicate alone see the same batches, and differ where a layer draws."""
    heard = []
    for replicate in (0, 1):
        folder = tmp_path / str(replicate)
        folder.mkdir()
        run, events = training_run(folder, dropout=dropout, replicate=replicate, tokens=3 * 32)
        run.go()
        heard.append(events)
    assert [event.chain for event in heard[0]] == [event.chain for event in heard[1]]
    losses = [[event.nats_per_token for event in events] for events in heard]
    assert (losses[0] != losses[1]) is moves


def test_weights_are_kept_at_stated_steps(tmp_path: Path) -> None:
    """Each file holds the weights of its step: those that a run of so many steps at the same rates ends in."""
    kept: dict[int, dict[str, torch.Tensor]] = {}

    class Copies:
        name, interval = "copies", 1

        def observe(self, model: LanguageModel, step: int) -> dict[str, Any]:
            kept[step] = {name: value.clone() for name, value in model.state_dict().items()}
            return {}

    run, _ = training_run(tmp_path, tokens=12 * 32, keep=[3, 12])
    run.model_observers = [Copies()]
    run.go()
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["step-12.safetensors", "step-3.safetensors"]
    for step in (3, 12):
        found = load_file(tmp_path / "kept" / f"step-{step}.safetensors")
        assert all(torch.equal(found[name], value) for name, value in kept[step].items())
    assert not torch.equal(kept[3]["embedding.tokens"], kept[12]["embedding.tokens"])


def test_steps_to_keep_are_a_list_or_powers_of_two() -> None:
    config = {"tokens": 12 * 32, "batch_tokens": 32, "context": 16}
    assert TrainingConfig.parse({**config, "keep": "log"}).kept_steps == {1, 2, 4, 8, 12}
    assert TrainingConfig.parse({**config, "keep": [5, 2]}).kept_steps == {2, 5}
    with pytest.raises(RequestError, match=r"training.keep: 13 given, the run has 12 steps; so many would do"):
        TrainingConfig.parse({**config, "keep": [5, 13]})
    assert TrainingConfig.parse({**config, "keep": 5}).kept_steps == {5}


@pytest.mark.parametrize("given", ["often", [0], [-1], [True], [1.5], ["log"], [[3]], {"a": 1}, None])
def test_other_steps_to_keep_are_refused_in_one_line(given: object) -> None:
    with pytest.raises(RequestError, match=r"^keep: .*steps from 1 on, as \[100, 1000\], or log would do") as said:
        TrainingConfig.parse({"tokens": 12 * 32, "batch_tokens": 32, "context": 16, "keep": given})
    assert "\n" not in str(said.value)


class Norms:
    """An observer of one number."""

    name, interval = "norms", 4

    def observe(self, model: LanguageModel, step: int) -> dict[str, Any]:
        assert not model.training
        assert not torch.is_grad_enabled()
        return {"norm": model.embedding.tokens.norm().item()}


def test_observers_see_the_model_at_their_interval_and_move_nothing(tmp_path: Path) -> None:
    losses = []
    for index, observers in enumerate(([], [Norms()])):
        folder = tmp_path / str(index)
        folder.mkdir()
        run, events = training_run(folder, tokens=10 * 32, dropout=0.1)
        run.model_observers = observers
        run.go()
        losses.append([event.nats_per_token for event in events])
    assert losses[0] == losses[1]
    rows = [json.loads(line) for line in course_file(tmp_path / "1", "norms").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 10]
    assert rows[-1]["norm"] == run.model.embedding.tokens.norm().item()


def test_what_observers_saw_survives_an_interruption(tmp_path: Path) -> None:
    """After a death between two checkpoints the rows are those of an uninterrupted run, none of them twice."""

    class DeathError(Exception):
        pass

    def dies(event: StepEvent) -> None:
        if event.step == 9:
            raise DeathError

    seen = []
    for name, deaths in (("whole", 0), ("interrupted", 1)):
        folder = tmp_path / name
        folder.mkdir()
        for attempt in range(deaths + 1):
            run, _ = training_run(folder, tokens=12 * 32, checkpoint_interval=6)
            run.model_observers = [Norms()]
            if attempt < deaths:
                run.observers = [dies]
                with pytest.raises(DeathError):
                    run.go()
            else:
                run.go()
        seen.append(course_file(folder, "norms").read_text())
    assert seen[0] == seen[1]


def test_a_course_is_of_one_code(tmp_path: Path) -> None:
    """A run does not go on with an observer of other code, unless nothing has been observed by the checkpoint."""

    class DeathError(Exception):
        pass

    def dies(event: StepEvent) -> None:
        if event.step == 9:
            raise DeathError

    def attempt(folder: Path, code: str, dying: bool, interval: int) -> None:
        run, _ = training_run(folder, tokens=12 * 32, checkpoint_interval=interval)
        run.model_observers, run.codes = [Norms()], {"norms": code}
        run.observers = [dies] if dying else []
        run.go()

    for name, interval, refused in (("observed", 6, True), ("not yet", 10, False)):
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(DeathError):
            attempt(folder, "one", True, interval)
        if refused:
            with pytest.raises(RequestError, match=r"norms has observed it as one and is other now"):
                attempt(folder, "other", False, interval)
            attempt(folder, "one", False, interval)
        else:
            attempt(folder, "other", False, interval)
        path = course_file(folder, "norms")
        assert observed_by(path) == ("one" if refused else "other")
        assert [row["step"] for row in read_course(path)] == [4, 8, 12]


@pytest.mark.parametrize("way", ["in place", "past autograd", "a hook"])
def test_an_observer_that_changes_the_model_is_named(way: str, tmp_path: Path) -> None:
    class Meddler(Norms):
        name = "meddler"

        def observe(self, model: LanguageModel, step: int) -> dict[str, Any]:
            if way == "in place":
                model.embedding.tokens.mul_(1.01)
            elif way == "past autograd":
                model.embedding.tokens.data.zero_()
            else:
                model.embedding.register_forward_hook(lambda *_: None)
            return {}

    run, _ = training_run(tmp_path)
    run.model_observers = [Meddler()]
    with pytest.raises(RequestError, match="meddler: its observer changed the model that is trained; it may only look"):
        run.go()


def test_a_run_is_finished_at_its_last_step(tmp_path: Path) -> None:
    run, _ = training_run(tmp_path, tokens=3 * 32)
    assert [judged(run, [4.0] * n).status for n in (1, 2, 3)] == ["running", "running", "finished"]


class FallingAndRising:
    """A validation that is lowest the fourth time that it is asked for."""

    def __init__(self, calls: int = 0) -> None:
        self.calls = calls

    def __call__(self, model: LanguageModel) -> float:
        self.calls += 1
        return abs(self.calls - 4) + 1.0


@pytest.mark.parametrize("weights", ["last", "best"])
def test_the_weights_that_are_measured_are_the_last_or_the_best(weights: str, tmp_path: Path) -> None:
    run, _ = training_run(tmp_path, FallingAndRising(), validation_interval=3, weights=weights, keep=[12, 30])
    progress = run.go()
    assert (progress.best_step, progress.best_nats, progress.step) == (12, 1.0, 30)
    kept = load_file(tmp_path / "kept" / f"step-{12 if weights == 'best' else 30}.safetensors")
    final = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert all(torch.equal(final[name], weight) for name, weight in kept.items())
    assert [path.name for path in tmp_path.glob("best/*")] == (["step-12.safetensors"] if weights == "best" else [])


def test_an_interrupted_run_finds_the_same_best_weights(tmp_path: Path) -> None:
    """Killed after a better validation that no checkpoint knows of yet: the file is there, and is written again."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    values = {"validation_interval": 3, "weights": "best", "checkpoint_interval": 10}
    training_run(whole, FallingAndRising(), **values)[0].go()
    run, _ = training_run(broken, FallingAndRising(), **values)

    def killed(event: StepEvent) -> None:
        if event.step == 14:
            raise KeyboardInterrupt

    run.observers = [killed]
    with pytest.raises(KeyboardInterrupt):
        run.go()
    assert training_run(broken, FallingAndRising(3), **values)[0].go().best_step == 12
    one, other = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (whole, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_stops_where_it_has_learned_enough(tmp_path: Path) -> None:
    run, events = training_run(tmp_path, FallingAndRising(), validation_interval=3, stop_at_nats=2.0)
    progress = run.go()
    assert (progress.status, progress.step, progress.tokens) == ("finished", 9, 9 * 32)
    assert [event.learning_rate for event in events] == [learning_rate(run.config, step) for step in range(9)]
    assert training_run(tmp_path, stop_at_nats=2.0)[0].go().step == 9, "it is finished"
