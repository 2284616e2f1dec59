"""gate.html: a gate's verdict first, then what it rests on; its figures and their data beside it. No torch."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from assay.analysis.gate.budgets import budget_curve
from assay.analysis.wording import short
from assay.errors import RequestError
from assay.records import write_whole
from assay.records.gate import Beside, CandidateVerdict, GatePlan, GateRecord
from assay.report import quantities
from assay.report.drawing.figure import NARROW, Figure, write
from assay.report.drawing.ladder import COSTS, budget_figure, gain_figure, gate_colours, ladder_figure
from assay.report.gate_summary import summary
from assay.report.page import ROLES, Drawing, page_template
from assay.report.sheets import Field, Head, Sheet, leaves

PAGE, FOLDER = "gate.html", "report"
PER = {"flops": "per FLOP", "parameters": "per parameter", "seconds": "per second", "state_bytes": "per state byte"}
KINDS = {
    "pilot": "spread of the baseline over seeds",
    "tuning": "learning rates, one grid for all",
    "check": "the carried rate and its neighbours",
    "sanity": "short trainings before the size",
    "judged": "judged runs",
    "branches": "smaller budgets, branched from the judged runs",
    "recall": "the value of a key, learned and asked for (MQAR)",
    "statefulness": "a fact among other sentences, learned and asked for (needle)",
    "control": "the baseline on half the tokens",
}


def write_gate_page(record: GateRecord, plan: GatePlan | None, folder: Path) -> Path:
    """Write gate.html and report/ into `folder`; an interrupted call leaves the old ones. The same records give the
    same bytes."""
    per = record.rule.get("primary", {}).get("per", "flops")
    figures = {"gain": gain_figure(record, per), "ladder": ladder_figure(record, "flops")}
    others = {f"ladder-{cost}".replace("_", "-"): ladder_figure(record, cost) for cost in COSTS if cost != "flops"}
    along = {"budgets": budget_figure(record)}
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            drawings, more, at_budgets = (
                [_drawing(name, figure, new) for name, figure in of.items() if figure is not None]
                for of in (figures, others, along)
            )
            html = _render(record, plan, drawings, more, at_budgets)
            if (folder / FOLDER).exists():
                shutil.rmtree(folder / FOLDER)
            os.replace(new, folder / FOLDER)
            write_whole(folder / PAGE, html.encode())
    except OSError as error:
        raise RequestError(f"the report cannot be written to {folder}: {error.strerror}") from None
    return folder / PAGE


def _drawing(name: str, figure: Figure, folder: Path) -> Drawing:
    wide = write(figure, folder, name)[0].read_text(encoding="utf-8")
    one, other = (Markup(ROLES.sub("", svg)) for svg in (wide, figure.svg(NARROW)))
    return Drawing(name, figure.title, figure.caption, one, other)


def _render(
    record: GateRecord,
    plan: GatePlan | None,
    drawings: Sequence[Drawing],
    more: Sequence[Drawing],
    at_budgets: Sequence[Drawing],
) -> str:
    candidates = [verdict for verdict in record.verdicts if verdict.role == "candidate"]
    others = [verdict for verdict in record.verdicts if verdict.role != "candidate"]
    return page_template("gate.html").render(
        record=record,
        plan=plan,
        title=title(record),
        pair=title(record).rpartition(":")[0],
        candidates=[(verdict, summary(record, verdict, plan)) for verdict in candidates],
        others=others,
        facts=facts(record, plan),
        drawings=drawings,
        more=more,
        beside=_beside(record),
        at_budgets=at_budgets,
        budgets=_budgets(record),
        criteria=[(verdict, _criteria(verdict)) for verdict in candidates if verdict.criteria],
        marks=[(verdict, _marks(verdict)) for verdict in candidates if verdict.marks],
        gains=[(verdict, _gains(verdict)) for verdict in record.verdicts if verdict.gains],
        arms=_arms(record),
        stages=None if plan is None else _stages(plan),
        rule=list(leaves(record.rule)),
        protocol=[] if plan is None else list(leaves(plan.config)),
        digest=hashlib.sha256(record.content()).hexdigest(),
    )


def title(record: GateRecord) -> str:
    """ "mine against gpt1: GO"."""
    names = [verdict.label for verdict in record.verdicts if verdict.role == "candidate"]
    return f"{', '.join(names)} against {record.baseline}: {record.verdict}"


def facts(record: GateRecord, plan: GatePlan | None) -> list[str]:
    """By which rule and plan, each in a few words."""
    found = [f"rule {record.rule['name']}"]
    if record.arms:
        sizes = sorted({arm.size for arm in record.arms})
        seeds = max(len(arm.losses) for arm in record.arms)
        found += [f"sizes {', '.join(map(short, sizes))}", f"{seeds} seeds"]
    if plan is not None:
        hours = plan.seconds / 3600
        found.append(f"planned to take {hours:.1f} h" if hours > 1.5 else f"planned to take {60 * hours:.0f} min")
        found.append(f"plan {plan.digest[:12]}, written {plan.written[:16]}")
    return found


def _criteria(verdict: CandidateVerdict) -> Sheet:
    heads = [Head("criterion"), Head("state"), Head("what was found"), Head("what would close it")]
    rows = [
        [Field(one.name + (" (required)" if one.required else "")), Field(one.state),
         Field(one.text.partition(": ")[2] or one.text), Field(one.closing)]
        for one in verdict.criteria
    ]  # fmt: skip
    return Sheet(heads, rows)


def _marks(verdict: CandidateVerdict) -> Sheet:
    rows = [
        [
            Field(str(mark["name"])),
            Field("-" if mark["value"] is None else f"{mark['value']:.3g}"),
            Field(mark["grade"]),
        ]
        for mark in verdict.marks
    ]
    return Sheet([Head("metric"), Head("value", False), Head("mark")], rows)


def _gains(verdict: CandidateVerdict) -> Sheet:
    """A row a size, a column for each cost."""
    axes = list(dict.fromkeys(gain.per for gain in verdict.gains))
    texts = {(gain.size, gain.per): gain.text for gain in verdict.gains}
    sizes = sorted({gain.size for gain in verdict.gains})
    rows = [[Field(short(size)), *(Field(texts.get((size, per), "-")) for per in axes)] for size in sizes]
    return Sheet([Head("size"), *(Head(PER[per]) for per in axes)], rows)


def _beside(record: GateRecord) -> Sheet:
    """A row an arm and size; a column for each number that stands beside the losses."""
    colours = gate_colours(record)
    shown = [arm for arm in record.arms if arm.beside]
    names = list(dict.fromkeys((of.name, of.unit) for arm in shown for of in arm.beside))
    rows = []
    for arm in shown:
        of = {(one.name, one.unit): one for one in arm.beside}
        cells = [_beside_baseline(of[name]) if name in of else "-" for name in names]
        rows.append([Field(arm.label, colour=colours[arm.label]), Field(short(arm.size)), *map(Field, cells)])
    return Sheet([Head("arm"), Head("size", False), *(Head(f"{name}, {unit}") for name, unit in names)], rows)


def _beside_baseline(of: Beside) -> str:
    """ "2.104; -0.031 (-0.050 to -0.012)": the mean over seeds, and its difference from the baseline's."""
    mean = quantities.nats(of.over_seeds.mean)
    apart = of.against_baseline
    return mean if apart is None else f"{mean}; {quantities.with_ends(apart, signed=True)}"


