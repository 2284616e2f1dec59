"""Training with ops in C++: every architecture's gradients are those of the Python forms, an interrupted run ends in
the same bits, and what cannot be built is said.
"""

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from assay.data.batches import PackedWindows
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionConfig, ExecutionPlan, resolve_plan
from assay.ops.native import build
from assay.ops.native.kernels import KERNELS
from assay.ops.native.processor import types_here
from assay.ops.orthogonal import in_cpp_here
from assay.training.config import TrainingConfig
from assay.training.loop import StepEvent, TrainingRun
from assay.training.native import IN_CPP, IN_PYTHON, build_ops, native_shortfall, prepare_ops
from assay.training.objective import Objective

pytestmark = pytest.mark.skipif(not types_here(), reason="the ops in C++ need a processor with AVX-512")

FAR = {"float32": 2e-5, "bfloat16": 6e-2}
"""Of the norm of a gradient; in bfloat16 two orders of rounding through a few layers."""


def plan_of(precision: str, native: bool) -> ExecutionPlan:
    asked = ExecutionConfig(device="cpu", precision=precision, threads=1)
    return resolve_plan(asked, lambda _: None).model_copy(update={"native": native})


def gradients(name: str, plan: ExecutionPlan) -> tuple[float, Tensor]:
    """The nats and the gradient, all in one vector, of a tiny model on 2 x 37 tokens."""
    architecture = ARCHITECTURES.get(name)
    model = plan.apply(build_model(architecture, architecture.config.parse(architecture.tiny), 0)).train()
    assert prepare_ops(model, plan) == (IN_CPP if plan.native else IN_PYTHON)
    tokens = min(37, model.max_positions or 37)
    ids = torch.randint(61, (2, tokens + 1), generator=torch.Generator().manual_seed(0))
    outcome = Objective(model, plan)(ids[:, :-1], ids[:, 1:], 5)
    sum(outcome.auxiliary.values(), outcome.nats).backward()
    slopes = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return float(outcome.nats.detach()), torch.cat(slopes)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [architecture.name for architecture in ARCHITECTURES])
def test_gradients_are_those_of_the_python_forms(name: str, precision: str) -> None:
    if getattr(torch, precision) not in types_here():
        pytest.skip("the processor has no units for it")
    (nats, expected), (found_nats, found) = (
        gradients(name, plan_of(precision, native=native)) for native in (False, True)
    )
    assert found_nats == pytest.approx(nats, rel=FAR[precision] / 5)
    assert float((found - expected).norm()) <= FAR[precision] * float(expected.norm())


class KilledError(Exception):
    pass


def a_run(folder: Path, name: str) -> TrainingRun:
    folder.mkdir(exist_ok=True)
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0)
    config = TrainingConfig.parse({"tokens": 192, "batch_tokens": 32, "context": 16, "checkpoint_interval": 2})
    ids = torch.randint(61, (400,), generator=torch.Generator().manual_seed(1)).numpy()
    batches = PackedWindows(ids, 16, config.batch_size, seed=0)
    return TrainingRun(folder, model, batches, config, plan_of("float32", native=True), lambda _: 1.0)


def cut_short(folder: Path, name: str) -> None:
    """Train as far as the third step, of which the checkpoint has two."""

    def stop(event: StepEvent) -> None:
        if event.step == 3:
            raise KilledError

    run = a_run(folder, name)
    run.observers = [stop]
    with pytest.raises(KilledError):
        run.go()


@pytest.mark.parametrize("name", ["gpt1", "mamba2", "gated-delta-net", "rwkv6", "rwkv7"])
def test_an_interrupted_run_ends_in_the_same_bits(name: str, tmp_path: Path) -> None:
    assert a_run(tmp_path / "whole", name).go().environment["ops"] == IN_CPP
    cut_short(tmp_path / "cut", name)
    progress = a_run(tmp_path / "cut", name).go()
    assert (progress.interruptions, progress.chain_broken) == (1, None)
    one, other = (load_file(tmp_path / place / "checkpoint" / "model.safetensors") for place in ("whole", "cut"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_that_goes_on_in_python_is_marked(tmp_path: Path) -> None:
    cut_short(tmp_path, "gpt1")
    resumed = a_run(tmp_path, "gpt1")
    resumed.plan = plan_of("float32", native=False)
    assert resumed.go().chain_broken == "ops: C++ -> Python"


def tiny(name: str) -> LanguageModel:
    architecture = ARCHITECTURES.get(name)
    return build_model(architecture, architecture.config.parse(architecture.tiny), 0)


def test_what_is_not_built_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.setattr(KERNELS, "libraries", {})
    monkeypatch.setattr(KERNELS, "refused", {})
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-include", "no_such_header.h"))
    said = prepare_ops(tiny("gpt1"), plan_of("float32", native=True))
    line = native_shortfall("gpt1", said)
    assert line is not None
    assert line.startswith(
        "execution.native: ops of gpt1 ran in C++ but attention_in_blocks, gated_silu, layer_norm, rms_norm, silu, "
        "squared_relu, summed_nats, token_shift not, "
    )
    assert "no_such_header" in line
    assert "\n" not in line


def test_products_that_are_not_replaced_in_a_compiled_run_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.training.native.prepare_products", lambda: "its check failed")
    architecture = ARCHITECTURES.get("gpt1")
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0)
    plan = plan_of("float32", native=True)
    assert prepare_ops(model, plan) == IN_CPP, "eager products are torch's"
    compiled = prepare_ops(model, plan.model_copy(update={"compile": True}))
    assert compiled == "C++ but matmul not, its check failed"
    assert native_shortfall("gpt1", compiled) == f"execution.native: ops of gpt1 ran in {compiled}"


def test_what_is_missing_is_built_once_and_said_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    built: list[str] = []
    counted = threading.Lock()

    def make(_: str, source: Path, library: Path) -> None:
        with counted:
            built.append(source.stem)
            library.parent.mkdir(exist_ok=True)
            library.touch()

    monkeypatch.setattr(build, "_build", make)
    told: list[str] = []
    models = [tiny(name) for name in ("gpt1", "gated-delta-net", "rwkv7")]
    build_ops(plan_of("float32", native=True), models, [], told.append)
    assert len(told) == 1
    assert f"({len(built)} files, a few seconds each)" in told[0]
    needed = {
        "attention",
        "cross_entropy",
        "rms_norm",
        "layer_norm",
        "activations",
        "delta_rule",
        "convolution",
        "wkv7",
        "token_shift",
    }
    assert set(built) == needed, "what these models need, and nothing else"
    build_ops(plan_of("float32", native=True), models, [], told.append)
    assert len(told) == 1
    build_ops(plan_of("float32", native=True), [tiny("rwkv6"), tiny("mamba2")], [], told.append)
    assert set(built) == {*needed, "wkv6", "ssd"}
    build_ops(plan_of("float32", native=True), models, ["adamw", "muon"], told.append)
    assert ("orthogonal" in built) == in_cpp_here()
    build_ops(plan_of("float32", native=False), models, [], told.append)
    assert len(told) == 2 + in_cpp_here()
