"""Document 004's gate: do GroundThink's twin and its hybrid deserve to be scaled, against GPT-2 at equal size?

    .venv/bin/python experiments/v5_gate/run.py [--scale smoke|pocket|document] --corpus text:PATH

Both candidates and GPT-2 are tuned alike and climb one ladder; recall, statefulness and what text beyond the training
context is worth are measured beside it. The verdict is that of assay's rule, by intervals; the document's own decision,
its marks, graduation, red lines, fail triggers and requirements stand beside it with our numbers. `smoke` goes through
every stage in a few minutes of one core and tells nothing. `pocket` plans to 50 minutes on two cores. `document` has
the sizes 3.5M, 8M and 30M, and GPT-2 at 112M above them, the document's 125M.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from assay.analysis.efficiency import efficiencies
from assay.analysis.gate.evidence import gate_evidence
from assay.analysis.gate.judge import judge_gate
from assay.analysis.gate.rule import PointRule, read_rule
from assay.analysis.wording import short
from assay.api import gate
from assay.cli.progress import StudyProgress
from assay.errors import RequestError
from assay.model.accounting import count_parameters
from assay.model.architecture import ARCHITECTURES
from assay.model.sizing import build_on_meta
from assay.records import StudyRecord
from assay.records.gate import CandidateVerdict, GatePlan, GateRecord
from assay.records.inference import Inference
from assay.records.results import read_study_results

CANDIDATES, BASELINE, RULE = ["twin", "groundthink"], "gpt2", "groundthink-v5"
VOCABULARY = 50_257
DOCUMENT: dict[str, dict[str, Any]] = {
    "3.5M": {"n_layers": 3, "n_heads": 4, "d_model": 256, "says": 3_512_000},
    "8M": {"n_layers": 6, "n_heads": 6, "d_model": 384, "says": 8_112_000},
    "30M": {"n_layers": 12, "n_heads": 12, "d_model": 512, "says": 29_875_000},
    "125M": {"n_layers": 12, "n_heads": 12, "d_model": 768, "says": 124_000_000},
}
"""The document's GPT-2s, and how many parameters it says they have."""
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {"candidates": ["twin", "groundthink=groundthink:pattern=GS"], "sizes": [12_000, 24_000], "seeds": 2,
              "tokens_per_parameter": 0.4, "rates": [1e-3, 3e-3, 1e-2], "workers": 1,
              "training": {"batch_tokens": 512, "context": 64, "validation_tokens": 512},
              "evaluation": {"test_tokens": 1_024, "texts": ["manual"]}},
    "pocket": {"budget": "50m"},
    "document": {"sizes": [3_500_000, 8_000_000, 30_000_000], "seeds": 5},
}  # fmt: skip
ERRATA = [
    "Erratum 9: the document's compute-efficiency ratio divides a perplexity by a time, so that a worse model has "
    "more of it. Bits saved against the unigram floor per second stand beside it.",
    "Erratum 10: the document decides by point estimates, and takes standard deviations where standard errors belong. "
    "assay's rule decides by the interval of the gain over paired seeds.",
]


def counted(name: str) -> tuple[int, int]:
    """Parameters of one of the document's GPT-2s, all and without tables and head; 512 wide needs 8 heads, not 12."""
    of = {key: value for key, value in DOCUMENT[name].items() if key != "says"}
    if of["d_model"] % of["n_heads"]:
        of["n_heads"] = 8
    architecture = ARCHITECTURES.get(BASELINE)
    values = {**of, "vocab_size": VOCABULARY, "max_positions": 1_024, "heads": "tied"}
    found = count_parameters(build_on_meta(architecture, architecture.config.parse(values)))
    return found.total, found.non_embedding


def show_sizes(console: Console) -> dict[str, int]:
    """What the document calls its models, says they have, and what they have."""
    table = Table(title=f"The document's GPT-2 at {VOCABULARY:,} ids", box=None, title_justify="left")
    for head in ("called", "said", "counted", "without embeddings"):
        table.add_column(head, justify="left" if head == "called" else "right")
    totals = {}
    for name, of in DOCUMENT.items():
        total, inside = counted(name)
        totals[name] = total
        table.add_row(name, f"{of['says']:,}", f"{total:,}", f"{inside:,}")
    console.print(table)
    return totals