def _budgets(record: GateRecord) -> Sheet:
    """A row for each arm, size and budget."""
    colours = gate_colours(record)
    heads = [
        Head("arm"), Head("size", False), Head("tokens", False), Head("of the whole", False), Head("nats/token"),
        Head(f"against {record.baseline}"),
    ]  # fmt: skip
    rows = [
        [
            Field(of.arm, colour=colours[of.arm]),
            Field(short(of.size)),
            Field(f"{of.tokens:,}"),
            Field(quantities.percent(round(of.share, 2))),
            Field("diverged" if of.over_seeds is None else quantities.with_ends(of.over_seeds)),
            Field("-" if of.against_baseline is None else quantities.with_ends(of.against_baseline, signed=True)),
        ]
        for of in budget_curve(record)
    ]
    return Sheet(heads, rows)


def _arms(record: GateRecord) -> Sheet:
    colours = gate_colours(record)
    heads = [
        Head("arm"), Head("size", False), Head("nats/token by seed"), Head("learning rate"), Head("FLOPs a run", False),
        Head("parameters", False), Head("minutes a run", False), Head("state", False),
    ]  # fmt: skip
    rows = [
        [
            Field(arm.label, colour=colours[arm.label]),
            Field(short(arm.size)),
            Field(" ".join(f"{loss:.4f}" for loss in arm.losses.values()) or "diverged"),
            Field("-" if arm.rate is None else f"{arm.rate:.3g}; found: {arm.rate_text}"),
            Field(quantities.flops(arm.flops)),
            Field(quantities.count(arm.parameters)),
            Field("-" if arm.seconds is None else f"{arm.seconds / 60:.1f}"),
            Field(quantities.bytes_(arm.state_bytes)),
        ]
        for arm in record.arms
    ]
    return Sheet(heads, rows)


def _stages(plan: GatePlan) -> Sheet:
    heads = [Head("stage"), Head("for"), Head("arms"), Head("runs", False), Head("tokens a run", False),
             Head("predicted", False)]  # fmt: skip
    rows = [
        [Field(stage.name), Field(KINDS[stage.kind]), Field(", ".join(stage.arms)), Field(str(stage.runs)),
         Field(f"{stage.tokens:,}"), Field(f"{stage.seconds / 60:.1f} min")]
        for stage in plan.stages
    ]  # fmt: skip
    return Sheet(heads, rows)
