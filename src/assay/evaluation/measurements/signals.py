"""How the residual stream grows, by component: its spread with depth, what each layer adds, untrained and trained."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from assay.analysis.statistics import LEVEL
from assay.evaluation.inside.sequences import Sequences, fullest
from assay.evaluation.inside.stream import Moments, Stream, read_stream
from assay.evaluation.measurement import Given, Measurement, Reader, register
from assay.model.lm import LanguageModel
from assay.model.plan import ExecutionPlan
from assay.records import Column, FigurePoint, MeasuredFigure, Record

AMPLIFIER = 1.5
DAMPER = 0.5
"""The thresholds of document 000, the oldest of the research documents that this project grew out of, on the last
spread over the first."""

SignalVerdict = Literal["AMPLIFIER", "DAMPER", "NEUTRAL", "NOT FINITE"]


class Size(Record):
    """Of one tensor, over all positions and channels."""

    std: float
    rms: float


class BlockSignal(Record):
    """One block: what its layers add, and what becomes of the stream."""

    mixer: Size
    channel_mixer: Size | None
    """None where the block has none."""
    stream: Size
    """After the block."""
    growth: float
    """Std after the block over that before it."""
    cosine: float
    """Of the stream before the block and after it, a mean over positions."""
    mixer_gain: float
    """RMS of what the mixer returns over RMS of what it reads."""
    mixer_share: float
    """Of the last stream: <component, last> / <last, last> over all positions. All shares sum to 1."""
    channel_mixer_share: float | None
    fused: dict[str, Size] = {}
    """Of each layer inside a mixer that fuses several."""


class SignalProfile(Record):
    """The residual stream after the embedding and after each block, over all positions and channels."""

    std: list[float]
    rms: list[float]
    growth_with_embedding: float
    """Last std over the embedding's."""
    growth_without_embedding: float
    """Last std over block 0's."""
    verdict_with_embedding: SignalVerdict
    verdict_without_embedding: SignalVerdict
    logits_std: float | None = None
    """Over the vocabulary, root mean square over positions; None in results of version 1."""
    growth_low: float | None = None
    growth_high: float | None = None
    """The interval of the growth without the embedding over documents; None for one document, and before version 3."""
    embedding_share: float | None = None
    """Of the last stream; None in results before version 3."""
    blocks: list[BlockSignal] = []
    """Empty in results before version 3."""
    mixer_gain: float | None = None
    """The median over blocks."""
    gain_verdict: SignalVerdict | None = None
    """Of it, by the same thresholds."""

    @property
    def one_block(self) -> bool:
        """Whether there is but one, and nothing that grows from block to block."""
        return len(self.std) < 3

    @property
    def verdict(self) -> SignalVerdict | None:
        """What is shown: of the growth without the embedding, None for one block."""
        return None if self.one_block else self.verdict_without_embedding


class Signals(Record):
    """Of the untrained and of the trained weights; None where there are none."""

    initial: SignalProfile | None
    trained: SignalProfile | None


class MeasureSignals(Measurement[Signals]):
    """Standard deviation and RMS by depth and component, and the logits', over some validation windows."""

    name = "signals"
    version = 3  # windows of different documents; components
    question = "How does the residual stream grow with depth, and which part of each block makes it grow?"
    unit = "standard deviation"
    group = "character"
    needs = frozenset({"initial", "trained"})
    needs_all = False
    record = Signals

    def measure(self, given: Given, readers: Sequence[Reader]) -> Signals:
        sequences = fullest(given.validation, given.evaluation.signal_windows)
        initial, trained = (
            measure_profile(given.model(need), sequences, given.plan) if need in given.models else None
            for need in ("initial", "trained")
        )
        return Signals(initial=initial, trained=trained)

    def columns(self, values: Signals) -> list[Column]:
        trained, initial = values.trained, values.initial
        growth = None if trained is None or trained.one_block else trained.growth_without_embedding
        with_embedding = None if trained is None else trained.growth_with_embedding
        verdict = None if trained is None else trained.verdict
        before = None if initial is None else initial.verdict
        stream = None if initial is None else initial.std[-1]
        logits = None if initial is None else initial.logits_std
        last = trained or initial
        return [
            Column(key="growth", head="growth", format="ratio", value=growth),
            Column(
                key="growth_with_embedding", head="w/ embedding", format="ratio", value=with_embedding, under="growth"
            ),
            Column(key="verdict", head="signal", format="text", text=verdict, usual="NEUTRAL"),
            Column(
                key="initial_verdict", head="untrained", format="text", text=before, usual="NEUTRAL", under="verdict"
            ),
            Column(key="initial_stream", head="initial std", format="number", value=stream),
            Column(key="initial_logits", head="of logits", format="number", value=logits, under="initial_stream"),
            Column(
                key="mixer_gain",
                spread="range",
                head="mixer gain",
                format="ratio",
                value=None if last is None else last.mixer_gain,
            ),
            Column(
                key="gain_verdict",
                head="raw layer",
                format="text",
                text=None if last is None else last.gain_verdict,
                under="mixer_gain",
            ),
        ]

    def figures(self, values: Signals) -> list[MeasuredFigure]:
        moments = {"trained": values.trained, "initial": values.initial}
        return [
            MeasuredFigure(
                name="growth",
                title="Residual stream by depth",
                caption="Standard deviation over positions and channels on held-out text, at initialisation and after "
                "training. A straight rise on the log scale is growth by a constant factor a block.",
                kind="lines",
                x_title="blocks passed (emb.: after the embedding)",
                x_called="depth",
                x_names={"0": "emb."},
                y_title="standard deviation (log scale)",
                y_scale="log",
                unit="std",
                series=list(moments),
                series_called="when",
                points=[
                    FigurePoint(x=depth, y=std, series=when)
                    for when, profile in moments.items()
                    if profile is not None
                    for depth, std in enumerate(profile.std)
                    if std > 0
                ],
            ),
            *_components_figure(values.trained or values.initial),
        ]


