"""How many bits about earlier and later tokens a model holds in a form that a linear probe reads."""

from collections.abc import Sequence

from assay.analysis.intervals.texts import said_of
from assay.evaluation.information import InformationProtocol, Informed, information
from assay.evaluation.measurement import Given, Measurement, Moment, Reader, register
from assay.evaluation.sampling import Sampled, sampled
from assay.records import Column, FigurePoint, Interval, MeasuredFigure, Record

WHOLE = InformationProtocol(
    windows=256,
    tokens=1_024,
    places=32,
    classes=256,
    dimensions=256,
    blocks=4,
    distances=(-64, -16, -8, -4, -2, -1, 0, 1, 2, 4),
)
QUICK = InformationProtocol(
    windows=80, tokens=128, places=16, classes=32, dimensions=64, blocks=2, distances=(-4, 0, 1)
)
READ_TOKENS = 1_000_000
"""Of held-out text, from which windows are drawn."""
BACK = -4
"""The distance that the table shows of what came before."""


class AboutToken(Record):
    """The token at a distance from a place: 0 is the last one read, -4 four before it, 1 the next."""

    distance: int
    entropy_bits: float
    """Of its class, by the classes' frequencies."""
    token: Interval | None
    """Bits that the last token read says of it; None at distance 0."""
    own: Interval | None
    """Bits of the model's own prediction; of the next token alone."""
    samples: int


class Reading(Record):
    """Bits that a probe reads about the token at a distance."""

    what: str
    """stream, the residual stream after a block; or state, its recurrent state."""
    block: int
    size: int
    """How many numbers that is, before it is made narrow."""
    distance: int
    bits: Interval
    shuffled: float | None
    """The same with classes dealt out at random, what chance gives; of the last block alone."""


class InformationProfile(Record):
    """All probes of one model."""

    about: list[AboutToken]
    readings: list[Reading]
    over: str
    """What the intervals are over: sources or windows."""

    def best(self, what: str, distance: int) -> Reading | None:
        """The block where the probe reads most."""
        found = [of for of in self.readings if (of.what, of.distance) == (what, distance)]
        return max(found, key=lambda of: of.bits.mean, default=None)

    def token(self, distance: int) -> AboutToken | None:
        """What is known of the token at a distance without the model."""
        return next((of for of in self.about if of.distance == distance), None)


class Information(Record):
    """Of the untrained and of the trained weights; None where there are none, or for what is said in `lacks`."""

    lacks: str | None
    classes: int
    """At most: the most frequent tokens, and all others as one."""
    dimensions: int
    """Of what a probe reads, at most."""
    initial: InformationProfile | None
    trained: InformationProfile | None


