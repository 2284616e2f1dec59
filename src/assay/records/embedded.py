"""What records of runs and studies held before measurements had files of their own, as results of today.

Frozen: it says how those values were shown, whatever the measurements of today show.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from assay.records.measurement import (
    Code,
    Column,
    FigurePoint,
    Format,
    Group,
    Measured,
    MeasuredFigure,
    MeasurementResult,
)

CODE = Code(kind="older record", name="an older record")
RECALL_FIELDS = ("recall_nats", "recall_tokens", "other_nats")
ASKED: dict[str, tuple[str, str, Group]] = {
    "likelihood": ("How well does the model predict text that it has not seen?", "nats per token", "likelihood"),
    "signals": ("How does the residual stream grow with depth?", "standard deviation", "signals"),
    "recall": (
        "How well does the model predict tokens that it can look up in its own context?",
        "nats per token",
        "memory",
    ),
    "output_health": (
        "Does the output distribution fit the text, or is it overconfident?",
        "nats per token",
        "character",
    ),
    "speed": ("How many tokens a second does each arm train on, all taking turns?", "tokens per second", "speed"),
}
"""Question, unit and group of each."""
SPEED_SENTENCES = ("Speed is not to be trusted", "Speeds were not measured alike")
"""How the sentences of a headline began that came from speeds."""


def results_of_run(values: Mapping[str, Any]) -> Iterator[MeasurementResult]:
    """The results that a run's record of version 1 or 2 held."""
    measured = Measured(
        label=values.get("label") or values["architecture"],
        seed=values["seed"],
        spec_digest=values.get("spec_digest", ""),
    )
    for split in ("test", "validation"):
        if values.get(split) is not None:
            yield _likelihood(measured, split, values[split])
            yield _recall(measured, split, values[split])
    if values.get("signals_initial") is not None:
        yield _signals(measured, values["signals_initial"], values.get("signals_trained"))
    if values.get("output_health") is not None:
        yield _output_health(measured, values["output_health"])


def results_of_study(values: Mapping[str, Any]) -> Iterator[MeasurementResult]:
    """The results that a study's record of version 2 held: the speed of its arms."""
    arms = {arm["label"]: arm["speed"] for arm in values["arms"] if arm.get("speed") is not None}
    if arms:
        sentences = [line for line in values["headline"] if line.startswith(SPEED_SENTENCES)]
        columns = [_speed_column(label, speed) for label, speed in arms.items()]
        yield _result(Measured(label=""), "speed", {"arms": arms}, columns, [], sentences)


