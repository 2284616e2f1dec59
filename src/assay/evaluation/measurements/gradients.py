"""How gradients flow: their size in each layer, what many batches agree in, and the steps that they make."""

import math
import re
from collections.abc import Sequence

from assay.evaluation.inside.gradient_profile import EXPLODING, VANISHING, Balance, GradientProfile
from assay.evaluation.inside.shared import QUICK_GRADIENT_WINDOWS, gradients_of
from assay.evaluation.measurement import MOMENTS, Given, Measurement, Reader, register
from assay.records import Column, FigurePoint, MeasuredFigure, Record


class Gradients(Record):
    """Of the untrained and of the trained weights; None where there are none."""

    initial: GradientProfile | None
    trained: GradientProfile | None


class MeasureGradients(Measurement[Gradients]):
    """Gradients of single validation windows, without dropout."""

    name = "gradients"
    question = "Do gradients reach every layer, at which size, and how much of them is noise?"
    unit = "norm"
    group = "character"
    needs = frozenset({"initial", "trained"})
    needs_all = False
    record = Gradients
    version = 2  # intervals are over documents
    quick = f"at most {QUICK_GRADIENT_WINDOWS} windows"

    def measure(self, given: Given, readers: Sequence[Reader]) -> Gradients:
        initial, trained = (gradients_of(given, moment) if moment in given.models else None for moment in MOMENTS)
        return Gradients(initial=initial, trained=trained)

    def columns(self, values: Gradients) -> list[Column]:
        profile = values.trained or values.initial
        ratio = None if profile is None or _one_block(profile) else profile.first_to_last
        worst = _worst(profile)
        return [
            Column(
                key="verdict",
                head="gradients",
                format="text",
                text=None if profile is None else profile.verdict,
                usual="HEALTHY",
            ),
            Column(
                key="first_to_last",
                spread="range",
                head="first/last",
                format="ratio",
                value=ratio.mean if ratio else None,
                low=ratio.low if ratio else None,
                high=ratio.high if ratio else None,
                under="verdict",
            ),
            Column(
                key="noise_scale",
                spread="range",
                head="noise scale",
                second="tokens",
                format="count",
                value=None if profile is None else profile.noise_scale_tokens,
            ),
            Column(
                key="balance",
                head="paths'",
                second="balance",
                format="text",
                text=None if worst is None else worst.verdict,
                usual="BALANCED",
            ),
        ]

    def figures(self, values: Gradients) -> list[MeasuredFigure]:
        profile = values.trained or values.initial
        if profile is None:
            return []
        blocks = _by_block(profile)
        return [
            MeasuredFigure(
                name="gradients",
                title="Gradient by block",
                caption="Norm of the gradient of one window, a mean over windows, of mixers and channel mixers.",
                kind="lines",
                x_title="block",
                x_called="block",
                x_names={str(block): str(block) for block in sorted({block for block, _, _ in blocks})},
                y_title="norm (log scale)",
                y_scale="log",
                unit="norm",
                series=["mixer", "channel mixer"],
                series_called="part",
                points=[FigurePoint(x=block, y=norm, series=part) for block, part, norm in blocks if norm > 0],
            )
        ]

    def sentences(self, values: Gradients) -> list[str]:
        profile, when = (values.trained, "trained") if values.trained is not None else (values.initial, "untrained")
        if profile is None:
            return []
        scale = profile.noise_scale_tokens
        noise = (
            "over the batches that were read they are not told from noise"
            if scale is None
            else f"a batch of {scale:,.0f} tokens would have as much noise as signal"
        )
        flow = (
            f"the first block's are {profile.first_to_last.mean:.3g} times the last one's (limits {VANISHING:g} and "
            f"{EXPLODING:g})"
        )
        if _one_block(profile):
            flow = "there is one block, so that first and last are the same"
        if not profile.finite:
            flow, noise = "they are not finite", "nothing can be said of their noise"
        lines = [f"Gradients of the {when} model are {profile.verdict}: {flow}; {noise}."]
        worst = _worst(profile)
        if worst is not None:
            lines.append(
                f"In block {worst.block} the gradient of {worst.first} is {worst.ratio.mean:.3g} times that of "
                f"{worst.second}, the farthest from 1 of all blocks: {worst.verdict}."
            )
        return lines


def _one_block(profile: GradientProfile) -> bool:
    return len({block for block, _, _ in _by_block(profile)}) < 2


def _worst(profile: GradientProfile | None) -> Balance | None:
    """The one farthest from 1."""
    if profile is None or not profile.balances:
        return None
    return max(
        profile.balances, key=lambda of: abs(math.log(of.ratio.mean)) if 0 < of.ratio.mean < math.inf else math.inf
    )


def _by_block(profile: GradientProfile) -> list[tuple[int, str, float]]:
    found = []
    for of in profile.groups:
        match = re.fullmatch(r"block (\d+) ((?:channel )?mixer)", of.group)
        if match is not None:
            found.append((int(match[1]), match[2], of.norm.mean))
    return found


register(MeasureGradients())