def _components_figure(profile: SignalProfile | None) -> list[MeasuredFigure]:
    """RMS of the stream and of what mixers and channel mixers add, by block."""
    if profile is None or not profile.blocks:
        return []
    parts: dict[str, list[float | None]] = {
        "stream": [block.stream.rms for block in profile.blocks],
        "mixer": [block.mixer.rms for block in profile.blocks],
        "channel mixer": [None if block.channel_mixer is None else block.channel_mixer.rms for block in profile.blocks],
    }
    return [
        MeasuredFigure(
            name="components",
            title="What each layer adds to the residual stream",
            caption="RMS of the stream after each block, and of what its mixer and channel mixer add, of the trained "
            "weights where there are any.",
            kind="lines",
            x_title="block",
            x_called="block",
            x_names={str(index): str(index) for index in range(len(profile.blocks))},
            y_title="RMS (log scale)",
            y_scale="log",
            unit="rms",
            series=list(parts),
            series_called="part",
            points=[
                FigurePoint(x=index, y=rms, series=part)
                for part, of in parts.items()
                for index, rms in enumerate(of)
                if rms is not None and rms > 0
            ],
        )
    ]


def measure_profile(model: LanguageModel, sequences: Sequences, plan: ExecutionPlan) -> SignalProfile:
    """The profile over all positions and channels of `sequences`.

    Document 000 calls its ratio of standard deviations a variance; growth here is of standard deviations too, with
    the embedding (its number, which a tiny embedding inflates) and without. Logits are compared over the vocabulary, as
    a softmax does not see what all of them share.
    """
    stream = read_stream(model, sequences, plan)
    depths = [stream.moments["embedding"], *(stream.moments[f"{i}.out"] for i in range(len(model.blocks)))]
    std = [moments.std for moments in depths]
    with_embedding, without = _growth(std[0], std[-1]), _growth(std[1], std[-1])
    low, high = _growth_interval(depths[1], depths[-1], sequences)
    blocks = [_block(stream, index, std) for index in range(len(model.blocks))]
    gain = float(np.median([block.mixer_gain for block in blocks]))
    return SignalProfile(
        std=std,
        rms=[moments.rms for moments in depths],
        growth_with_embedding=with_embedding,
        growth_without_embedding=without,
        verdict_with_embedding=signal_verdict(with_embedding),
        verdict_without_embedding=signal_verdict(without),
        logits_std=stream.logits_std,
        growth_low=low,
        growth_high=high,
        embedding_share=stream.shares["embedding"],
        blocks=blocks,
        mixer_gain=gain,
        gain_verdict=signal_verdict(gain),
    )


def _block(stream: Stream, index: int, std: Sequence[float]) -> BlockSignal:
    at = stream.moments
    known = {"in", "mixer", "channel_mixer", "out"}
    inside = {site.partition(".")[2]: of for site, of in at.items() if site.partition(".")[0] == str(index)}
    channel = inside.get("channel_mixer")
    return BlockSignal(
        mixer=_size(inside["mixer"]),
        channel_mixer=None if channel is None else _size(channel),
        stream=_size(inside["out"]),
        growth=_growth(std[index], std[index + 1]),
        cosine=stream.cosines[index],
        mixer_gain=_growth(inside["in"].rms, inside["mixer"].rms),
        mixer_share=stream.shares[f"{index}.mixer"],
        channel_mixer_share=stream.shares.get(f"{index}.channel_mixer"),
        fused={name: _size(of) for name, of in inside.items() if name not in known},
    )


def signal_verdict(growth: float) -> SignalVerdict:
    """Document 000's names for a growth."""
    if math.isnan(growth):
        return "NOT FINITE"
    return "AMPLIFIER" if growth > AMPLIFIER else "DAMPER" if growth < DAMPER else "NEUTRAL"


def _size(moments: Moments) -> Size:
    return Size(std=moments.std, rms=moments.rms)


def _growth(first: float, last: float) -> float:
    if math.isnan(first) or math.isnan(last):
        return math.nan
    return last / first if first > 0 else math.inf if last > 0 else 1.0


def _growth_interval(first: Moments, last: Moments, sequences: Sequences) -> tuple[float | None, float | None]:
    """Of the ratio of both standard deviations: the jackknife of its logarithm, one document left out at a time."""
    first, last = (_by_document(moments, sequences.document) for moments in (first, last))
    n = len(first.numbers)
    if n < 2 or not (first.std > 0 and last.std > 0):
        return None, None
    without = (first.std_without_each(), last.std_without_each())
    if not all((of > 0).all() for of in without):
        return None, None
    logs = np.log(without[1]) - np.log(without[0])
    error = math.sqrt((n - 1) / n * float(np.square(logs - logs.mean()).sum()))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return tuple(last.std / first.std * math.exp(sign * half) for sign in (-1, 1))  # type: ignore[return-value]


def _by_document(moments: Moments, document: np.ndarray) -> Moments:
    _, number = np.unique(document, return_inverse=True)
    return Moments(*(np.bincount(number, weights=part) for part in moments))


register(MeasureSignals())