def columns_of_arm(arm: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an arm of a study's record of version 1 or 2 held, as the columns of an arm of today."""
    seeds = len(arm["seeds"]) - arm["diverged"]
    with_embedding, without = arm["growth_with_embedding"], arm["growth_without_embedding"]
    columns = [
        ("signals", Column(key="growth", head="growth", format="ratio", value=without)),
        ("signals", _under("growth", "growth_with_embedding", "w/ embedding", "ratio", with_embedding)),
        ("signals", Column(key="verdict", head="signal", format="text", text=arm["signal_verdict"])),
        ("output_health", Column(key="verdict", head="output", format="text", text=arm["output_verdict"])),
    ]
    if arm.get("speed") is not None:
        columns.append(("speed", _speed_column(arm["label"], arm["speed"])))
    return [
        {**column.model_dump(), "measurement": name, "seeds": 0 if name == "speed" else seeds}
        for name, column in columns
    ]


def measured_by(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The measurements that a study's record of version 1 or 2 is about."""
    with_speed = any(arm.get("speed") is not None for arm in values["arms"])
    return [
        {"name": name, "version": 1, "question": question, "unit": unit, "group": group}
        | {"scope": "study" if name == "speed" else "run", "code": CODE.model_dump()}
        for name, (question, unit, group) in ASKED.items()
        if name != "speed" or with_speed
    ]


def _result(
    measured: Measured,
    name: str,
    values: dict[str, Any],
    columns: list[Column],
    figures: list[MeasuredFigure],
    sentences: list[str] | None = None,
) -> MeasurementResult:
    question, unit, group = ASKED[name]
    return MeasurementResult(
        measurement=name,
        measurement_version=1,
        question=question,
        unit=unit,
        group=group,
        scope="study" if name == "speed" else "run",
        timed=name == "speed",
        measured=measured,
        code=CODE,
        values=values,
        columns=columns,
        figures=figures,
        sentences=sentences or [],
    )


def _under(above: str, key: str, head: str, format_: Format, value: float | None) -> Column:
    return Column(key=key, head=head, format=format_, value=value, under=above)


def _likelihood(measured: Measured, split: str, scores: Mapping[str, Any]) -> MeasurementResult:
    values = {"split": split, **{name: value for name, value in scores.items() if name not in RECALL_FIELDS}}
    values.setdefault("document_sources", None)
    columns = [
        Column(key="nats_per_token", head="nats/token", format="nats", value=scores["nats_per_token"], better="lower"),
        Column(key="perplexity", head="perplexity", format="perplexity", value=scores["perplexity"], better="lower"),
        Column(key="bits_per_byte", head="bits/byte", format="nats", value=scores["bits_per_byte"], better="lower"),
    ]
    edges = scores["position_edges"]
    points = [
        FigurePoint(x=(low + high) / 2, y=nats)
        for low, high, nats in zip(edges, edges[1:], scores["nats_by_position"], strict=False)
    ]
    figure = MeasuredFigure(
        name="position",
        title=f"{split.capitalize()} nats by position in the context",
        caption="A model that uses its context falls from left to right; where a line is flat, more context did not "
        "help. The band reaches from the lowest seed to the highest.",
        kind="lines",
        x_title="position in the context (tokens)",
        x_called="position",
        y_title="nats per token",
        unit="nats_per_token",
        points=points,
    )
    return _result(measured, "likelihood", values, columns, [figure])


def _recall(measured: Measured, split: str, scores: Mapping[str, Any]) -> MeasurementResult:
    values = {"split": split, **{name: scores[name] for name in RECALL_FIELDS}}
    recall, other = scores["recall_nats"], scores["other_nats"]
    columns = [
        Column(key="recall", head="recall", format="nats", value=recall, better="lower"),
        _under("recall", "other", "other tokens", "nats", other),
    ]
    kinds = {"recall tokens": recall, "other tokens": other}
    figure = MeasuredFigure(
        name="recall",
        title="Recall tokens and other tokens",
        caption="Recall tokens complete a bigram that stands earlier in the same context (Arora et al. 2023): a model "
        "that can look things up scores low on them. Bars reach from the lowest seed to the highest.",
        kind="marks",
        y_title=f"{split} nats per token",
        unit="nats_per_token",
        series=list(kinds),
        series_called="kind",
        points=[FigurePoint(y=nats, series=kind) for kind, nats in kinds.items() if nats is not None],
    )
    return _result(measured, "recall", values, columns, [figure])


def _signals(measured: Measured, initial: Mapping[str, Any], trained: Mapping[str, Any] | None) -> MeasurementResult:
    shown = trained or {}
    columns = [
        Column(key="growth", head="growth", format="ratio", value=shown.get("growth_without_embedding")),
        _under("growth", "growth_with_embedding", "w/ embedding", "ratio", shown.get("growth_with_embedding")),
        Column(
            key="verdict", head="signal", format="text", text=shown.get("verdict_without_embedding"), usual="NEUTRAL"
        ),
        Column(
            key="initial_verdict",
            head="untrained",
            format="text",
            text=initial["verdict_without_embedding"],
            usual="NEUTRAL",
            under="verdict",
        ),
    ]
    moments = {"trained": trained, "initial": initial}
    figure = MeasuredFigure(
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
            for depth, std in enumerate(profile["std"] if profile else [])
            if float(std) > 0
        ],
    )
    values = {"initial": initial, "trained": trained}
    return _result(measured, "signals", values, columns, [figure])


def _output_health(measured: Measured, health: Mapping[str, Any]) -> MeasurementResult:
    values = {name: value for name, value in health.items() if name != "document_000_verdict"}
    values["oldest_rule_verdict"] = health["document_000_verdict"]
    columns = [
        Column(key="verdict", head="output", format="text", text=health["verdict"], usual="HEALTHY"),
        _under("verdict", "excess", "excess nats", "nats", health["loss_minus_entropy_nats"]),
    ]
    return _result(measured, "output_health", values, columns, [])


def _speed_column(label: str, speed: Mapping[str, Any]) -> Column:
    """The column of one arm's speed."""
    return Column(
        key="speed",
        head="speed",
        second="range",
        format="rate",
        value=speed["tokens_per_second"],
        low=speed["low"],
        high=speed["high"],
        better="higher",
        arm=label,
    )
