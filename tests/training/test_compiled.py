"""Compiled training: one graph, the same weights after an interruption, and one line where the compiler fails."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from assay.data.batches import PackedWindows
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.plan import ExecutionConfig, ExecutionPlan, resolve_plan
from assay.training.compiled import (
    ONE_GRAPH,
    compile_objective,
    forget_compiled_code,
    keep_compiled_code,
    shortfall,
)
from assay.training.config import TrainingConfig
from assay.training.loop import StepEvent, TrainingRun
from assay.training.objective import Objective
from assay.training.step import MicroBatch
from assay.training.version import sources_digest

PLAN = resolve_plan(ExecutionConfig(device="cpu", precision="float32", threads=1), lambda _: None)


@pytest.fixture(autouse=True)
def _without_shape_checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    forget_compiled_code()
    yield
    forget_compiled_code()


@pytest.fixture
def by_backend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Compile by another backend than inductor, which takes too long here."""
    compiler = torch.compile
    return lambda backend: monkeypatch.setattr(torch, "compile", partial(compiler, backend=backend))


def objective(plan: ExecutionPlan = PLAN, name: str = "gpt1") -> Objective:
    architecture = ARCHITECTURES.get(name)
    return Objective(build_model(architecture, architecture.config.parse(architecture.tiny), 0), plan)


def micro_batch(rows: int) -> MicroBatch:
    ids = torch.arange(rows * 9).view(rows, 9) * 7 % 61
    return MicroBatch(ids[:, :-1], ids[:, 1:], torch.tensor(5))


def test_what_compiles_is_one_graph(by_backend: Callable[[Any], None]) -> None:
    graphs: list[int] = []

    def counted(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        graphs.append(1)
        return graph.forward

    by_backend(counted)
    step = objective()
    expected = step(*micro_batch(2)).nats
    assert compile_objective(step, micro_batch(2)) == ONE_GRAPH
    assert len(graphs) == 1
    assert all(parameter.grad is None for parameter in step.parameters()), "the trial leaves no gradients"
    torch.testing.assert_close(step(*micro_batch(2)).nats, expected)
    assert len(graphs) == 1, "the trial has compiled it"
    other = objective(PLAN.model_copy(update={"precision": "bfloat16"}))
    assert compile_objective(other, micro_batch(2)) == ONE_GRAPH
    assert other(*micro_batch(2)).nats != expected, "in its own precision"


@pytest.mark.slow
def test_more_models_than_torch_keeps_by_itself(by_backend: Callable[[Any], None]) -> None:
    by_backend("eager")
    with torch._dynamo.config.patch(recompile_limit=2):
        for rows in (1, 2, 3, 4):
            step = objective()
            assert compile_objective(step, micro_batch(rows)) == ONE_GRAPH


def test_a_compiler_that_fails_leaves_the_objective_as_it_was(by_backend: Callable[[Any], None]) -> None:
    def broken(*_: object) -> Any:
        raise OSError("c++: internal compiler error\nand more")

    by_backend(broken)
    step = objective()
    expected = step(*micro_batch(2)).nats
    how = compile_objective(step, micro_batch(2))
    assert how.startswith("no: ")
    assert "c++: internal compiler error" in how
    assert "\n" not in how
    assert torch.equal(step(*micro_batch(2)).nats, expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # what dynamo looks at where it resumes
def test_a_graph_break_is_said(by_backend: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    by_backend("eager")
    step = objective()
    forward = step.model.norm.forward

    def printing(x: Tensor) -> Tensor:
        torch._dynamo.graph_break("as in somebody's mixer")
        return forward(x)

    monkeypatch.setattr(step.model.norm, "forward", printing)
    how = compile_objective(step, micro_batch(2))
    assert " graphs: " in how, how
    number, rest = how.split(" graphs: ")
    assert int(number) > 1
    assert rest


def test_what_the_compiler_leaves_alone_is_not_called_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    how = compile_objective(objective(), micro_batch(2))
    assert how == "no: the compiler left all of it alone"


def test_a_run_that_was_not_compiled_as_asked_says_so_in_a_line() -> None:
    assert shortfall("gpt1", ONE_GRAPH) is None
    assert shortfall("gpt1", "no: c++: killed") == "execution.compile: gpt1 ran uncompiled (c++: killed)"
    assert shortfall("gpt1", "3 graphs: print") == "execution.compile: gpt1 ran in 3 graphs (print)"


def test_compiled_code_is_kept_in_the_cache_of_assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    keep_compiled_code()
    assert torch._inductor.runtime.cache_dir_utils.cache_dir() == str(tmp_path / f"compiled-{sources_digest()}")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "own"))
    keep_compiled_code()
    assert torch._inductor.runtime.cache_dir_utils.cache_dir() == str(tmp_path / "own")


def run(folder: Path, tokens: int = 12 * 32) -> TrainingRun:
    """A compiled run of twelve steps, in micro-batches, with dropout."""
    architecture = ARCHITECTURES.get("gpt1")
    model = build_model(architecture, architecture.config.parse({**architecture.tiny, "dropout": 0.1}), 0)
    config = TrainingConfig.parse(
        {"tokens": tokens, "batch_tokens": 32, "micro_batch_tokens": 16, "context": 16, "checkpoint_interval": 5}
    )
    batches = PackedWindows(np.arange(500, dtype=np.uint16) * 7 % 61, 16, config.batch_size, seed=0)
    plan = PLAN.model_copy(update={"compile": True})
    return TrainingRun(folder, model, batches, config, plan, lambda _: 1.5)


class KilledError(Exception):
    pass


def assert_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    assert whole.go().environment["compiled"] == ONE_GRAPH

    def stop(event: StepEvent) -> None:
        if event.step == 7:
            raise KilledError

    (tmp_path / "cut").mkdir()
    cut = run(tmp_path / "cut")
    cut.observers = [stop]
    with pytest.raises(KilledError):
        cut.go()
    progress = run(tmp_path / "cut").go()
    assert (progress.interruptions, progress.chain_broken) == (1, None)
    one, other = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_ends_in_the_same_weights(tmp_path: Path, by_backend: Callable[[Any], None]) -> None:
    by_backend("eager")
    assert_resumes_bit_for_bit(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_resumed_run_of_inductor_ends_in_the_same_weights(tmp_path: Path) -> None:
    assert_resumes_bit_for_bit(tmp_path)


@pytest.mark.slow
def test_a_run_that_was_compiled_and_is_no_more_is_a_broken_chain(
    tmp_path: Path, by_backend: Callable[[Any], None]
) -> None:
    by_backend("eager")
    begun = run(tmp_path)

    def stop(event: StepEvent) -> None:
        if event.step == 7:
            raise KilledError

    begun.observers = [stop]
    with pytest.raises(KilledError):
        begun.go()

    def broken(*_: object) -> Any:
        raise OSError("c++: killed")

    by_backend(broken)
    progress = run(tmp_path).go()
    assert progress.chain_broken is not None
    assert progress.chain_broken.startswith(f"compiled: {ONE_GRAPH} -> no: c++: killed")
