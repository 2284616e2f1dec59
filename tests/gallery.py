"""The mutant gallery: small plain-PyTorch language models with one planted defect each, and their sound twins."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

import gallery_decoding as decoding
import gallery_drift as drift
import gallery_labels as labels
import gallery_layers as layers
import gallery_memory as memory
import gallery_mixtures as mixtures
import gallery_models as models
import gallery_modes as modes
import gallery_normal as normal
import gallery_rules as rules
import gallery_scores as scores
import gallery_shapes as shapes
from plain_models import (
    Block,
    D,
    Mixing,
    Rule,
    Small,
    V,
    Wrapped,
    causal_attention,
    delayed,
    running_mean,
    seeded,
    small,
)

MIXER = "blocks.1.mixer"

Score = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, T, W], ids [B, T]) -> nats, or log-probabilities."""


@dataclass(frozen=True)
class Mutant:
    """A model with one planted defect, and a twin with the same parameters that differs in the defect alone.

    `check` is the audit's check that must catch it, with a `where` that names `module` or a part of it. `options` and
    `twin_options` are keyword arguments of the audit; `length` is the number of tokens on which the defect shows.
    """

    name: str
    check: str
    make: Callable[[int], nn.Module]
    twin: Callable[[int], nn.Module]
    module: str
    length: int = 40
    options: Mapping[str, Any] = field(default_factory=dict)
    twin_options: Mapping[str, Any] = field(default_factory=dict)


def planted(
    name: str,
    build: Callable[[bool], nn.Module],
    check: str = "causality",
    module: str = MIXER,
    length: int = 40,
    options: Mapping[str, Any] | None = None,
) -> Mutant:
    """A mutant from `build(broken)`, both drawn from the same seed and audited with the same options."""
    return Mutant(
        name,
        check,
        make=lambda seed: seeded(lambda: build(True), seed),
        twin=lambda seed: seeded(lambda: build(False), seed),
        module=module,
        length=length,
        options=options or {},
        twin_options=options or {},
    )


def scored(name: str, kind: str, broken: Score, sound: Score, outputs: int = V) -> Mutant:
    """A sound model with `outputs` logits, whose score of the next token (`kind`: loss or log_prob) is wrong."""

    def make(seed: int) -> nn.Module:
        return seeded(lambda: Small([Block(Mixing(causal_attention), nn.LayerNorm(D))], outputs=outputs), seed)

    options = ({"vocab_size": V, kind: score} for score in (broken, sound))
    broken_options, sound_options = options
    return Mutant(name, "scoring", make, make, kind, options=broken_options, twin_options=sound_options)


def rule(name: str, broken: Rule, sound: Rule, check: str = "causality", length: int = 40) -> Mutant:
    """A mutant whose second mixer follows `broken` where the twin's follows `sound`."""
    return planted(name, lambda b: small(Mixing(broken if b else sound)), check, length=length)


def layer(
    name: str, make: Callable[[bool], nn.Module], check: str = "causality", module: str = MIXER, length: int = 40
) -> Mutant:
    """A mutant whose second mixer is `make(True)` where the twin's is `make(False)`."""
    return planted(name, lambda b: small(make(b)), check, module, length)


def norm(name: str, make: Callable[[bool], nn.Module], check: str = "causality") -> Mutant:
    """A mutant whose second norm is `make(True)` where the twin's is `make(False)`."""
    return planted(name, lambda b: small(Mixing(causal_attention), make(b)), check, "blocks.1.norm")


def embedding(name: str, make: Callable[[bool], nn.Module], check: str = "causality") -> Mutant:
    """A mutant whose embedding is `make(True)` where the twin's is `make(False)`."""
    return planted(name, lambda b: small(Mixing(causal_attention), None, make(b)), check, "embedding")


def wrapped(name: str, broken: Rule, container: Callable[[Tensor], object]) -> Mutant:
    """A mutant whose logits come in a container, as in other libraries."""
    return planted(
        name,
        lambda b: Wrapped(small(Mixing(broken if b else causal_attention)), container),
        module=f"model.{MIXER}",
    )