def show_document(verdict: CandidateVerdict, console: Console) -> None:
    """Our numbers beside the document's marks, then its decision and lists."""
    rule = read_rule(RULE)
    assert isinstance(rule, PointRule)
    table = Table(title=f"{verdict.label}: the document's marks", box=None, title_justify="left")
    for head in ("metric", "ours", "reaches", "good enough", "promising", "excellent"):
        table.add_column(head)
    for grade, mark in zip(rule.grades, verdict.marks, strict=False):
        ours = "-" if mark["value"] is None else f"{mark['value']:.3f}"
        limits = (grade.good_enough, grade.promising, grade.excellent)
        table.add_row(grade.name, ours, str(mark["grade"]), *(of.in_words() for of in limits))
    console.print(table)
    console.print(verdict.sentence)
    for line in verdict.reasons[1:]:
        if not line.startswith("caveat: "):
            console.print(f"  {line}")


def show_caveats(record: GateRecord, console: Console) -> None:
    """What must be known of the document's rule, whichever candidate it judges."""
    lines = [line for verdict in record.verdicts for line in verdict.reasons if line.startswith("caveat: ")]
    for line in dict.fromkeys(lines):
        console.print(line.replace("caveat: ", "Caveat: ", 1))


def show_ours(verdict: CandidateVerdict, console: Console) -> None:
    """The verdict by intervals with its criteria."""
    console.print(verdict.sentence)
    for one in verdict.criteria:
        console.print(f"  {one.state:5} {one.text}{'; ' + one.closing if one.closing else ''}")
    if verdict.closing:
        console.print(f"  {verdict.closing}")


def show_losses(record: GateRecord, console: Console) -> None:
    """The mean test loss of every arm at every size."""
    sizes = sorted({arm.size for arm in record.arms})
    losses = {(arm.label, arm.size): list(arm.losses.values()) for arm in record.arms}
    table = Table(title="Test nats per token", box=None, title_justify="left")
    for head in ("arm", *map(short, sizes)):
        table.add_column(head, justify="left" if head == "arm" else "right")
    for label in dict.fromkeys(arm.label for arm in record.arms):
        found = [losses.get((label, size)) for size in sizes]
        table.add_row(label, *("" if of is None else f"{fmean(of):.3f}" if of else "diverged" for of in found))
    console.print(table)


def efficiency_of(folder: Path) -> list[str]:
    """Bits saved per second of every arm at the largest size, and the document's ratio under its name."""
    studies = [path.parent for path in folder.glob("judged-*/study.json")]
    found = []
    for place in studies:
        for name, result in read_study_results(place).items():
            if name.startswith("inference"):
                study, values = StudyRecord.read(place / "study.json"), Inference.model_validate(result.values)
                found += [one.sentence() for one in efficiencies(study, values)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="pocket")
    parser.add_argument("--corpus", default="stdlib")
    parser.add_argument("--out", type=Path, help="folder of the gate")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    folder = options.out or Path("runs") / f"v5-gate-{options.scale}"
    console = Console(highlight=False)
    data = {"corpus": options.corpus}
    try:
        with StudyProgress(1_024) as progress:
            settings = {"candidates": CANDIDATES, **SCALES[options.scale]}
            ours = gate(against=BASELINE, out=folder, listener=progress, memory=True, data=data, **settings)
        plan = GatePlan.read(folder / "plan.json")
        theirs = judge_gate(gate_evidence(folder, plan), read_rule(RULE), plan, [], [])
    except RequestError as error:
        print(f"v5_gate: {error}", file=sys.stderr)
        return 2
    sizes = show_sizes(console)
    show_losses(ours, console)
    console.print(f"\nBy the document's rule ({RULE}), point estimates:", style="bold")
    for verdict in theirs.verdicts:
        show_document(verdict, console)
    show_caveats(theirs, console)
    console.print("\nBy assay's rule, intervals:", style="bold")
    for verdict in ours.verdicts:
        show_ours(verdict, console)
    console.print("\nEfficiency, and the plan beside what came:", style="bold")
    for line in [*efficiency_of(folder), *ERRATA, *ours.prediction]:
        console.print(line)
    console.print(f"Page: {folder / 'gate.html'}", soft_wrap=True)
    if options.scale == "smoke":
        console.print("This scale only shows that it runs: after a few steps with two seeds no verdict means anything.")
    if options.json:
        print(json.dumps({"sizes": sizes, "document": words(theirs), "ours": words(ours)}))
    return 0


def words(record: GateRecord) -> dict[str, str]:
    """Candidate -> GO, NO-GO or UNDECIDED."""
    return {verdict.label: verdict.verdict for verdict in record.verdicts}


if __name__ == "__main__":
    sys.exit(main())
