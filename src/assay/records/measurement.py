"""What a measurement leaves beside a run or a study: its values, and as data how they are shown.

Tables and pages are drawn from `columns`, `figures` and `sentences` alone, so that they need no code of a measurement.
"""

from typing import Any, Literal, get_args

from pydantic import Field

from assay.records.versioned import Record, Versioned

Group = Literal["likelihood", "signals", "memory", "character", "speed", "benchmark"]
Scope = Literal["run", "study"]
Format = Literal["nats", "perplexity", "ratio", "number", "count", "percent", "bytes", "flops", "rate", "text"]
"""How a number is written: three decimals, four digits, 7.21x, 0.0204, 1.02M, 95%, 48.0 kB, 3.10 MFLOP, 12.3k tok/s."""
FOLDER = "measurements"
"""Of the results, in the folder of a run or of a study."""
GROUPS: tuple[Group, ...] = get_args(Group)


class Column(Record):
    """One number or one text, and the column that it stands in."""

    key: str
    """Its name among the columns of its measurement."""
    head: str
    second: str = ""
    """The second line of the head."""
    format: Format
    value: float | None = None
    text: str | None = None
    """In place of a number, where the format is text."""
    low: float | None = None
    high: float | None = None
    """The interval or range that the measurement itself gives."""
    better: Literal["lower", "higher"] | None = None
    floor: float | None = None
    """What chance, or a model without skill, reaches."""
    under: str = ""
    """The key of the column in whose cells this one is the second line; its own head is then the second line there."""
    usual: str = ""
    """Of a text: the one that goes without saying, so that where seeds differ the others are counted."""
    spread: Literal["interval", "range"] = "interval"
    """What stands below a mean over seeds: its Student interval, or the lowest and the highest."""
    arm: str = ""
    """Of a study's result: the label of the arm that it is of."""


class FigurePoint(Record):
    """One point of a figure; where `kind` is marks, `y` is drawn to the right and `x` is not used."""

    y: float
    x: float = 0.0
    low: float | None = None
    """Of the interval of y that the measurement itself gives."""
    high: float | None = None
    series: str = ""
    arm: str = ""
    """Of a study's result: the label of the arm that it is of."""


class MeasuredFigure(Record):
    """One figure of one run: over seeds its lines are means, its bands reach from the lowest to the highest.

    Where points have intervals, bands and bars are intervals over seeds, with one seed those of the points.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    """Of its files, so letters, digits, - and _ alone."""
    title: str
    caption: str
    kind: Literal["lines", "marks", "bars"]
    """Lines over x; for each arm a mark for each series; or for each named x and series a bar for each arm."""
    y_title: str
    y_scale: Literal["linear", "log"] = "linear"
    x_title: str = ""
    x_scale: Literal["linear", "log"] = "linear"
    x_names: dict[str, str] = {}
    """Whole numbers on the axis that have a name: {"0": "emb."}; with any, ticks are whole numbers."""
    x_rules: dict[str, float] = {}
    """Lines upwards across lines over x, by their names."""
    y_rules: dict[str, float] = {}
    """Lines to the right across lines over x, by their names."""
    spots: list[FigurePoint] = []
    """Places on lines over x that have a ring."""
    unit: str
    """Of y, as in nats_per_token."""
    series: list[str] = []
    """Drawn solid, dotted, then dashed; or by shape; or as rows."""
    series_called: str = "series"
    """What tells the series apart, as in "when"."""
    x_called: str = "x"
    """What x is, as in "depth": a column of the figure's data."""
    points: list[FigurePoint]


class Measured(Record):
    """What was measured."""

    label: str
    """Of the run; empty for a study."""
    seed: int | None = None
    spec_digest: str = ""
    """That of the run's spec; empty where a model has none."""
    weights_sha256: str = ""
    """Of the file of the weights; empty where no trained weights were read, or an older run did not say."""
    quick: bool = False
    """Whether by the smaller protocol of `--quick`, of a measurement that has one."""
    at: list[str] = []
    """Which weights it was asked of: initial, trained; empty where an older result does not say."""
    runs: dict[str, str] = {}
    """Of a study: "LABEL-seedN" -> spec digest of every run that the result rests on."""


class Code(Record):
    """Whose code measured: assay's with its version, or a plug-in's or package's with the digest of its source."""

    kind: Literal["built-in", "package", "plug-in", "caller", "older record"]
    name: str
    digest: str | None = None


class MeasurementResult(Versioned):
    """measurements/NAME.json beside a run or a study."""

    measurement: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    """Of its file too."""
    measurement_version: int
    """Of the measurement: its values mean something else, or are other numbers, in another version."""
    question: str
    unit: str
    group: Group
    scope: Scope
    measured: Measured
    code: Code
    values: dict[str, Any]
    """The record of the measurement, as JSON has it."""
    columns: list[Column] = []
    figures: list[MeasuredFigure] = []
    sentences: list[str] = []
    timed: bool = False
    """Whether the values are of a clock, so that measuring again gives others; older results do not say."""

    @property
    def order(self) -> tuple[int, str]:
        """Where it stands among others: by group, then by name."""
        return GROUPS.index(self.group), self.measurement
