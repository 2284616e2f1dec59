"""The execution plan is resolved from what the machine can do, and says in one line what it cannot."""

import shutil

import pytest
import torch

from assay.errors import RequestError
from assay.model import plan as planning
from assay.model.architecture import ARCHITECTURES, build_model
from assay.model.plan import ExecutionConfig, ExecutionPlan, memory_bytes, ops_of, resolve_plan
from assay.ops.execution import Execution, recorded_forms
from assay.ops.forms import OPS, Implementation, Needs, Op, register
from assay.training.environment import environment


def refuse(text: str) -> None:
    raise AssertionError(f"nothing to tell, but: {text}")


@pytest.fixture
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def _no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "amx_bf16": False})


@pytest.mark.usefixtures("_no_cuda")
@pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16", "bf16"])
def test_auto_is_bfloat16_where_a_processor_multiplies_in_it(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, unit: True})
    assert resolve_plan(ExecutionConfig(), refuse).precision == "bfloat16"
    assert resolve_plan(ExecutionConfig(precision="float32"), refuse).precision == "float32"


@pytest.mark.usefixtures("_no_cuda", "_no_units")
def test_auto_is_the_processor_in_float32() -> None:
    plan = resolve_plan(ExecutionConfig(), refuse)
    assert (plan.device, plan.precision, plan.compile) == ("cpu", "float32", False)
    assert plan.threads == planning.available_cores() >= 1
    assert (plan.op_form, plan.chunk_length) == ("chunked", 64)
    assert plan == resolve_plan(ExecutionConfig(), refuse), "from capabilities, so the same every time"


def test_auto_takes_a_cuda_device_and_its_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for supported, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        plan = resolve_plan(ExecutionConfig(), refuse)
        assert (plan.device, plan.precision) == ("cuda", precision)
    assert resolve_plan(ExecutionConfig(device="cuda:1"), refuse).device == "cuda:1"
    with pytest.raises(RequestError, match=r"^--device cuda:2: this torch sees 2 CUDA devices; --device cpu works$"):
        resolve_plan(ExecutionConfig(device="cuda:2"), refuse)


@pytest.mark.usefixtures("_no_cuda")
def test_what_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "cuda:0", "mps"):
        with pytest.raises(RequestError, match=rf"^--device {device}: [^\n]*--device cpu works$"):
            resolve_plan(ExecutionConfig(device=device), refuse)


@pytest.mark.parametrize("device", ["banana", "cuda:", "cuda:x", "CPU", "", "cpu:0\n"])
def test_a_device_that_does_not_exist_is_a_wrong_request(device: str) -> None:
    with pytest.raises(RequestError, match=r"device: .* given, should be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'"):
        ExecutionConfig.parse({"device": device})


def test_compiling_falls_back_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ExecutionConfig(device="cpu", compile=True)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/c++" if name == "c++" else None)
    assert resolve_plan(asked, refuse).compile
    told: list[str] = []
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not resolve_plan(asked, told.append).compile
    (line,) = told
    assert line == "execution.compile: no C++ compiler found; running without compiling"
    assert not resolve_plan(ExecutionConfig(device="cpu"), refuse).compile


def test_what_is_asked_is_obeyed() -> None:
    asked = ExecutionConfig(device="cpu", precision="bfloat16", op_form="loop", chunk_length=16, threads=3)
    plan = resolve_plan(asked, refuse)
    assert plan == ExecutionPlan(
        device="cpu",
        precision="bfloat16",
        compile=False,
        op_form="loop",
        chunk_length=16,
        threads=3,
        forms=dict.fromkeys(OPS.names(), "loop"),
    )
    assert environment(plan)["threads"] == "3"
    assert environment(plan)["precision"] == "bfloat16"


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_a_record_has_the_forms_that_run(name: str) -> None:
    """What the layers declare and the plan decides is what is seen to run; a plan from before `forms` says the same.

    An architecture whose recurrences are loops in its layers names no op, and none runs.
    """
    architecture = ARCHITECTURES.get(name)
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0)
    for form in ("loop", "chunked"):
        plan = resolve_plan(ExecutionConfig(device="cpu", op_form=form, threads=1), refuse)
        model.set_execution(plan.execution)
        with torch.no_grad(), recorded_forms() as ran:
            model(torch.zeros(1, 3, dtype=torch.long))
        assert plan.forms_of(model) == {op: [form] for op in ran}
        assert plan.model_copy(update={"forms": {}}).forms_of(model) == plan.forms_of(model)
        assert ran or name != "gpt1", "nothing was seen to run, though attention did"