def side_channel(broken: bool) -> nn.Module:
    """Two layers that pass information outside of the residual stream."""
    notes: dict[str, Tensor] = {}
    model = small(layers.NoteReader(notes, broken))
    model.blocks[0] = Block(layers.NoteWriter(notes, broken), nn.LayerNorm(D))
    return model


def initialised(broken: bool) -> nn.Module:
    """A model that draws its matrices anew, or (broken) every parameter, also those its layers had set."""
    return models.Initialised(Block(memory.OwnDecay(), nn.LayerNorm(D)), broken)


def fourier(broken: bool) -> Rule:
    """Convolution by Fourier transform without or with room for the tail."""
    return lambda x: rules.fourier_convolution(x, x.shape[1] * (1 if broken else 2))


def of_normal_size(name: str, broken: Rule, length: int) -> Mutant:
    """A mutant of more than a million parameters whose second mixer follows `broken` where the twin's is causal."""
    return planted(name, lambda b: normal.reading(broken if b else causal_attention), length=length)


GALLERY = [
    # a rule over time that reads ahead
    rule("final-state-read", rules.final_state_read, rules.own_state_read),
    rule("mask-off-by-one", rules.one_ahead, causal_attention),
    rule("bidirectional-layer", rules.everywhere, causal_attention),
    rule("block-causal-mask", rules.block_causal, causal_attention),
    rule("ahead-at-chunk-ends", rules.ahead_at_chunk_ends, causal_attention, length=70),
    rule("ahead-beyond-256", rules.ahead_beyond_256, causal_attention, length=260),
    rule("chunk-end-state", lambda x: rules.chunk_state(x, 0), lambda x: rules.chunk_state(x, 1)),
    rule("mean-over-sequence", rules.mean_over_sequence, running_mean),
    rule("absmax-over-tensor", rules.absmax_over_tensor, rules.absmax_over_token),
    rule("update-before-scoring", lambda x: rules.fast_weights(x, True), lambda x: rules.fast_weights(x, False)),
    rule("pooled-future-blocks", lambda x: rules.pooled_attention(x, True), lambda x: rules.pooled_attention(x, False)),
    rule("size-1e-5", rules.whisper, rules.echo),
    rule("circular-convolution", fourier(True), fourier(False)),
    rule("softmax-over-queries", lambda x: rules.masked_softmax(x, -2), lambda x: rules.masked_softmax(x, -1)),
    rule("cumsum-over-total", rules.share_of_total, rules.share_so_far),
    rule("sorted-over-time", rules.sorted_over_time, rules.greatest_so_far),
    rule("reversed-residual", rules.reversed_residual, rules.delayed_residual),
    rule("rolled-around", rules.rolled, delayed),
    planted(
        "behind-zero-projection", lambda b: small(Mixing(rules.one_ahead if b else causal_attention, zero_out=True))
    ),
    wrapped("bidirectional-in-an-object", rules.everywhere, lambda logits: SimpleNamespace(logits=logits, loss=None)),
    wrapped("mask-off-by-one-in-a-tuple", rules.one_ahead, lambda logits: (logits, None)),
    # a layer that reads ahead
    layer("symmetric-convolution", layers.SymmetricConvolution),
    layer("expert-choice-routing", layers.Experts),
    layer("only-in-training-mode", layers.OpenInTraining),
    layer("backward-gru", layers.BackwardGRU),
    layer("last-token-chooses", layers.LastTokenChooses),
    layer("only-without-gradients", layers.OnlyWithoutGradients),
    layer("only-at-multiples-of-64", layers.FastPath, length=128),
    layer("through-numpy", layers.ThroughNumpy),
    norm("norm-over-time", layers.NormOverTime),
    embedding("only-at-a-special-id", models.NextTokenMarker),
    embedding("target-inside-the-key", models.HashedBigram),
    embedding("length-of-the-whole-run", models.RunLength),
    embedding("count-in-the-whole-sequence", models.CountOfToken),
    planted("in-place-on-the-stream", lambda b: small(layers.InPlace(b), nn.Identity())),
    planted("side-channel", side_channel),
    planted("cross-layer-state-carry", models.CarryingModel, module="blocks.1"),
    planted("llama-without-a-mask", models.llama, module="model.layers.0.self_attn"),
    embedding("count-of-an-id", lambda b: modes.CountOfAnId(b, V)),
    rule("ahead-at-hundreds", rules.ahead_at_hundreds, causal_attention, length=104),
    layer("only-with-gradients-in-training", modes.OnlyWithGradients),
    layer("dropped-by-the-whole", modes.DropsByTheWhole),
    layer("trained-mask", modes.TrainedMask),
    layer("only-in-narrow-numbers", modes.InNarrowNumbers),
    layer("behind-a-shut-gate", modes.BehindAShutGate),
    # of normal size: chunks of any length
    *(of_normal_size(f"ahead-at-ends-of-{c}", normal.at_ends(c), 2 * c) for c in (36, 160, 201)),
    of_normal_size("ahead-at-beginnings-of-45", normal.at_beginnings(45), 92),
    of_normal_size("ahead-to-ends-of-160", normal.to_ends(160), 160),
    planted(
        "next-id-at-ends-of-56",
        lambda b: normal.normal(Mixing(causal_attention), normal.Pairs(56, b)),
        module="embedding",
        length=112,
    ),
    # contents
    embedding("ahead-at-line-feeds", normal.AheadAtLineFeeds),
    embedding("ahead-to-the-separator", normal.ToTheSeparator),
    # labels that move logits
    planted("labels-in-the-input", labels.Targets, "labels", ""),
    planted("labels-in-training", labels.NextTokens, "labels", ""),
    # a model that takes some lengths alone
    planted(
        "takes-multiples-of-24",
        lambda b: shapes.AtLengths(b, lambda tokens: tokens % 24 == 0),
        module=f"model.{MIXER}",
        length=48,
    ),
    planted(
        "takes-96-alone", lambda b: shapes.AtLengths(b, lambda tokens: tokens == 96), module=f"model.{MIXER}", length=96
    ),
    # the length of the sequence
    planted("capacity-by-length", lambda b: normal.normal(normal.CapacityByLength(b)), "length"),
    planted("rotation-beyond-declared-length", normal.DeclaresItsLength, "length", length=80),
    layer("only-at-37-tokens", lambda b: modes.AtOneLength(b, 37), "length"),
    embedding("position-scaled-by-length", models.ScaledPositions, "length"),
    embedding("positions-from-the-right", models.PositionsFromTheRight, "length"),
    rule("scores-scaled-by-length", lambda x: rules.sharpened(x, True), lambda x: rules.sharpened(x, False), "length"),
    layer("rotation-scaled-by-length", layers.DynamicRotation, "length", length=80),
    # rows, and calls
    layer("rows-for-time", memory.RowsForTime, "isolation"),
    layer("capacity-over-the-batch", memory.Capacity, "isolation"),
    layer("memory-of-the-last-call", memory.MemoryOfLastCall, "isolation"),
    layer("memory-in-a-closure", memory.MemoryInAClosure, "isolation"),
    layer("cache-by-shape", memory.CacheByShape, "isolation"),
    layer("buffer-moved-in-evaluation", memory.RunningBuffer, "isolation"),
    rule("rows-mixed", rules.across_rows, rules.own_value, "isolation"),
    rule("key-bank-of-the-batch", rules.bank_of_batch, rules.bank_of_row, "isolation"),
    layer("rows-mixed-by-four", lambda b: modes.InBatchesOf(b, 4), "isolation"),
    layer("rows-mixed-by-eight", lambda b: modes.InBatchesOf(b, 8), "isolation"),
    layer("mean-of-tokens-in-training", modes.MeanOfTokensInTraining, "isolation"),
    layer("memory-of-the-class", modes.MemoryOfTheClass, "isolation"),
    layer("balanced-before-routing", lambda b: drift.Balanced(b, rate=0.03 * b)),
    layer("scheduled-by-token-values", drift.Scheduled, "isolation"),
    planted(
        "packed-documents-leak",
        models.PackingModel,
        "isolation",
        "mixers.1",
        options={"packing": models.SEPARATOR},
    ),
    # modes
    layer("dropout-left-on", memory.DropoutLeftOn, "determinism"),
    layer("no-finite-logit", modes.OnceInvalid, "determinism"),
    layer("hotter-in-training", memory.HotterInTraining, "modes"),
    norm("batch-norm", memory.TokensOverBatch, "modes"),
    # decoding
    planted("decoding-shift-off-by-one", lambda b: models.DecodingModel(kept_back=1 + b), "parity", ""),
    planted("decoding-position-off-by-one", lambda b: models.DecodingModel(position_offset=int(b)), "parity", ""),
    planted("prefill-drops-a-part-chunk", lambda b: models.DecodingModel(chunk=16 if b else 1), "parity", ""),
    planted(
        "window-cache-one-short",
        lambda b: decoding.WindowModel(kept=decoding.WINDOW - 1 - b),
        "parity",
        "",
        length=60,
    ),
    planted(
        "decoding-position-stops-at-64",
        lambda b: decoding.WindowModel(furthest=64 if b else 640),
        "parity",
        "",
        length=80,
    ),
    # parameters
    layer("dead-projection", memory.UnusedProjection, "dead_parameters", f"{MIXER}.extra"),
    layer("detached-projection", memory.DetachedProjection, "dead_parameters", f"{MIXER}.extra"),
    planted("initialisation-overwritten", initialised, "initialisation", "blocks.0.mixer", options={"fresh": True}),
    # scores
    scored("loss-not-shifted", "loss", scores.unshifted_loss, scores.next_token_loss),
    scored("loss-shifted-twice", "loss", scores.twice_shifted_loss, scores.next_token_loss),
    scored("mass-on-padded-ids", "log_prob", scores.over_all_outputs, scores.over_ids, outputs=64),
    scored("sum-of-sigmoids", "log_prob", scores.binary, scores.over_ids),
    scored("better-of-two-scores", "log_prob", scores.better_of_two, scores.mean_of_two),
    scored("nats-clamped", "loss", scores.clamped, scores.next_token_loss),
    scored("dearest-tenth-left-out", "loss", scores.trimmed, scores.next_token_loss),
    scored("hard-tokens-count-nothing", "loss", scores.without_hard, scores.next_token_loss),
    scored("real-id-ignored-as-padding", "loss", scores.ignoring(0), scores.ignoring(63), outputs=64),
    scored("labels-smoothed", "loss", scores.smoothed, scores.next_token_loss),
    scored("focal-loss", "loss", scores.focal, scores.half_as_sharp),
    scored("ids-weighted", "loss", scores.weighted, scores.next_token_loss),
    scored("divided-by-all-positions", "loss", scores.over_all_positions, scores.next_token_loss),
    scored("target-favoured-in-the-logits", "loss", scores.target_favoured, scores.next_token_loss),
    scored("last-chunk-left-out", "loss", scores.whole_chunks, scores.next_token_loss),
    scored("cache-of-the-whole-sequence", "log_prob", scores.cached(True), scores.cached(False)),
    # scores of a whole row
    scored("hashed-bigrams", "log_prob", mixtures.hashed(512), mixtures.hashed(0)),
    scored("hashed-trigrams", "log_prob", mixtures.hashed(512, order=3), mixtures.hashed(0, order=3)),
    scored("better-model-of-a-row", "log_prob", mixtures.better_of_a_row(9), mixtures.mixed(False)),
    scored("temperature-of-a-row", "log_prob", mixtures.fitted_temperature(9), mixtures.fitted_temperature(999)),
    scored("weight-fitted-to-a-row", "loss", *map(mixtures.mean_nats, (mixtures.mixed(True), mixtures.mixed(False)))),
    scored("only-ids-of-the-row", "log_prob", mixtures.only_seen(True), mixtures.only_seen(False)),
    scored("best-of-four-draws", "log_prob", mixtures.best_of_draws, mixtures.fitted_temperature(999)),
    scored("scaled-by-the-batch", "log_prob", mixtures.scaled_by_the_batch, mixtures.fitted_temperature(999)),
]
