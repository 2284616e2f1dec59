"""What of the execution plan follows from the sizes of a study's runs: threads, and whether training is compiled."""

from collections.abc import Callable

from assay.model.plan import ExecutionConfig, available_cores, missing_compiler

SMALL_PARAMETERS = 16_000_000
"""Up to this size two runs with one thread each get further in an hour than one run with two threads."""

WORTH_COMPILING_FLOPS = 1e13
"""From so many training FLOPs of the shortest run on, a minute of two cores, even an eighth (the smallest gain in
docs/performance.md) is more over five seeds than compiling an arm once and loading it in every run."""


def threads_at_once(asked: ExecutionConfig, device: str, largest_parameters: int, runs: int) -> int:
    """Torch threads of every run of a study that begins with so many runs, of models up to this size.

    As asked; else one where models are small and there are at least as many runs as cores; else all cores.
    """
    cores = available_cores()
    if asked.threads is not None:
        return asked.threads
    return 1 if device == "cpu" and largest_parameters <= SMALL_PARAMETERS and runs >= cores else cores


def compiles_at_once(asked: ExecutionConfig, device: str, least_flops: float, tell: Callable[[str], None]) -> bool:
    """Whether `auto` compiles the runs of a study whose shortest takes `least_flops` to train; a line says so."""
    if asked.compile != "auto" or least_flops < WORTH_COMPILING_FLOPS:
        return False
    runs = f"runs of at least {least_flops:.1e} FLOPs (limit {WORTH_COMPILING_FLOPS:.0e})"
    if missing := missing_compiler(device):
        tell(f"execution.compile: {missing}; it would repay {runs}")
        return False
    tell(f"execution.compile: on for {runs}; execution.compile=false turns it off")
    return True