@pytest.mark.usefixtures("_no_units")
def test_a_form_that_cannot_run_is_told_and_another_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(needs: Needs) -> dict[str, Implementation]:
        plain = Implementation(id)
        return {"loop": plain, "chunked": plain, "kernel": Implementation(id, needs)}

    ops = [
        Op("a", table(Needs(devices=("cuda",)))),
        Op("b", table(Needs(packages=("no_such_package",)))),
        Op("c", table(Needs(precisions=("float32",)))),
        Op("d", {"loop": Implementation(id)}),
        Op("e", table(Needs(devices=("cuda",)))),
    ]
    monkeypatch.setattr(planning, "OPS", ops)
    told: list[str] = []
    plan = resolve_plan(ExecutionConfig(device="cpu", op_form="kernel"), told.append)
    assert plan.forms == {"a": "chunked", "b": "chunked", "c": "kernel", "d": "loop", "e": "chunked"}
    assert told == [
        "execution.op_form: kernel cannot run here for a, e (needs cuda); running chunked",
        "execution.op_form: kernel cannot run here for b (needs no_such_package installed); running chunked",
        "execution.op_form: kernel cannot run here for d (has no such form); running loop",
    ]
    assert [op.planned(plan.execution) for op in ops] == list(plan.forms.values())
    told.clear()
    resolve_plan(ExecutionConfig(device="cpu", precision="bfloat16"), told.append)
    assert told == ["execution.op_form: chunked cannot run here for d (has no such form); running loop"]


def test_ops_of_a_model_are_those_of_all_its_layers() -> None:
    def ops(name: str, **given: object) -> list[str]:
        architecture = ARCHITECTURES.get(name)
        return [
            op.name
            for op in ops_of(build_model(architecture, architecture.config.parse({**architecture.tiny, **given}), 0))
        ]

    assert ops("twin", fusion="arbiter-gru") == ["convolution", "gru", "ssd", "wkv6"]
    assert ops("delta-net") == ["convolution", "delta_rule"]
    assert ops("delta-net", conv_width=0) == ["delta_rule"]


def test_autocast_and_bytes_follow_the_precision() -> None:
    a, b = torch.ones(2, 2), torch.ones(2, 2)
    for precision, dtype, size in (("float32", torch.float32, 4), ("bfloat16", torch.bfloat16, 2)):
        plan = resolve_plan(ExecutionConfig(device="cpu", precision=precision), refuse)
        with plan.autocast():
            assert (a @ b).dtype == dtype
        assert plan.bytes_per_element == size


def test_the_plan_reaches_every_layer() -> None:
    threads = torch.get_num_threads()
    architecture = ARCHITECTURES.get("gpt1")
    model = build_model(architecture, architecture.config.parse(architecture.tiny), 0)
    plan = resolve_plan(ExecutionConfig(device="cpu", op_form="loop", chunk_length=8, threads=1), refuse)
    try:
        plan.apply(model)
        layers = [layer for block in model.sequence_blocks() for layer in block.layers()]
        assert {layer.execution for layer in layers} == {Execution("loop", 8)}
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_memory_of_the_machine() -> None:
    memory = memory_bytes("cpu")
    assert memory is None or memory > 100_000_000


def test_an_op_that_a_plan_does_not_name_takes_a_form_that_runs_everywhere() -> None:
    kernel = Implementation(id, Needs(devices=("cuda",)))
    op = Op("new", {"kernel": kernel, "loop": Implementation(id)})
    assert op.planned(Execution("chunked")) == "loop"
    with pytest.raises(RequestError, match="op nowhere: every form needs something"):
        register(Op("nowhere", {"kernel": kernel}))
