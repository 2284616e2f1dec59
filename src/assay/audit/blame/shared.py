"""Names what two sequences that are decoded at once have in common in their states."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from assay.audit.blame.attributes import Contents, changed_attributes, named_tensors
from assay.audit.blame.tracer import leaves_of
from assay.audit.decoding.decoders import Decoder


def shared_state(model: nn.Module, decoder: Decoder, one: Tensor, other: Tensor, lengths: Sequence[int]) -> str | None:
    """The tensor that the states after the first pieces of two sequences share, by its name on the model if it has one.

    Where they share none: what decoding changes on the model. `one` and `other` are ids [B, T].
    """
    before = Contents(model)
    states = []
    for ids in (one, other):
        decoding: Iterator[tuple[int, Tensor, object]] = decoder.states(model, ids, lengths)
        states.append(leaves_of(next(decoding)[2]))
    known = {tensor.untyped_storage().data_ptr(): name for name, tensor in named_tensors(model)}
    first, second = ({leaf.untyped_storage().data_ptr(): path for path, leaf in state.items()} for state in states)
    common = [known.get(place, f"the state{first[place]}") for place in first if place in second]
    changed = changed_attributes(model, before)
    return next(iter([*common, *changed]), None)
