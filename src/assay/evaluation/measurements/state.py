"""What a model carries from token to token: how large and how full its state is, how long it lasts, what it is of."""

from collections.abc import Sequence

import numpy as np

from assay.evaluation.inside.shared import QUICK_STATE_WINDOWS, states_of
from assay.evaluation.inside.state_profile import StateProfile
from assay.evaluation.measurement import MOMENTS, Given, Measurement, Reader, register
from assay.records import Column, FigurePoint, MeasuredFigure, Record


class States(Record):
    """Of the untrained and of the trained weights; None where there are none."""

    initial: StateProfile | None
    trained: StateProfile | None


class MeasureState(Measurement[States]):
    """Every recurrent tensor of every layer, looked at by reading in segments; and where attention looks."""

    name = "state"
    question = "What does the model carry from token to token, how full is it, and how long does it last?"
    unit = "tokens"
    group = "character"
    needs = frozenset({"initial", "trained"})
    needs_all = False
    record = States
    version = 3  # the interval of variety is corrected for skewness
    quick = f"at most {QUICK_STATE_WINDOWS} windows"

    def measure(self, given: Given, readers: Sequence[Reader]) -> States:
        initial, trained = (states_of(given, moment) if moment in given.models else None for moment in MOMENTS)
        return States(initial=initial, trained=trained)

    def columns(self, values: States) -> list[Column]:
        profile = values.trained or values.initial
        life = profile and profile.half_life
        interval, full, variety = (
            (None, None, None) if profile is None else (profile.half_life_interval, profile.fullness, profile.variety)
        )
        return [
            Column(
                key="half_life",
                spread="range",
                head="half-life",
                format="number",
                value=life.median if life else None,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
            ),
            Column(key="no_half_life", head="tokens", format="text", text=_no_half_life(profile), under="half_life"),
            Column(
                key="fullness",
                head="state",
                second="fullness",
                format="percent",
                value=full.mean if full else None,
                low=full.low if full else None,
                high=full.high if full else None,
            ),
            Column(
                key="variety",
                head="state",
                second="variety",
                format="ratio",
                value=variety.mean if variety else None,
                low=variety.low if variety else None,
                high=variety.high if variety else None,
            ),
            Column(
                key="attention_distance",
                head="attention",
                second="tokens back",
                format="number",
                value=None
                if profile is None or not profile.attention
                else float(np.mean([part.distance for part in profile.attention])),
            ),
        ]

    def figures(self, values: States) -> list[MeasuredFigure]:
        profile = values.trained or values.initial
        if profile is None or not profile.parts or not profile.lags:
            return []
        curves = {"median": "left", "tenth": "left_low", "nine tenths": "left_high"}
        life = profile.half_life
        return [
            MeasuredFigure(
                name="survival",
                title="What is left of a change to the state",
                caption="One state is changed after an eighth of the text, and the same text goes on. Over the "
                "channels of all blocks: median, tenth and nine tenths. A ring marks each seed's half-life, where the "
                "median channel has lost half. Decays that differ make no straight line.",
                kind="lines",
                x_title="tokens later",
                x_scale="log",
                x_called="tokens",
                y_title="share that is left",
                y_rules={"half": 0.5},
                spots=[] if life is None or life.median is None else [FigurePoint(x=life.median, y=0.5)],
                unit="share",
                series=list(curves),
                series_called="channels",
                points=[
                    FigurePoint(x=lag, y=float(np.mean([getattr(part, name)[at] for part in profile.parts])), series=of)
                    for of, name in curves.items()
                    for at, lag in enumerate(profile.lags)
                ],
            )
        ]

    def sentences(self, values: States) -> list[str]:
        profile, when = (values.trained, "trained") if values.trained is not None else (values.initial, "untrained")
        return [] if profile is None else _sentences(profile, when)


def _tokens(value: float | None, profile: StateProfile) -> str:
    return f"over {profile.lags[-1]:,}" if value is None else f"{value:,.3g}"


def _no_half_life(profile: StateProfile | None) -> str | None:
    """Why there is no half-life: a cache that does not fade, nothing that is carried, or longer than was looked at."""
    if profile is None:
        return None
    if profile.half_life is None:
        return "cache" if profile.attention and not profile.parts else "none"
    return None if profile.half_life.median is not None else f"over {profile.lags[-1]:,}"


def _sentences(profile: StateProfile, when: str) -> list[str]:
    lines = []
    if profile.half_life is not None:
        life = profile.half_life
        lines.append(
            f"Its {when} state forgets half of a change within {_tokens(life.median, profile)} tokens (median channel; "
            f"tenth {_tokens(life.low, profile)}, nine tenths {_tokens(life.high, profile)}; {life.longer:.0%} of the "
            f"channels last longer than the {profile.lags[-1]:,} tokens that were looked at)."
        )
    if profile.fullness is not None:
        lines.append(f"Its state matrices use {profile.fullness.mean:.0%} of the directions that random ones use.")
    if profile.attention:
        back, equal = (
            float(np.mean([getattr(part, f) for part in profile.attention])) for f in ("distance", "equal_distance")
        )
        lines.append(
            f"Attention looks {back:,.3g} tokens back on average (equal weights: {equal:,.3g}), out of "
            f"{sum(profile.bytes):,} bytes of state after {profile.tokens:,} tokens."
        )
    if not profile.parts and not profile.attention:
        lines.append("It has no recurrent state and no attention that can be looked at.")
    return lines


register(MeasureState())
