"""Compiles the objective before the first step, with the compiler's results kept on disk; without it where it fails."""

import os
from collections.abc import Mapping

import torch

from assay.cache import cache_folder
from assay.model.plan import ops_of
from assay.ops.native.matmul import compiler_options, prepare_products
from assay.ops.native.processor import types_here
from assay.ops.opaque import prepare_native
from assay.training.objective import Objective
from assay.training.step import MicroBatch

ONE_GRAPH = "one graph"
WITH_NATIVE = "one graph with ops in C++"
UNCOMPILED = "no"

DISTINCT_GRAPHS = 64
"""Graphs of one function that torch keeps; with its own limit of 8, the ninth model would run uncompiled, unsaid."""


def compile_objective(objective: Objective, part: MicroBatch, *others: MicroBatch) -> str:
    """Compile `objective` for the shape of `part`; the result is ONE_GRAPH or WITH_NATIVE where ops of the graph run in
    C++, or says in words what it is instead.

    It is tried on `part`, forward and backward, and on `others`, which may have other shapes, each with a graph of its
    own; the gradients are dropped. Where the compiler fails the objective
    stays as it was; where it breaks the graph the number of graphs and the first reason are given. Shapes are fixed,
    so that a resumed run has the graph that an uninterrupted one has.
    """
    keep_compiled_code()
    import torch._dynamo.utils as compiler

    compiler.counters.clear()
    whole = _prepare_ops(objective)
    objective.train()
    objective.compile(dynamic=False, options=compiler_options())
    try:
        with torch._dynamo.config.patch(recompile_limit=DISTINCT_GRAPHS, fail_on_recompile_limit_hit=True):
            for one in (part, *others):
                outcome = objective(*one)
                sum(outcome.auxiliary.values(), outcome.nats).backward()
    except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
        objective.uncompile()
        return f"{UNCOMPILED}: {_first_line(getattr(error, 'inner_exception', error))}"
    finally:
        objective.zero_grad(set_to_none=True)
    graphs, breaks = compiler.counters["stats"]["unique_graphs"], compiler.counters["graph_break"]
    if not graphs:  # the compiler may leave code alone without an error
        objective.uncompile()
        return f"{UNCOMPILED}: {_first_line(next(iter(breaks), 'the compiler left all of it alone'))}"
    return f"{graphs} graphs: {_first_line(next(iter(breaks)))}" if breaks else whole


def _prepare_ops(objective: Objective) -> str:
    """Build the C++ forms of the ops that the objective calls; what a graph of all of it is then called."""
    if torch.device(objective.plan.device).type != "cpu" or not types_here():
        return ONE_GRAPH
    refused = prepare_native(op.name for op in ops_of(objective.model))
    if why := prepare_products():
        refused["matmul"] = why
    reasons = [f"{', '.join(names)} in Python, {why}" for why, names in _by_value(refused).items()]
    return f"{ONE_GRAPH} but {'; '.join(reasons)}" if reasons else WITH_NATIVE


def _by_value(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault(why, []).append(name)
    return names


def shortfall(label: str, compiled: str) -> str | None:
    """The line for a run that was to be compiled, where it is not one graph or some op has no C++ form here."""
    if compiled in (ONE_GRAPH, WITH_NATIVE):
        return None
    if compiled.startswith(ONE_GRAPH):
        return f"execution.compile: {label} ran in {compiled}"
    how, _, why = compiled.partition(": ")
    return f"execution.compile: {label} ran {'uncompiled' if how == UNCOMPILED else f'in {how}'} ({why or 'untried'})"


def forget_compiled_code() -> None:
    """Drop the graphs of earlier models from memory: they count against a limit on graphs of one function."""
    torch._dynamo.reset()


def keep_compiled_code() -> None:
    """Let torch keep what it compiles in assay's cache, for other runs and workers; not where the user says where.

    Torch's own place is a folder of /tmp that others could have made first.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))


def _first_line(reason: object) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(reason).__name__