class MeasureInformation(Measurement[Information]):
    """Linear probes of stream and state."""

    name = "information"
    question = (
        "How many bits about earlier and later tokens does a linear probe read from the model's stream and state?"
    )
    unit = "bits"
    group = "character"
    needs = frozenset({"initial", "trained"})
    needs_all = False
    record = Information
    version = 3  # intervals are also over what the floors were counted on
    quick = (
        f"{QUICK.windows} windows of at most {QUICK.tokens} tokens, {QUICK.blocks} blocks, {QUICK.classes} classes, "
        f"{QUICK.dimensions} dimensions, distances {', '.join(map(str, QUICK.distances))}"
    )

    def measure(self, given: Given, readers: Sequence[Reader]) -> Information:
        protocol = QUICK if given.quick else WHOLE
        sample = _sample(given, protocol)
        profiles: dict[Moment, InformationProfile] = {}
        lacks = None
        for moment in given.moments:
            found = information(given.model(moment), sample, given.plan, protocol, tell=given.tell)
            if isinstance(found, str):
                lacks = found
            else:
                profiles[moment] = as_profile(found)
        return Information(
            lacks=lacks,
            classes=protocol.classes,
            dimensions=protocol.dimensions,
            initial=profiles.get("initial"),
            trained=profiles.get("trained"),
        )

    def columns(self, values: Information) -> list[Column]:
        profile = values.trained or values.initial
        shown = [("next", "stream", 1, "of the next"), ("kept", "stream", BACK, f"of {-BACK} before")]
        shown.append(("in_state", "state", BACK, f"of {-BACK} before, in state"))
        columns = []
        for key, what, distance, second in shown:
            best = None if profile is None else profile.best(what, distance)
            about = None if profile is None else profile.token(distance)
            columns.append(
                Column(
                    key=key,
                    head="bits read",
                    second=second,
                    format="number",
                    value=None if best is None else best.bits.mean,
                    low=None if best is None else best.bits.low,
                    high=None if best is None else best.bits.high,
                    floor=None if about is None or about.token is None else about.token.mean,
                )
            )
        return columns

    def figures(self, values: Information) -> list[MeasuredFigure]:
        profile = values.trained or values.initial
        if profile is None:
            return []
        curves = {"token": [(of.distance, of.token.mean) for of in profile.about if of.token is not None]}
        for what in ("stream", "state"):
            best = [profile.best(what, of.distance) for of in profile.about]
            curves[what] = [(of.distance, of.bits.mean) for of in best if of is not None]
        curves = {name: points for name, points in curves.items() if points}
        return [
            MeasuredFigure(
                name="information",
                title="Bits that a linear probe reads, by distance",
                caption="About the token at each distance from the last one read (0), held out, in the block where it "
                "reads most; 'token' is what the last token read says alone.",
                kind="lines",
                x_title="distance of the token",
                x_called="distance",
                y_title="bits",
                unit="bits",
                series=list(curves),
                series_called="what",
                points=[FigurePoint(x=x, y=y, series=name) for name, points in curves.items() for x, y in points],
            )
        ]

    def sentences(self, values: Information) -> list[str]:
        profile = values.trained or values.initial
        if profile is None:
            return [f"What its stream and state say was not measured: {values.lacks}."]
        lines = [line for distance in (BACK, 1) for line in _said(profile, values.initial, distance)]
        if all(reading.what == "stream" for reading in profile.readings):
            lines.append("It has no recurrent state in the blocks that were probed: its stream alone was.")
        return [*lines, *said_of(profile.over, self.name)]


def as_profile(found: Informed) -> InformationProfile:
    """The numbers of `found`."""
    about = [
        AboutToken(distance=of.distance, entropy_bits=of.entropy, token=of.token, own=of.own, samples=of.samples)
        for of in found.about
    ]
    readings = [
        Reading(what=of.what, block=of.block, size=of.size, distance=of.distance, bits=of.bits, shuffled=of.shuffled)
        for of in found.read
    ]
    return InformationProfile(about=about, readings=readings, over=found.drawn.over)


def _sample(given: Given, protocol: InformationProtocol) -> Sampled:
    windows = given.held_out
    if given.recut is not None:
        windows = given.recut(windows.inputs.shape[1], READ_TOKENS)
    return sampled(windows, 0, protocol.windows, protocol.tokens, fewest=protocol.windows)


def _said(profile: InformationProfile, initial: InformationProfile | None, distance: int) -> list[str]:
    about = profile.token(distance)
    if about is None or about.token is None:
        return []
    what = "the next token" if distance == 1 else f"the token {-distance} before"
    parts = []
    for name in ("stream", "state"):
        best = profile.best(name, distance)
        if best is None:
            continue
        before = None if initial is None or initial is profile else initial.best(name, distance)
        untrained = "" if before is None else f", untrained {before.bits.mean:.2f}"
        parts.append(f"{_in_words(best.bits)} from the {name} of block {best.block}{untrained}")
    own = "" if about.own is None else f"; the model's own prediction has {_in_words(about.own)}"
    return [
        f"Of {about.entropy_bits:.2f} bits about {what} a linear probe reads {' and '.join(parts)}; the last token "
        f"alone says {about.token.mean:.2f}{own}."
    ]


def _in_words(bits: Interval) -> str:
    ends = "" if bits.low is None else f" ({bits.low:.2f} to {bits.high:.2f})"
    return f"{bits.mean:.2f}{ends}"


register(MeasureInformation())
