"""The plain tables of the page: audits, measurements, batches, runs, additions; rows of fields, each with its looks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from assay.records import Addition, MeasuredRun, RunRecord, StudyRecord
from assay.records.samples import Samples
from assay.report import quantities
from assay.report.drawing.looks import looks


class Field(NamedTuple):
    """What stands in a cell."""

    text: str
    whole: str = ""
    """Of a hash: all its digits, where `text` are the first."""
    colour: str = ""
    """Of an arm."""


class Head(NamedTuple):
    """Of a column of a sheet."""

    text: str
    is_text: bool = True
    """Text stands to the left and is folded, numbers to the right."""


class Sheet(NamedTuple):
    """A table, every row as long as `heads`."""

    heads: Sequence[Head]
    rows: Sequence[Sequence[Field]]
    note: str = ""


def audits(study: StudyRecord) -> Sheet:
    """What each audit said."""
    look = looks(study)
    place = {arm.label: at for at, arm in enumerate(study.arms)}
    return Sheet(
        [Head("arm"), Head("audited"), Head("verdict"), Head("what was found")],
        [
            [
                Field(audit.label, colour=look[audit.label].colour if audit.label in look else ""),
                Field(audit.moment),
                Field("sound" if audit.sound else "UNSOUND"),
                Field(audit.summary),
            ]
            for audit in sorted(study.audits, key=lambda audit: place.get(audit.label, len(place)))
        ],
    )


def measured(study: StudyRecord) -> Sheet:
    """Every measurement with its question and whose code it was."""
    heads = [Head("measurement"), Head("question"), Head("unit"), Head("version", False), Head("measured by")]
    rows = [
        [
            Field(of.name),
            Field(of.question),
            Field(of.unit),
            Field(str(of.version)),
            Field(f"{of.code.name} {of.code.digest[:8]}" if of.code.digest else of.code.name, of.code.digest or ""),
        ]
        for of in study.measured
    ]
    return Sheet(heads, rows)


def samples(study: StudyRecord, written: Samples) -> list[tuple[Field, str]]:
    """What each arm wrote, in the order of the record; what no font has a character for is replaced."""

    def printable(text: str) -> str:
        return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)

    return [
        (Field(label, colour=colour), printable(written.texts[label]))
        for label, colour in _arms(study)
        if label in written.texts
    ]


def chains(study: StudyRecord, runs: Sequence[RunRecord]) -> Sheet:
    """The chain of batches of every run, and whether those of a seed are equal."""
    seeds = sorted({run.seed for run in runs})
    by_key = {(run.label, run.seed): run for run in runs}
    rows = []
    for label, look in _arms(study):
        of = [by_key.get((label, seed)) for seed in seeds]
        rows.append([Field(label, colour=look), *(Field("no run") if run is None else _chain(run) for run in of)])
    same = ["yes" if _equal(study, runs, seed) else "no" for seed in seeds]
    return Sheet([Head("arm"), *(Head(f"seed {seed}") for seed in seeds)], [*rows, [Field("equal"), *map(Field, same)]])


def _chain(run: RunRecord) -> Field:
    status = "" if run.status == "finished" else f" {run.status}"
    return Field(f"{run.data_chain[:12]}{status}", run.data_chain)


def _equal(study: StudyRecord, runs: Sequence[RunRecord], seed: int) -> bool:
    """Whether all finished runs of `seed` consumed the same batches, at each size."""
    sizes = {arm.label: arm.size for arm in study.arms}
    found: dict[int | None, set[str]] = {}
    for run in runs:
        if run.seed == seed and run.status == "finished":
            found.setdefault(sizes[run.label], set()).add(run.data_chain)
    return bool(found) and all(len(of) == 1 for of in found.values())


def runs(study: StudyRecord, of: Sequence[MeasuredRun]) -> Sheet:
    """A row a run; of what is seldom otherwise, a column only where some run is."""
    look = dict(_arms(study))
    heads = [
        Head("arm"), Head("seed", False), Head("spec"), Head("status"), Head("steps", False), Head("tokens", False),
        Head(f"{study.split} nats/token", False), Head("tokens/s while training", False), Head("op forms"),
        Head("architecture"), Head("replicate", False), Head("interruptions", False), Head("resumed elsewhere"),
    ]  # fmt: skip
    rows = [_run(study, one, look) for one in of]
    usual = {9: [one.record.label for one in of], 10: ["0"] * len(of), 11: ["0"] * len(of), 12: ["no"] * len(of)}
    out = [at for at, texts in usual.items() if [row[at].text for row in rows] == texts]
    said = [f"{heads[at].text} {'as the arm is called' if at == 9 else usual[at][0]}" for at in out if rows]
    return Sheet(
        [head for at, head in enumerate(heads) if at not in out],
        [[field for at, field in enumerate(row) if at not in out] for row in rows],
        f"Of all runs: {', '.join(said)}." if said else "",
    )


def _run(study: StudyRecord, measured_run: MeasuredRun, look: Mapping[str, str]) -> list[Field]:
    run, scores = measured_run.record, measured_run.likelihood(study.split)
    forms = "; ".join(f"{op}: {', '.join(names)}" for op, names in run.forms.items())
    return [
        Field(run.label, colour=look[run.label]),
        Field(str(run.seed)),
        Field(run.spec_digest[:8] or quantities.MISSING, run.spec_digest),
        Field(run.status),
        Field(f"{run.steps:,}"),
        Field(f"{run.tokens:,}"),
        Field(quantities.MISSING if scores is None else f"{scores.nats_per_token:.4f}"),
        Field(quantities.count(run.train_tokens_per_second)),
        Field(forms or quantities.MISSING),
        Field(run.architecture),
        Field(str(run.replicate)),
        Field(str(run.interruptions)),
        Field(run.chain_broken or "no"),
    ]


def added(study: StudyRecord) -> Sheet:
    """What was added when, and how often results had been shown before."""
    return Sheet([Head("when"), Head("results shown before"), Head("what")], list(map(_addition, study.added)))


def _addition(addition: Addition) -> list[Field]:
    what = [("arms", addition.arms), ("seeds", map(str, addition.seeds)), ("measurements", addition.measurements)]
    texts = [(name, ", ".join(of)) for name, of in what]
    shown = {0: "never", 1: "once"}.get(addition.looks, f"{addition.looks} times")
    return [Field(addition.when), Field(shown), Field("; ".join(f"{name} {text}" for name, text in texts if text))]


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Field]]:
    """("training.context", 256) for every leaf of nested mappings, those in lists too, as people read it."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            yield from leaves({str(index): item for index, item in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield prefix + key, Field(", ".join(map(_read, value)) or "none")
        else:
            text = _read(value)
            is_hash = len(text) == 64 and set(text) <= set("0123456789abcdef")
            yield prefix + key, Field(text[:12], text) if is_hash else Field(text)


def _read(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)


def _arms(study: StudyRecord) -> list[tuple[str, str]]:
    """Label and colour of every arm, in the order of the record."""
    look = looks(study)
    return [(arm.label, look[arm.label].colour) for arm in study.arms]
