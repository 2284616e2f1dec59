"""Makes the C++ forms of the ops of a model ready before its first step, and says in words which are not used."""

from collections.abc import Callable, Iterable, Mapping

from torch import nn

from assay.model.plan import ExecutionPlan, ops_of
from assay.ops import orthogonal
from assay.ops.native.build import build_missing
from assay.ops.native.matmul import prepare_products
from assay.ops.opaque import native_sources, prepare_native
from assay.training.config import OptimizerName

IN_CPP = "C++"
IN_PYTHON = "Python"


def build_ops(
    plan: ExecutionPlan,
    models: Iterable[nn.Module],
    optimizers: Iterable[OptimizerName],
    tell: Callable[[str], None],
) -> None:
    """Build what `models` and `optimizers` need and is missing, before processes start that would each build it; a line
    to `tell` first.

    The models may be without weights, on the meta device.
    """
    if plan.native:
        of_muon = [orthogonal.SOURCE] if "muon" in optimizers and orthogonal.in_cpp_here() else []
        build_missing([*native_sources(op.name for model in models for op in ops_of(model)), *of_muon], tell)


def prepare_ops(model: nn.Module, plan: ExecutionPlan, optimizer: OptimizerName = "adamw") -> str:
    """Build, load and check them; the result is IN_CPP, IN_PYTHON where the plan has none, or names those refused."""
    if not plan.native:
        return IN_PYTHON
    refused = prepare_native(op.name for op in ops_of(model))
    if plan.compile and (why := prepare_products()):
        refused["matmul"] = why
    if optimizer == "muon" and orthogonal.in_cpp_here() and (why := orthogonal.prepare_orthogonal()):
        refused[orthogonal.SOURCE] = why
    reasons = [f"{', '.join(sorted(names))} not, {why}" for why, names in _by_value(refused).items()]
    return f"{IN_CPP} but {'; '.join(reasons)}" if reasons else IN_CPP


def native_shortfall(label: str, ops: str) -> str | None:
    """The line for a run some of whose ops were to run in C++ and did not."""
    return None if ops in (IN_CPP, IN_PYTHON) else f"execution.native: ops of {label} ran in {ops}"


def _by_value(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault(why, []).append(name)
    return names
