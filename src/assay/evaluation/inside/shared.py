"""States and gradients of a model that is measured, read once for all measurements that ask for them."""

from assay.evaluation.inside.gradient import TokenBatch
from assay.evaluation.inside.gradient_profile import GradientProfile, measure_gradients
from assay.evaluation.inside.sequences import fullest, fullest_rows
from assay.evaluation.inside.state_profile import StateProfile, measure_states
from assay.evaluation.measurement import Given, Moment

GRADIENT_WINDOWS, QUICK_GRADIENT_WINDOWS = 16, 8
QUICK_STATE_WINDOWS = 4
"""At most; by the whole protocol as many as `evaluation.signal_windows` says."""


def states_of(given: Given, moment: Moment) -> StateProfile:
    """The states of these weights on validation windows of as many documents as there are."""

    def read() -> StateProfile:
        most = given.evaluation.signal_windows
        sequences = fullest(given.validation, min(most, QUICK_STATE_WINDOWS) if given.quick else most)
        return measure_states(given.model(moment), sequences, given.plan, given.tell)

    return given.once(f"states, {moment}", read)


def gradients_of(given: Given, moment: Moment) -> GradientProfile:
    """The gradients of these weights on single validation windows of as many documents as there are."""

    def read() -> GradientProfile:
        windows = given.validation
        rows, length = fullest_rows(windows, QUICK_GRADIENT_WINDOWS if given.quick else GRADIENT_WINDOWS)
        batches = [TokenBatch(windows.inputs[[row], :length], windows.targets[[row], :length]) for row in rows]
        document = windows.document[rows]
        return measure_gradients(given.model(moment), batches, given.plan, given.protocol, document, given.tell)

    return given.once(f"gradients, {moment}", read)
