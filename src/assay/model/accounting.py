"""Parameters by group, FLOPs per token and state bytes of a model; groups are checked to add up to the total."""

from collections import Counter

from torch import nn

from assay.layers.mixer import ExecutedFlops, SequenceLayer, state_tensors
from assay.model.lm import LanguageModel
from assay.records import Flops, Parameters


def count_parameters(model: LanguageModel) -> Parameters:
    """Parameters by group. Groups that do not add up to the model's total are an AssertionError: a bug in assay."""
    embedding = model.embedding
    tables = sum(p.numel() for p in (embedding.tokens, embedding.positions) if p is not None)
    blocks = model.sequence_blocks()
    mixers = sum(_size(block.mixer) for block in blocks)
    channel_mixers = sum(_size(block.channel_mixer) for block in blocks)
    norms = sum(_size(block.mixer_norm) + _size(block.channel_mixer_norm) for block in blocks)
    groups = {
        "embedding": tables,
        "mixers": mixers,
        "channel_mixers": channel_mixers,
        "norms": norms + _size(model.norm) + _size(embedding.norm),
        "head": 0 if model.untied_head is None else model.untied_head.numel(),
    }
    total = sum(p.numel() for p in model.parameters())
    if sum(groups.values()) != total:
        raise AssertionError(f"parameter groups {groups} do not add up to the model's {total}")
    inside = total - tables - groups["head"]
    return Parameters(
        total=total,
        embedding=tables,
        non_embedding=inside,
        blocks_and_head=inside + model.head_weight.numel(),
        groups=groups,
    )


def count_flops(model: LanguageModel, context: int) -> Flops:
    """FLOPs per token: each layer's documented formula plus 2 V D for the head; training counts three times forward."""
    layers = sum(layer.flops_per_token(context) for block in model.sequence_blocks() for layer in block.layers())
    forward = layers + 2 * model.head_weight.numel()
    executed = executed_flops(model, context)
    if executed is None:
        return Flops(forward=forward, training=3 * forward)
    return Flops(
        forward=forward,
        training=3 * forward,
        executed=executed.counted / context,
        uncounted={name: count / context for name, count in executed.uncounted.items()},
    )


def without_flops(model: LanguageModel) -> list[str]:
    """The classes of layers that keep a state but inherit SequenceLayer's FLOPs, which know of matrices alone."""
    layers = [layer for block in model.sequence_blocks() for layer in block.layers()]
    inherited = [layer for layer in layers if type(layer).flops_per_token is SequenceLayer.flops_per_token]
    return sorted({type(layer).__name__ for layer in inherited if [*state_tensors(layer.initial_state(1))]})


def executed_flops(model: LanguageModel, tokens: int) -> ExecutedFlops | None:
    """Forward FLOPs of the forms that run, on one sequence of `tokens` tokens; None where a layer declares none."""
    counted, uncounted = 2 * model.head_weight.numel() * tokens, Counter[str]()
    for block in model.sequence_blocks():
        for layer in block.layers():
            flops = layer.executed_flops(tokens)
            if flops is None:
                return None
            counted += flops.counted
            uncounted.update({name: count for name, count in flops.uncounted.items() if count})
    return ExecutedFlops(counted, dict(uncounted))


def count_state_bytes(model: LanguageModel, context: int, bytes_per_element: int = 4) -> int:
    """Bytes one sequence's state takes after `context` tokens, exactly what `prefill` returns."""
    layers = [layer for block in model.sequence_blocks() for layer in block.layers()]
    return sum(layer.state_bytes(context, bytes_per_element) for layer in layers)


def _size(module: nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())
