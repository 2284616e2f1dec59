"""Compiles the objective before the first step, with the compiler's results kept on disk; without it where it fails."""

import os

import torch

from assay.cache import cache_folder
from assay.ops.native.matmul import compiler_options
from assay.training.objective import Objective
from assay.training.step import MicroBatch
from assay.training.version import sources_digest

ONE_GRAPH = "one graph"
UNCOMPILED = "no"

DISTINCT_GRAPHS = 64
"""Graphs of one function that torch keeps; with its own limit of 8, the ninth model would run uncompiled, unsaid."""


def compile_objective(objective: Objective, part: MicroBatch, *others: MicroBatch) -> str:
    """Compile `objective` for the shape of `part`; the result is ONE_GRAPH, or says in words what it is instead.

    It is tried on `part`, forward and backward, and on `others`, which may have other shapes, each with a graph of its
    own; the gradients are dropped. Where the compiler fails the objective
    stays as it was; where it breaks the graph the number of graphs and the first reason are given. Shapes are fixed,
    so that a resumed run has the graph that an uninterrupted one has.
    """
    keep_compiled_code()
    import torch._dynamo.utils as compiler

    compiler.counters.clear()
    objective.train()
    objective.compile(dynamic=False, options=compiler_options() if objective.plan.native else None)
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
    return f"{graphs} graphs: {_first_line(next(iter(breaks)))}" if breaks else ONE_GRAPH


def shortfall(label: str, compiled: str) -> str | None:
    """The line for a run that was to be compiled, where `compiled` is not ONE_GRAPH."""
    if compiled == ONE_GRAPH:
        return None
    how, _, why = compiled.partition(": ")
    return f"execution.compile: {label} ran {'uncompiled' if how == UNCOMPILED else f'in {how}'} ({why or 'untried'})"


def forget_compiled_code() -> None:
    """Drop the graphs of earlier models from memory: they count against a limit on graphs of one function."""
    torch._dynamo.reset()


def keep_compiled_code() -> None:
    """Let torch keep what it compiles in assay's cache, for other runs and workers; not where the user says where.

    A kept graph holds the shapes of what ops save for their gradients, and knows an op by its name alone: so every
    state of assay's sources has a folder of its own.
    Torch's own place is a folder of /tmp that others could have made first.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / f"compiled-{sources_digest()}"))


def _first_line(reason: object) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(reason).__name__
